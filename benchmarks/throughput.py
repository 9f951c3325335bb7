"""Images a second of what the pipeline does most, beside bare loops of PyTorch on the same device in the same run.

    python benchmarks/throughput.py [--networks resnet20 lenet5] [--images 1024] [--repeats 5] [--threads 1]

Training and treatment are whole epochs of `modelrepair.train` and of fine-tuning, with all that an epoch writes down
and looks at, on random images; colour images are shifted and mirrored while they are trained on. In float32 training is
also with margins by a pass of their own. Beside them stands forward and backward alone, at the same batch size and in
the same numbers; beside scoring forward alone; beside squared gradients (the fit of the diagonal Fisher) backward
alone, as the difference of the two.

Loops take turns, and a ratio is the median of those of the turns. On a CPU, seconds are those that the process had it,
so that others on the machine count as little as they can.

Writes `benchmarks/results/throughput.csv`; rows of other devices and networks stay.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from modelrepair.base_training.train import train
from modelrepair.curvature import DiagonalFisher
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel, default_device
from modelrepair.networks import make_network
from modelrepair.training.conditions import Conditions
from modelrepair.training.descent import Descent
from modelrepair.treatment import FineTune, Patient
from results_table import RESULTS, merge, show, write

SHAPES = {
    "conv4": (1, 28, 28),
    "lenet5": (1, 28, 28),
    "resnet18": (3, 32, 32),
    "resnet20": (3, 32, 32),
}
BATCH = {"training": 128, "treatment": 64, "scoring": 500}
EPOCHS = 2
NAMES = ["device", "network", "work", "numbers", "beside"]
WANTED = {"scoring": 0.9, "training": 0.85, "squared gradients": 0.25}
"""At least these ratios."""


class Clock:
    """Seconds, on a CPU those that this process had it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            return time.perf_counter()
        return time.process_time()

    def seconds(self, work: Callable[[], object]) -> float:
        """How long it takes."""
        start = self()
        work()
        return self() - start


@dataclass
class Stamps:
    """In place of a checkpoint: when each round was over."""

    clock: Clock
    times: list[float] = field(default_factory=list)

    def load(self) -> None:
        """Nothing is there to go on from."""

    def save(self, *content: Any) -> None:
        """A round is over."""
        self.times.append(self.clock())

    @property
    def seconds_a_round(self) -> float:
        """Of the rounds behind the first."""
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)


@dataclass(frozen=True)
class Bench:
    """One network, random images for it, and what is measured on them.

    Attributes:
        model: freshly made.
        examples: as many as an epoch has.
        validation: a ninth of them, as when a tenth of all is split off.
    """

    model: TrainedModel
    examples: Examples
    validation: Examples
    clock: Clock

    def works(self) -> dict[str, Callable[[], float]]:
        """What is measured: seconds for all examples once."""
        colour = self.examples.inputs.shape[1] == 3
        plain = Conditions(crop=4 * colour, flip=colour)
        fast = Conditions(crop=4 * colour, flip=colour, precision="bfloat16", channels_last=True)
        batch = BATCH["training"]
        return {
            "forward": lambda: self.clock.seconds(self.forward),
            "scoring": lambda: self.clock.seconds(lambda: self.model.log_likelihoods(self.examples)),
            "forward-backward": lambda: self.clock.seconds(lambda: self.backward(batch)),
            "training": lambda: self.training(plain, "during"),
            "training, margins after": lambda: self.training(plain, "after"),
            "forward-backward, bfloat16": lambda: self.clock.seconds(lambda: self.backward(batch, fast)),
            "training, bfloat16": lambda: self.training(fast, "during"),
            "forward alone": lambda: self.clock.seconds(lambda: self.forward(batch)),
            "squared gradients": lambda: self.clock.seconds(
                lambda: DiagonalFisher.fit(self.model, self.examples)
            ),
            "forward-backward, small": lambda: self.clock.seconds(lambda: self.backward(BATCH["treatment"])),
            "treatment": self.treatment,
        }

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for _, inputs, targets in self.examples.batches(size, device=self.model.device):
            yield inputs, targets

    @torch.no_grad()
    def forward(self, size: int = BATCH["scoring"]) -> None:
        network = self.model.network.eval()
        for inputs, _ in self.batches(size):
            network(inputs)

    def backward(self, size: int, conditions: Conditions | None = None) -> None:
        network, device = self.model.network.train(), self.model.device.type
        conditions = conditions or Conditions()
        with conditions.laid_out(network):
            for inputs, targets in self.batches(size):
                network.zero_grad()
                with torch.autocast(device, torch.bfloat16, enabled=conditions.precision == "bfloat16"):
                    outputs = network(inputs)
                F.cross_entropy(outputs.float(), targets).backward()
        network.zero_grad()
        network.eval()

    def training(self, conditions: Conditions, margins: str) -> float:
        stamps = Stamps(self.clock)
        train(
            self.model.copy(),
            self.examples,
            Descent(learning_rate=0.01, rounds=EPOCHS, optimiser="sgd"),
            batch_size=BATCH["training"],
            seed=0,
            validation=self.validation,
            checkpoint=stamps,  # type: ignore[arg-type]
            checkpoints=2,
            conditions=conditions,
            margins=margins,
        )
        return stamps.seconds_a_round

    def treatment(self) -> float:
        stamps = Stamps(self.clock)
        kept = len(self.examples)
        patient = Patient(
            model=self.model,
            examples=self.examples.followed_by(self.validation),
            causes=np.arange(kept, kept + len(self.validation)),
            discovery=self.validation,
            failures=self.validation,
            curvature=lambda name, damping: None,  # type: ignore[arg-type, return-value]
            checkpoint=stamps,  # type: ignore[arg-type]
        )
        FineTune(epochs=EPOCHS, batch_size=BATCH["treatment"], learning_rate=0.001).treat(patient)
        return stamps.seconds_a_round


BESIDE = {
    "scoring": ("float32", "forward"),
    "training": ("float32", "forward-backward"),
    "training, margins after": ("float32", "forward-backward"),
    "training, bfloat16": ("bfloat16, channels last", "forward-backward, bfloat16"),
    "squared gradients": ("float32", "backward"),
    "treatment": ("float32", "forward-backward, small"),
}
"""The numbers of each work, and the bare loop that it stands beside."""


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    rows = []
    for network in options.networks:
        rows += measure(network, options.images, options.repeats)
    table = pd.DataFrame(rows)
    show(table, "images a second, beside bare loops")
    path = RESULTS / "throughput.csv"
    write(merge(table, path, names=NAMES, by=["device", "network"]), path)
    print(f"\nwritten to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--networks", nargs="+", choices=SHAPES, default=["resnet20", "lenet5"])
    parser.add_argument("--images", type=int, default=1024, help="in an epoch")
    parser.add_argument("--repeats", type=int, default=5, help="turns, of which the median is taken")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    return parser.parse_args()


def measure(network: str, images: int, repeats: int) -> list[dict[str, Any]]:
    """Rows of one network.

    Args:
        network: one of `SHAPES`.
        images: in an epoch.
        repeats: turns after one that warms up.
    """
    draw, shape, device = np.random.default_rng(0), SHAPES[network], default_device()
    sets = []
    for count in (images, max(1, images // 9)):
        inputs = draw.integers(0, 256, (count, *shape), dtype=np.uint8)
        # As those of a stage are, which a GPU may hold.
        inputs.flags.writeable = False
        sets.append(Examples(inputs, draw.integers(0, 10, count)))
    model = TrainedModel(make_network(network, shape, 10, seed=0), Softmax(), batch_size=BATCH["scoring"])
    works = Bench(model, *sets, Clock(device)).works()
    seconds: dict[str, list[float]] = {name: [] for name in (*works, "backward")}
    for turn in range(repeats + 1):
        taken = {name: work() for name, work in works.items()}
        taken["backward"] = taken["forward-backward"] - taken["forward alone"]
        if turn:
            for name, value in taken.items():
                seconds[name].append(value)
    return rows_of(network, device, images, seconds)


def rows_of(
    network: str, device: torch.device, images: int, seconds: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """A row for each work, from the seconds of its turns and those of the loop beside it."""
    rows = []
    for work, (numbers, beside) in BESIDE.items():
        ratios = [bare / own for own, bare in zip(seconds[work], seconds[beside], strict=True)]
        rows.append(
            {
                "device": name_of(device),
                "network": network,
                "work": work.removesuffix(", bfloat16"),
                "numbers": numbers,
                "images_per_second": images / statistics.median(seconds[work]),
                "beside": beside.partition(",")[0],
                "beside_per_second": images / statistics.median(seconds[beside]),
                "ratio": statistics.median(ratios),
                "wanted": WANTED.get(work.removesuffix(", bfloat16")),
            }
        )
    return rows


def name_of(device: torch.device) -> str:
    """What the device is, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    kind = models[0] if models else platform.processor() or platform.machine()
    return f"{kind}, {threads} thread{'s' if threads > 1 else ''}"


if __name__ == "__main__":
    main()
