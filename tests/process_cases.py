"""What processes that work together compute: run as a program by each of them.

    MODELREPAIR_PROCESSES=3 python tests/process_cases.py FOLDER [EVENT]

The first writes into FOLDER. EVENT is what happens to the last process when half is done.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from modelrepair.base_training.train import train
from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.evaluation.gathering import gather
from modelrepair.gradients.products import matrix_product
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline import processes
from modelrepair.pipeline.artifacts import output_folder, write_tensors
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior.output_gradients import log_likelihood_slopes, summed_squares
from modelrepair.training.descent import Descent
from modelrepair.valuation.features import penultimate_features

COUNTS = 5, 53
"""So few examples that some processes have none of the batches, and so many that parts differ."""
BATCH = 8
SHAPE, CLASSES = (1, 28, 28), 10
CURVATURES: dict[str, dict[str, Any]] = {
    "diagonal": {},
    "ekfac": {},
    "kfac": {},
    "block": {"block_size": 40},
    "gram": {},
    "gram, in passes": {"memory": 2**12},
    "gram, mini-batches": {"minibatch": 3},
}


def examples(count: int) -> Examples:
    draw = np.random.default_rng(count)
    images = draw.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return Examples(images, draw.integers(0, CLASSES, count))


def passes(count: int) -> dict[str, Tensor]:
    """What has a value for each example, and sums over them, in float32."""
    seen = examples(count)
    model, moved = (
        TrainedModel(
            make_network("lenet5", SHAPE, CLASSES, seed=seed), Softmax(), batch_size=BATCH, device="cpu"
        )
        for seed in (0, 1)
    )
    direction = torch.linspace(-1, 1, len(model.parameter_vector))
    evidence = gather(
        base=model,
        repaired=moved,
        training=seen,
        tests=seen,
        class_names=[str(number) for number in range(CLASSES)],
        noisy_classes=[1],
        true_labels=seen.targets,
        is_corrupted=np.zeros(count, dtype=bool),
        causes=[0],
        roles=["query"] * count,
        parts=["discovery"] * count,
        course=pd.DataFrame({"round": [0]}),
    )
    return {
        "values/outputs": model.outputs(seen),
        "values/log-likelihoods": model.log_likelihoods(seen),
        "values/disbelief": model.disbelief(seen),
        "values/margins": model.margins(seen),
        "values/correct": model.correct(seen),
        "values/performance": torch.tensor(model.performance(seen)),
        "values/derivatives": model.directional_derivatives(seen, direction),
        "values/features": penultimate_features(model, seen),
        "values/known before": torch.tensor(evidence.before.training_log_likelihoods),
        "values/predicted after": torch.tensor(evidence.after.test_predictions),
        "sums/gradient": model.weighted_gradient(seen, np.linspace(-1, 2, count)),
        "sums/product": matrix_product("ggn", model, seen, direction.unsqueeze(1)),
        "sums/squares": summed_squares(model, seen, log_likelihood_slopes(model, seen)),
    }


def curvatures(count: int) -> dict[str, Tensor]:
    """Products and solutions of each curvature, and each example's influence on itself, in float64."""
    seen = examples(count)
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(784, 4), nn.Tanh(), nn.Linear(4, CLASSES)
    model = TrainedModel(nn.Sequential(*layers).double(), Softmax(), batch_size=BATCH, device="cpu")
    direction = torch.linspace(-1, 1, len(model.parameter_vector), dtype=model.dtype)
    found = {}
    for name, options in CURVATURES.items():
        fitted = fit_curvature(name.partition(",")[0], model, seen, **options).damped(1.0)
        found[f"{name}/product"], found[f"{name}/solution"] = (
            fitted.matvec(direction),
            fitted.solve(direction),
        )
        if options.get("minibatch", 1) == 1:
            found[f"{name}/self"] = fitted.self_influences(model, seen)
    return found


def trained() -> dict[str, Tensor]:
    """Training with batches in parts, of a network that normalises by them and draws numbers itself."""
    seen = examples(COUNTS[-1])
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(784, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, CLASSES)
    model = TrainedModel(nn.Sequential(*layers), Softmax(), batch_size=BATCH, device="cpu")
    course = train(
        model,
        seen,
        Descent(learning_rate=0.01, rounds=2),
        batch_size=24,
        seed=0,
        validation=examples(COUNTS[0]),
        margins="during",
        parts=4,
    )
    losses = torch.tensor([row["loss"] for row in course.trace[1:]])
    state = {f"trained/{name}": tensor for name, tensor in model.network.state_dict().items()}
    return {**state, "trained/margins": course.tensors["margins"], "trained/losses": losses}


def all_passes() -> dict[str, Tensor]:
    measured = {f"{count}/{name}": value for count in COUNTS for name, value in passes(count).items()}
    return {**measured, **trained()}


def all_curvatures() -> dict[str, Tensor]:
    return {f"{count}/{name}": value for count in COUNTS for name, value in curvatures(count).items()}


def expect_alike(found: dict[str, Tensor]) -> None:
    """Nothing if all processes have the same, to the byte."""
    digest = hashlib.sha256(
        b"".join(value.contiguous().numpy().tobytes() for value in found.values())
    ).hexdigest()
    if len(set(gather_object([digest]))) > 1:
        raise RepairError("processes have different results")


def happen(event: str) -> None:
    if event == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise RepairError("one input cannot be read: give another")


def main() -> None:
    torch.set_num_threads(1)
    folder, *events = sys.argv[1:]
    try:
        with processes.together():
            checkpoint = Checkpoint(Path(folder) / "scratch", "same")
            saved = checkpoint.load()
            if saved is None:
                halves = all_passes()
                expect_alike(halves)
                checkpoint.save(halves, {})
            else:
                halves = saved[0]
                print("resumed", processes.count())
            with output_folder(Path(folder) / "result") as result:
                if events and processes.number() == processes.count() - 1:
                    happen(events[0])
                write_tensors(result / "passes.safetensors", halves)
                write_tensors(result / "curvatures.safetensors", all_curvatures())
    except RepairError as error:
        sys.exit(f"cases: {error}")


if __name__ == "__main__":
    main()
