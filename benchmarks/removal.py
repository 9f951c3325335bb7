"""What removing the examples that score highest does to the model (Tanno et al. 2022, Fig. 3).

    python benchmarks/removal.py                                  # every identification on mnist-label-lenet
    python benchmarks/removal.py pairs-25 --identifications loss ewc --counts 0 100 400 --seeds 1

The pipeline scores the training examples by every identification, in a working copy of this project whose cache it
shares with `repair.py`. For growing k the base model is trained on, as by the treatment `finetune` but to its end, on
all but the k highest; what it then has right of the query, of the held-out failures and of the remaining test examples
says how good the k were as causes: no look at discovery stops it where removing was of no use. For comparison
`corrupted` removes all examples that are corrupted, and no others.

Writes `benchmarks/results/removal.csv` and `docs/removal.png`. What was measured is kept in the folder of the cache
under a fingerprint of scores, base model and settings: a benchmark that was ended goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Threads that spin while they wait are slow where other processes want the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cases import Run, Runs, read_cases, read_yaml
from modelrepair.errors import RepairError
from modelrepair.evaluation.drawing.canvas import INK, MUTED, ORANGE, PALE, SERIES, picture
from modelrepair.models.examples import Examples
from modelrepair.models.files import load_model
from modelrepair.models.trained_model import TrainedModel
from modelrepair.models.workspace import failures, test_examples, training_examples
from modelrepair.pipeline.artifacts import read_table
from modelrepair.settings.parameters import Parameters
from modelrepair.settings.treatment import FineTuneSettings
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import mean_losses
from results_table import RESULTS, merge, over_seeds, read, show, summarise, write
from working_copies import WorkingCopies

PROJECT = Path(__file__).parents[1]
CASES = Path(__file__).with_name("cases.yaml")

TREATMENT = "finetune"
VERY_SLOW = ("g-shapley", "orthogonal-gradients", "variational")
"""Identifications that are not among those run by default."""
COUNTS = (0, 50, 100, 200, 300, 400, 500, 700, 1000, 1500)
GROUPS = {"query": "Failures shown", "holdout": "Failures held out", "remaining": "What was right"}
NAMES = ["case", "identification", "metric"]
KEPT = ["case", "identification", "seed", "fingerprint", "removed"]
CORRUPTED = "corrupted"
SHOWN = ("second-look", "ewc", "knn-shapley", "tmc-shapley", "loss")
"""Identifications with a colour of their own in the picture."""
RANDOM = "random"


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    try:
        table = benchmark(options)
        draw(table[table["case"] == options.case], options.picture)
    except RepairError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where it was")
    last = table[(table["case"] == options.case) & (table["metric"] == "holdout")]
    show(last.pivot(index="identification", columns="removed", values="mean").reset_index(), "held out, in %")
    print(f"\nwritten to {options.output} and {options.picture}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="?", default="mnist-label-lenet", help="of cases.yaml")
    parser.add_argument(
        "--identifications", nargs="+", metavar="NAME", help="of params.yaml; by default all that rank"
    )
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="how many are removed")
    parser.add_argument(
        "--seeds", type=int, metavar="COUNT", help="only so many seeds of the case, the first"
    )
    parser.add_argument("--folder", type=Path, help="of the official MNIST files; downloaded if not given")
    parser.add_argument("--threads", type=int, default=2, help="that training on takes")
    parser.add_argument("--output", type=Path, default=RESULTS / "removal.csv")
    parser.add_argument("--picture", type=Path, default=PROJECT / "docs/removal.png")
    parser.add_argument(
        "--work", type=Path, default=PROJECT / ".scratch/benchmarks", help="folder of the cache"
    )
    options = parser.parse_args()
    for name in ("threads", "seeds"):
        count = getattr(options, name)
        if count is not None and count < 1:
            parser.error(f"--{name} is {count}: give a whole number of 1 or more")
    if min(options.counts) < 0:
        parser.error(f"--counts has {min(options.counts)}: give whole numbers of 0 or more")
    return options


def benchmark(options: argparse.Namespace) -> pd.DataFrame:
    """The table of the output file, with all rows of this case's identifications that were run."""
    runs = planned_runs(options)
    kept = options.work / "removal.csv"
    rows: list[pd.DataFrame] = []
    with (
        WorkingCopies(PROJECT, options.work, 1, note_costs=False) as copies,
        copies.one() as copy,
    ):
        for seed in runs[0][1][: options.seeds]:
            for run, _ in runs:
                copies.reach(copy, run.with_seed(seed), "score-influence")
                found = curve(copy, run, seed, options, kept)
                rows.append(found)
                last = found.iloc[-1]
                print(
                    f"{options.case} seed {seed}, {run.identification}: {dict(last[list(GROUPS)].round(1))}"
                )
            rows.append(curve(copy, runs[0][0], seed, options, kept, corrupted=True))
            table = summarise(long(pd.concat(rows)), [*NAMES, "removed"])
            table = merge(table, options.output, names=NAMES, by=NAMES[:2])
            write(table, options.output)
    return table


def planned_runs(options: argparse.Namespace) -> list[tuple[Run, list[int]]]:
    """Each identification's run, and the seeds of the case.

    Raises:
        RepairError: if the case, or an identification that ranks, is not there.
    """
    names = options.identifications or ranking_identifications(read_yaml(PROJECT / "params.yaml"))
    changes = {"datasets.mnist.folder": str(options.folder.resolve())} if options.folder else {}
    # Every identification is to be run, whatever selects by it.
    changes |= {"selection": "fraction"}
    wanted = Runs(found=[f"{name}/{TREATMENT}" for name in names])
    cases = read_cases(CASES, PROJECT, changes, [options.case], wanted)
    if options.case not in cases:
        raise RepairError(f"there is no case {options.case!r}: see `python benchmarks/repair.py --list`")
    planned = cases[options.case]
    return [(run, planned.case.seeds) for run in planned.runs]


def ranking_identifications(content: Mapping[str, Any]) -> list[str]:
    """Names of the identifications of params.yaml that rank examples, but for the very slow ones and those that start
    from known causes."""
    return [
        name
        for name, member in Parameters(**content).identifications.items()
        if member.influence.ranks and not member.influence.starts and name not in VERY_SLOW
    ]


def curve(
    root: Path,
    run: Run,
    seed: int,
    options: argparse.Namespace,
    kept: Path,
    *,
    corrupted: bool = False,
) -> pd.DataFrame:
    """Accuracies in percent, a row for each number of examples removed; those that are kept are not measured again.

    Args:
        root: the working copy, with scores by the run's identification.
        run: what was run.
        seed: of the run.
        options: of the command.
        kept: file of what was measured.
        corrupted: remove all corrupted examples, in place of those that score highest.
    """
    settings = run.settings()["treat"].treatment
    assert isinstance(settings, FineTuneSettings)
    base, examples, order, truth, groups = problem(root)
    counts = [count for count in options.counts if count < len(examples)]
    if corrupted:
        order, counts = np.argsort(~truth, kind="stable"), [int(truth.sum())]
    mark = hashlib.sha256()
    for part in (base.parameter_vector.cpu().numpy().tobytes(), order.tobytes(), repr(settings).encode()):
        mark.update(part)
    labels = {
        "case": options.case,
        "identification": CORRUPTED if corrupted else run.identification,
        "seed": str(seed),
        "fingerprint": mark.hexdigest()[:16],
    }
    rows = []
    for count in counts:
        names = {**labels, "removed": str(count)}
        if (row := measured(kept, names)) is None:
            model = trained_on(base, examples.subset(np.sort(order[count:])), settings, seed)
            accuracies = {
                name: 100 * model.accuracy(groups[name]) if name in groups else float("nan")
                for name in GROUPS
            }
            row = pd.DataFrame([{**names, **accuracies}])
            write(merge(row, kept, names=KEPT, by=KEPT), kept)
            # As it is kept, so that a table does not depend on what was.
            row = measured(kept, names)
        rows.append(row)
    return pd.concat(rows, ignore_index=True)


def problem(
    root: Path,
) -> tuple[TrainedModel, Examples, NDArray[np.int64], NDArray[np.bool_], dict[str, Examples]]:
    """What a working copy holds.

    Returns:
        The base model, the n training examples, their positions (n,) by falling score, which are corrupted (n,), and
        the groups of test examples, where there are any.
    """
    base, _ = load_model(root / "models/base")
    examples, table = training_examples(root)
    scores = read_table(root / "data/scores/scores.parquet")["score"].to_numpy()
    tests = pd.concat([failures(root, part) for part in ("discovery", "assessment")])
    tests = tests.drop_duplicates("example")
    groups = {name: test_examples(root, tests[tests["role"] == name]) for name in GROUPS}
    return (
        base,
        examples,
        np.argsort(-scores, kind="stable"),
        table["is_corrupted"].to_numpy(bool),
        {name: group for name, group in groups.items() if len(group)},
    )


def measured(kept: Path, names: Mapping[str, str]) -> pd.DataFrame | None:
    """The row of these names in the file, or None."""
    if not kept.is_file():
        return None
    rows = read(kept, KEPT)
    found = rows[(rows[list(names)] == pd.Series(names)).all(axis=1)]
    return found if len(found) else None


def trained_on(base: TrainedModel, examples: Examples, settings: FineTuneSettings, seed: int) -> TrainedModel:
    """The model trained on, as `treatment.FineTune` does it, to the last epoch."""
    model = base.copy()
    losses = mean_losses(model, examples, settings.batch_size, seed=seed, purpose="fine-tuning")
    descent = Descent(
        learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, rounds=settings.epochs
    )
    minimise(model, losses, descent)
    return model


def long(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each measurement."""
    whole = rows.assign(removed=rows["removed"].astype(int))
    melted = whole.melt(["case", "identification", "seed", "removed"], list(GROUPS), "metric")
    return melted.sort_values(["case", "identification", "metric", "removed"], kind="stable")


def draw(table: pd.DataFrame, path: Path, shown: Sequence[str] = SHOWN) -> None:
    """Three panels side by side: accuracy on each group against the number removed."""
    highlighted = {name: SERIES[number % len(SERIES)] for number, name in enumerate(shown)}
    with picture(path, 10.4, 4.5) as canvas:
        canvas.heading(
            "What removing the highest-scoring training examples does",
            f"The model is trained on without them, as long for every number; {over_seeds(table)}.",
        )
        for panel, (metric, title) in enumerate(GROUPS.items()):
            left = 0.62 + 3.3 * panel
            axes = canvas.axes(left, 1.0, 2.75, 2.55)
            canvas.text(left, 0.72, title, size=9.5, bold=True)
            part = table[table["metric"] == metric]
            for name, rows in ordered(part, highlighted):
                color = highlighted.get(name, MUTED if name == RANDOM else PALE)
                axes.plot(
                    rows["removed"],
                    rows["mean"],
                    color=color,
                    lw=1.8 if name in highlighted else 1.0,
                    ls=":" if name == RANDOM else "-",
                    label=name if name in highlighted or name == RANDOM else None,
                    zorder=3 if name in highlighted else 2,
                )
                if name in highlighted:
                    spread = rows["std"].fillna(0)
                    axes.fill_between(
                        rows["removed"], rows["mean"] - spread, rows["mean"] + spread, color=color, alpha=0.15
                    )
            truth = part[part["identification"] == CORRUPTED]
            axes.plot(
                truth["removed"], truth["mean"], "o", color=ORANGE, label="all corrupted, no others", zorder=4
            )
            axes.set(xlabel="training examples removed")
            if not panel:
                axes.set_ylabel("accuracy (%)")
                handles, labels = axes.get_legend_handles_labels()
                axes.figure.legend(
                    handles, labels, loc="lower center", ncols=len(labels), labelcolor=INK, handlelength=1.6
                )


def ordered(part: pd.DataFrame, highlighted: Mapping[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The curves of the identifications, those with a colour in their order, the others first."""
    curves = {
        str(name): rows.sort_values("removed")
        for name, rows in part[part["identification"] != CORRUPTED].groupby("identification")
    }
    yield from ((name, rows) for name, rows in curves.items() if name not in highlighted)
    yield from ((name, curves[name]) for name in highlighted if name in curves)


if __name__ == "__main__":
    main()
