"""What processes that work together compute: run as a program by each of them, and by one alone.

    MODELREPAIR_PROCESSES=3 python tests/process_cases.py FILE [EVENT]

The first writes FILE. EVENT is what happens to the last process in the middle of all.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import _run
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline import processes
from modelrepair.pipeline.artifacts import output_folder, write_tensors
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior.output_gradients import log_likelihood_slopes, summed_squares
from modelrepair.valuation.features import penultimate_features

COUNT, BATCH = 53, 8
CURVATURES = {
    "diagonal": {},
    "ekfac": {},
    "kfac": {},
    "block": {"block_size": 40},
    "gram": {},
    "gram, in passes": {"memory": 2**12},
    "gram, mini-batches": {"minibatch": 3},
}


def examples(count: int, dtype: type = np.uint8) -> Examples:
    draw = np.random.default_rng(count)
    images = draw.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    return Examples(images, draw.integers(0, 10, count))


def passes(model: TrainedModel, seen: Examples) -> dict[str, Tensor]:
    """Everything that has a value for each example, and sums over them."""
    direction = torch.linspace(-1, 1, len(model.parameter_vector), dtype=model.dtype)
    likelihoods, correct, predictions, probabilities = _run(model, seen, True)
    assert probabilities is not None
    return {
        "values/outputs": model.outputs(seen),
        "values/log-likelihoods": model.log_likelihoods(seen),
        "values/margins": model.margins(seen),
        "values/correct": model.correct(seen),
        "values/performance": torch.tensor(model.performance(seen)),
        "values/derivatives": model.directional_derivatives(seen, direction),
        "values/features": penultimate_features(model, seen),
        "values/evidence": torch.from_numpy(np.column_stack([likelihoods, correct, predictions, probabilities])),
        "sums/gradient": model.weighted_gradient(seen, np.linspace(-1, 2, len(seen))),
        "sums/squares": summed_squares(model, seen, log_likelihood_slopes(model, seen)),
    }


def curvatures(model: TrainedModel, seen: Examples) -> dict[str, Tensor]:
    """Products and solutions of each, and each example's influence on itself."""
    direction = torch.linspace(-1, 1, len(model.parameter_vector), dtype=model.dtype)
    found = {}
    for name, options in CURVATURES.items():
        fitted = fit_curvature(name.partition(",")[0], model, seen, **options).damped(0.1)
        found[f"curvature/{name}/product"] = fitted.matvec(direction)
        found[f"curvature/{name}/solution"] = fitted.solve(direction)
        if options.get("minibatch", 1) == 1:
            found[f"curvature/{name}/self"] = fitted.self_influences(model, seen)
    return found


def everything(event: str | None) -> dict[str, Tensor]:
    network = make_network("lenet5", (1, 28, 28), 10, seed=0)
    model = TrainedModel(network, Softmax(), batch_size=BATCH, device="cpu")
    found = {}
    # So few that some processes have none, and so many that parts differ.
    for count in (5, COUNT):
        found |= {f"{count}/{name}": value for name, value in passes(model, examples(count)).items()}
    if event is not None and processes.number() == processes.count() - 1:
        happen(event)
    torch.manual_seed(0)
    small = TrainedModel(nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.Tanh(), nn.Linear(4, 10)).double(), Softmax(), batch_size=BATCH, device="cpu")
    for count in (5, COUNT):
        found |= {f"{count}/{name}": value for name, value in curvatures(small, examples(count)).items()}
    return found


def happen(event: str) -> None:
    if event == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if event == "error":
        raise RepairError("an input of this process cannot be read: give another")
    raise ZeroDivisionError(event)


def main() -> None:
    torch.set_num_threads(1)
    file, event = Path(sys.argv[1]), (sys.argv[2:] or [None])[0]
    try:
        with processes.together():
            checkpoint = Checkpoint(file.parent / "scratch", "same")
            saved = checkpoint.load()
            found = everything(event) if saved is None else saved[0]
            with output_folder(file.parent / "result") as folder:
                write_tensors(folder / file.name, found)
            checkpoint.save(found, {"by": processes.number()})
    except RepairError as error:
        sys.exit(f"process_cases: {error}")


if __name__ == "__main__":
    main()
