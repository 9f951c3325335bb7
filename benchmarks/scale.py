"""How time and memory grow with the number of examples, up to a million images that no memory has to hold.

    python benchmarks/scale.py [--network lenet5] [--counts 10000 … 1000000] [--folder FOLDER]

Synthetic images of 28×28 pixels are made a piece at a time into a memory-mapped file. Then, for each number of examples
and each work, in a process of its own on one thread:

* scoring: the loss change of two models, as `-S method=ewc` scores;
* selection: the 1 % of highest scores, from a table as the pipeline has it;
* squared gradients: the fit of the diagonal Fisher.

Beside each, in the same process, stands a bare forward pass of PyTorch over the same images: the floor. Seconds are
those that the process had the processor. Memory is the most that the process had of its own at a time; pages of the
file, which the system takes back whenever it likes, do not count.

Writes `benchmarks/results/scale.csv` after every process, goes on from it, and draws `docs/scale.png`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from results_table import RESULTS, read, show, write

COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000)
SHAPE, CLASSES, BATCH, PIECE = (1, 28, 28), 10, 500, 10_000
LEAST = 1000
"""Examples of which something can be said."""
NAMES = ["device", "network", "work"]
FORWARD_PASSES = {"scoring": 2, "selection": 0, "squared gradients": 1}
"""Of each work: as many does its floor have."""
WANTED = 1.05
"""At most this exponent."""
BILLION = 10**9


def main() -> None:
    options = parse()
    if options.child:
        print(json.dumps(child(options.child, options.network, options.counts[0], Path(options.folder))))
        return
    path = RESULTS / "scale.csv"
    with folder_of(options.folder) as folder:
        make_images(folder / "images.npy", max(options.counts))
        for count in sorted(options.counts):
            for work in FORWARD_PASSES:
                if not options.again and is_there(path, options.network, work, count):
                    continue
                row = measured(work, options.network, count, folder)
                print(f"{work} of {count:,}: {row['seconds']:.1f} s, {row['memory_mib']:.0f} MiB", flush=True)
                write(with_row(row, path), path)
    table = read(path, NAMES)
    show(table, "seconds and memory")
    show(growth(table), "how they grow")
    draw(table, RESULTS.parents[1] / "docs/scale.png")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--network", choices=("lenet5", "linear"), default="lenet5")
    parser.add_argument("--counts", type=int, nargs="+", default=list(COUNTS), help="numbers of examples")
    parser.add_argument("--folder", help="where the images are made and stay; by default they go again")
    parser.add_argument("--again", action="store_true", help="measure also what is there")
    parser.add_argument("--child", choices=FORWARD_PASSES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.counts) < LEAST:
        parser.error(f"{min(options.counts)} examples were asked for: give {LEAST} or more")
    return options


@contextlib.contextmanager
def folder_of(name: str | None) -> Iterator[Path]:
    """The folder of this name, or one that goes again."""
    if name is not None:
        Path(name).mkdir(parents=True, exist_ok=True)
        yield Path(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def make_images(path: Path, count: int) -> None:
    """So many images, of which fewer are a part: a picture of each class under noise, made a piece at a time."""
    from modelrepair.pipeline.artifacts import output_file, write_array_of_pieces

    if path.exists() and len(np.load(path, mmap_mode="r")) >= count:
        return
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 256, (CLASSES, *SHAPE))

    def pieces() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, count, PIECE):
            noise = draw.integers(0, 256, (min(PIECE, count - start), *SHAPE))
            yield ((pictures[labels(start, len(noise))] + 3 * noise) // 4).astype(np.uint8)

    with output_file(path) as file:
        write_array_of_pieces(file, SHAPE, np.uint8, pieces())


def labels(start: int, count: int) -> NDArray[np.int64]:
    """(count,) classes of the examples from this one on."""
    return np.arange(start, start + count) * 7 % CLASSES


def is_there(path: Path, network: str, work: str, count: int) -> bool:
    """Whether the table has this row, of this device."""
    if not path.is_file():
        return False
    table = read(path, NAMES)
    same = (table[["device", "network", "work"]] == [device(), network, work]).all(axis=1)
    return bool((same & (table["examples"] == count)).any())


def with_row(row: dict[str, Any], path: Path) -> pd.DataFrame:
    """The table of the file, if there is one, with this row in place of one of the same work on as many examples."""
    table, keys = pd.DataFrame([row]), [*NAMES, "examples"]
    if path.is_file():
        table = pd.concat([read(path, NAMES), table]).drop_duplicates(keys, keep="last")
    return table.sort_values(keys, ignore_index=True)


def device() -> str:
    """What computes, in words."""
    import torch

    from throughput import name_of

    torch.set_num_threads(1)
    return name_of(torch.device("cpu"))


def measured(work: str, network: str, count: int, folder: Path) -> dict[str, Any]:
    """A row: what a process of its own says of itself, and the memory that it was seen to have."""
    command = [sys.executable, __file__, "--child", work, "--network", network, "--counts", str(count)]
    most = 0
    with subprocess.Popen(
        [*command, "--folder", str(folder)],
        env={**os.environ, "TQDM_DISABLE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):
                lines = status.read_text().splitlines()
                most = max(most, int(next(line for line in lines if line.startswith("RssAnon")).split()[1]))
            time.sleep(0.02)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        sys.exit(f"{work} of {count} examples ended with status {process.returncode}")
    return {
        "device": device(),
        "network": network,
        "work": work,
        "examples": count,
        **json.loads(said.splitlines()[-1]),
        "memory_mib": most / 2**10 if most else np.nan,
        "inputs_mib": count * np.prod(SHAPE) / 2**20,
    }


def child(work: str, network: str, count: int, folder: Path) -> dict[str, float]:
    """Seconds of a work and of its floor."""
    import torch

    torch.set_num_threads(1)
    inputs = np.load(folder / "images.npy", mmap_mode="r")[:count]
    task, forward = WORKS[work](network, inputs)
    # What is made once, by libraries too, belongs to neither.
    WORKS[work](network, inputs[:PIECE])[0]()
    floor = 0.0
    if FORWARD_PASSES[work]:
        start = time.process_time()
        forward()
        floor = FORWARD_PASSES[work] * (time.process_time() - start)
    start = time.process_time()
    task()
    seconds = time.process_time() - start
    return {"seconds": seconds, "floor_seconds": floor, "ratio": floor / seconds}


Work = Callable[[str, NDArray[np.uint8]], tuple[Callable[[], object], Callable[[], object]]]


def _network(name: str) -> Any:
    from modelrepair.networks import make_network

    return make_network(name, SHAPE, CLASSES, seed=0)


def _bare(name: str, inputs: NDArray[np.uint8]) -> Callable[[], object]:
    import torch

    network = _network(name).eval()

    @torch.no_grad()
    def forward() -> None:
        for start in range(0, len(inputs), BATCH):
            network(torch.from_numpy(np.array(inputs[start : start + BATCH])).float() / 255)

    return forward


def _models(name: str, inputs: NDArray[np.uint8]) -> tuple[Any, Any, Any]:
    """A model, the same moved a little, and the examples."""
    import torch

    from modelrepair.models.examples import Examples
    from modelrepair.models.likelihood import Softmax
    from modelrepair.models.trained_model import TrainedModel

    base = TrainedModel(_network(name), Softmax(), batch_size=BATCH, device="cpu")
    vector = base.parameter_vector
    moved = vector + 0.01 * torch.randn(len(vector), generator=torch.Generator().manual_seed(0))
    return base, base.with_parameter_vector(moved), Examples(inputs, labels(0, len(inputs)))


def _scoring(name: str, inputs: NDArray[np.uint8]) -> tuple[Callable[[], object], Callable[[], object]]:
    from modelrepair.influence import Investigation, influence_scores

    base, updated, examples = _models(name, inputs)
    investigation = Investigation(base=base, updated=updated, examples=examples)
    return lambda: influence_scores(investigation, "loss-change"), _bare(name, inputs)


def _selection(name: str, inputs: NDArray[np.uint8]) -> tuple[Callable[[], object], Callable[[], object]]:
    from modelrepair.selection import candidates, select_causes

    count = len(inputs)
    scores = np.random.default_rng(0).normal(size=count)
    table = pd.DataFrame({"example": np.arange(count), "split": "train", "label": labels(0, count)})
    names = [str(number) for number in range(CLASSES)]
    return lambda: select_causes(scores, candidates(table, names), "fraction", fraction=0.01), lambda: None


def _squares(name: str, inputs: NDArray[np.uint8]) -> tuple[Callable[[], object], Callable[[], object]]:
    from modelrepair.curvature import DiagonalFisher

    base, _, examples = _models(name, inputs)
    return lambda: DiagonalFisher.fit(base, examples), _bare(name, inputs)


WORKS: dict[str, Work] = {"scoring": _scoring, "selection": _selection, "squared gradients": _squares}


def growth(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each work: how time and memory grow, and what a billion examples would take by that.

    The exponent is the slope of log seconds over log examples, and the bytes an example that of memory over examples,
    both by least squares; a billion is as many times the largest number as it is, to the power of the exponent where
    that is above 1.
    """
    rows = []
    for key, part in table.groupby(NAMES, sort=True):
        if len(part) < 2:
            continue
        part = part.sort_values("examples")
        examples, seconds = part["examples"].to_numpy(float), part["seconds"].to_numpy(float)
        exponent = float(np.polyfit(np.log(examples), np.log(seconds), 1)[0])
        each = float(np.polyfit(examples, part["memory_mib"].to_numpy(float) * 2**20, 1)[0])
        larger = (BILLION / examples[-1]) ** max(1.0, exponent)
        rows.append(
            {
                **dict(zip(NAMES, key, strict=True)),
                "largest": int(examples[-1]),
                "exponent": exponent,
                "bytes_an_example": each,
                "per_second": examples[-1] / seconds[-1],
                "ratio": float(part["ratio"].iloc[-1]),
                "billion_hours": larger * seconds[-1] / 3600,
                "billion_gib": BILLION * each / 2**30,
            }
        )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds beside a bare forward pass, and memory beside the inputs, over the number of examples."""
    from matplotlib.figure import Figure

    from modelrepair.pipeline.artifacts import output_file

    # Of several networks the one that went furthest.
    network = table.sort_values(["examples", "network"], ascending=[False, True])["network"].iloc[0]
    chosen = table[table["network"] == network].sort_values("examples")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2)
    for work, part in chosen.groupby("work", sort=True):
        found = growth(part)
        slope = f", n^{found['exponent'].iloc[0]:.2f}" if len(found) else ""
        [line] = time_axes.loglog(part["examples"], part["seconds"], "o-", label=f"{work}{slope}")
        memory_axes.semilogx(part["examples"], part["memory_mib"], "o-", color=line.get_color(), label=work)
    bare = chosen[chosen["work"] == "scoring"]
    time_axes.loglog(
        bare["examples"], bare["floor_seconds"], "k:", label="floor of scoring: bare forward passes"
    )
    memory_axes.semilogx(bare["examples"], bare["inputs_mib"], "k:", label="the inputs, in the file")
    time_axes.set(xlabel="examples", ylabel="seconds", title=f"time ({network})")
    memory_axes.set(xlabel="examples", ylabel="MiB", title="memory of the process")
    for axes, place in ((time_axes, "lower right"), (memory_axes, "upper left")):
        axes.legend(fontsize=8, frameon=False, loc=place)
        axes.grid(alpha=0.3)
    with output_file(path) as file:
        figure.savefig(file, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
