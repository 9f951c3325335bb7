"""Find the training examples that caused a model's failures, repair the model, and prove it.

The names below are the library's; each is imported when it is first used, so that programs without tensors do
not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Conditions": "training.conditions",
    "Delete": "treatment",
    "Descent": "training.descent",
    "ElasticWeightConsolidation": "posterior",
    "Examples": "models.examples",
    "FineTune": "treatment",
    "Investigation": "influence",
    "MeanField": "uncertainty.mean_field",
    "NaturalGradient": "posterior",
    "OnlineElasticWeightConsolidation": "posterior",
    "Oversight": "training.descent",
    "Patient": "treatment",
    "Proxy": "erasure",
    "RepairError": "errors",
    "Repair": "repairing.repair",
    "Retrain": "treatment",
    "Schedule": "training.schedule",
    "Sigmoid": "models.likelihood",
    "Softmax": "models.likelihood",
    "TrainedModel": "models.trained_model",
    "along": "erasure",
    "choose_epsilon": "erasure",
    "fit_curvature": "curvature",
    "influence_scores": "influence",
    "keep_freed_memory": "pipeline.allocation",
    "make_network": "networks",
    "repair": "repairing.repair",
    "select_causes": "selection",
    "train": "base_training.train",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'modelrepair' has no attribute {name!r}")
    return getattr(importlib.import_module(f"modelrepair.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
