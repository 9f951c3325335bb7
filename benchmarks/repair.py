"""Every method on every case: found causes and repaired models, mean and spread over seeds, beside the papers.

    python benchmarks/repair.py                        # all cases of cases.yaml, into results/repair.csv
    python benchmarks/repair.py mnist-label-lenet --folder FOLDER_WITH_THE_OFFICIAL_MNIST_FILES
    python benchmarks/repair.py --kind development --set treatments.ssse.damping=0.1,1,10
    python benchmarks/repair.py --only mend --set 'treatments.mend.trains_on=[remaining],[remaining, failures]'

The pipeline itself runs, through DVC, in working copies of this project. What has been computed is kept in their cache:
a benchmark that was ended goes on where it was, and after a change of code what depends on it runs again. Seconds and
memory are noted where a run has the machine to itself, with `--processes 1`; to have them of what is in the cache
already, name another folder as `--work`.

With `--set`, development cases are run with every combination of the values, and the rows, by setting, go into
results/choices.csv: the record of how settings were chosen. Report cases are refused: no choice looks at them.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import re
import signal
import sys
import threading
import time
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cases import (
    ACCURACIES,
    BY_CORRUPTION,
    CORRECTIONS,
    EDITS,
    FACTS,
    KNOWLEDGE,
    PERPLEXITIES,
    PORTABILITY,
    RANKINGS,
    RATIO,
    PlannedCase,
    Run,
    read_cases,
)
from modelrepair.errors import RepairError
from modelrepair.settings import choose
from modelrepair.settings.parameters import Parameters
from results_table import REPAIRS, RESULTS, merge, show, spread, summarise, write
from working_copies import Outcome, WorkingCopies

PROJECT = Path(__file__).parents[1]
CASES = Path(__file__).with_name("cases.yaml")

NAMES = [*REPAIRS]
CHOICE_NAMES = ["case", "setting", *REPAIRS[1:]]
BASE_STAGES = ("train-base",)
IDENTIFICATION_STAGES = ("update-posterior", "score-influence")
# The fit serves both: its costs are of the pair.
PAIR_STAGES = ("fit-fisher", "treat")

OBVIOUS = (
    "finetune",
    "retrain",
    "finetune-failures",
    "finetune-remaining-failures",
    "finetune-reserved",
    "finetune-discovery",
    "finetune-remaining-discovery",
)
COMPETITORS = {"found": ("loss", "margin"), "true": ("",)}
"""By causes, what anybody would do first: drop the highest losses, the lowest margins or the true causes, and train on
or anew; or train on whatever labelled examples there are. Each competes with what is given as much."""
SHOWN = ("all", "noisy_classes", "holdout", "remaining")

Row = dict[str, Any]


@dataclass(frozen=True)
class Unit:
    """What one working copy does at a stretch: runs that share a base model.

    Attributes:
        planned: the case.
        seed: one of its seeds.
        runs: each with the setting that it stands for; an empty one outside a choice of settings.
    """

    planned: PlannedCase
    seed: int
    runs: tuple[tuple[str, Run], ...]


class Progress:
    """A line for every run: what it gave, how many remain, and for how long if they take as long as those before.

    Attributes:
        failed: how many runs failed, each of which has said why.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._total, self._done, self._start = sum(len(unit.runs) for unit in units), 0, time.perf_counter()
        self._guard = threading.Lock()
        self.failed = 0

    def report(self, unit: Unit, setting: str, run: Run, outcome: Outcome) -> None:
        what = ", ".join(
            part for part in (f"{unit.planned.name} seed {unit.seed}", setting, str(run)) if part
        )
        after = outcome.metrics["repair"]["after"]
        reached = ", ".join(f"{name} {100 * after[name]:.1f}" for name in SHOWN if after[name] is not None)
        computed = f"{len(outcome.computed)} stages computed in {outcome.seconds:.0f} s"
        with self._guard:
            self._done += 1
            remaining = self._total - self._done
            minutes = (time.perf_counter() - self._start) / self._done * remaining / 60
            left = f"{remaining} of {self._total} runs remain, about {minutes:.0f} min"
            print(f"{what}: {reached} ({computed}; {left})", flush=True)

    def report_failure(self, unit: Unit, run: Run, error: RepairError) -> None:
        with self._guard:
            self._done += 1
            self.failed += 1
            print(f"{unit.planned.name}, seed {unit.seed}, {run}: {error}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Raises: RepairError: if runs failed."""
        if self.failed:
            raise RepairError(
                f"{self.failed} runs failed, and are in no row: see above why; the same command runs them again"
            )


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        changes = {"datasets.mnist.folder": str(options.folder.resolve())} if options.folder else {}
        cases = chosen_cases(read_cases(CASES, PROJECT, changes), options)
        if options.list:
            list_cases(cases.values())
        elif options.set:
            choose_settings(cases, options, changes)
        else:
            benchmark(cases, options)
    except RepairError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where it was")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all of cases.yaml by default")
    parser.add_argument("--kind", choices=["development", "report"], help="only cases of this kind")
    parser.add_argument("--list", action="store_true", help="say which cases there are, and run nothing")
    parser.add_argument("--folder", type=Path, help="of the official MNIST files; downloaded if not given")
    parser.add_argument("--processes", type=int, default=2, help="how many runs at a time; 1 to note costs")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE,…", help="a parameter, to choose its value"
    )
    parser.add_argument(
        "--seeds", type=int, metavar="COUNT", help="only so many seeds of each case, the first"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only runs of this identification or treatment; rows of others are kept",
    )
    parser.add_argument("--output", type=Path, help="a CSV file; rows of other cases in it are kept")
    parser.add_argument(
        "--work", type=Path, default=PROJECT / ".scratch/benchmarks", help="folder of the cache"
    )
    options = parser.parse_args()
    for name in ("processes", "seeds"):
        count = getattr(options, name)
        if count is not None and count < 1:
            parser.error(f"--{name} is {count}: give a whole number of 1 or more")
    return options


def chosen_cases(cases: Mapping[str, PlannedCase], options: argparse.Namespace) -> dict[str, PlannedCase]:
    """The cases that are asked for, in the order of the file.

    Raises:
        RepairError: for names that are not there, kinds that they do not have, and settings to be chosen on a report.
    """
    kind = options.kind or ("development" if options.set else None)
    if options.set and kind == "report":
        raise RepairError("settings are chosen on development cases alone: leave --kind report out")
    for name in options.cases:
        found = choose("case", cases, name).case.kind
        if kind and found != kind:
            reason = "settings are chosen on development cases alone" if options.set else f"--kind is {kind}"
            raise RepairError(f"{name} is a {found} case and {reason}: leave it out")
    chosen = {
        name: planned
        for name, planned in cases.items()
        if (not options.cases or name in options.cases) and kind in (None, planned.case.kind)
    }
    return only(chosen, options.only)


def only(cases: Mapping[str, PlannedCase], names: Collection[str]) -> dict[str, PlannedCase]:
    """The cases with those runs that have an identification or treatment of these names; with all, if none is named.

    Raises:
        RepairError: if no run of theirs has one.
    """
    if not names:
        return {**cases}
    there = {part: part for planned in cases.values() for run in planned.runs for part in members(run)}
    wanted = {choose("identification or treatment of these cases", there, name) for name in names}
    fewer = {
        name: replace(planned, runs=tuple(run for run in planned.runs if wanted & members(run)))
        for name, planned in cases.items()
    }
    return {name: planned for name, planned in fewer.items() if planned.runs}


def members(run: Run) -> set[str]:
    """The names of a run's identification, if it has one, and treatment."""
    return {run.identification, run.treatment} - {""}


def list_cases(cases: Collection[PlannedCase]) -> None:
    rows = [
        {
            "case": planned.name,
            "kind": planned.case.kind,
            "seeds": len(planned.case.seeds),
            "runs": len(planned.case.seeds) * len(planned.runs),
            "description": planned.case.description,
        }
        for planned in cases
    ]
    print(pd.DataFrame(rows).to_string(index=False))


def benchmark(cases: Mapping[str, PlannedCase], options: argparse.Namespace) -> None:
    """Run the cases, write their rows after every seed, and print what they say."""
    units = [
        Unit(planned, seed, tuple(("", run) for run in planned.runs))
        for planned in cases.values()
        for seed in planned.case.seeds[: options.seeds]
    ]
    output = options.output or RESULTS / "repair.csv"
    progress = Progress(units)
    table = pd.DataFrame({"case": []})
    with contextlib.closing(run_units(units, options, progress)) as results:
        for rows in results:
            table = with_paper(summarise(rows, NAMES), cases)
            by = NAMES[:4] if options.only else ["case"]
            write(merge(table, output, names=NAMES, by=by), output)
    for kind in ("development", "report"):
        for name, planned in cases.items():
            rows = table[table["case"] == name]
            if planned.case.kind == kind and len(rows):
                show(
                    compared(rows), f"{kind}: {name}, {planned.case.description}; seeds {planned.case.seeds}"
                )
    print(f"\nwritten to {output}")
    progress.end()


def choose_settings(
    cases: Mapping[str, PlannedCase], options: argparse.Namespace, changes: Mapping[str, Any]
) -> None:
    """Run every combination of the settings where they make a difference, write their rows, and say which is best."""
    settings = {
        " ".join(f"{name}={_text(value)}" for name, value in point.items()): point
        for point in grid(options.set)
    }
    varied = {
        setting: only(read_cases(CASES, PROJECT, {**changes, **point}, cases), options.only)
        for setting, point in settings.items()
    }
    units = []
    for name, planned in cases.items():
        # Runs that no setting changes say nothing about them.
        differing = [
            place
            for place, run in enumerate(planned.runs)
            if any(other[name].runs[place].settings() != run.settings() for other in varied.values())
        ]
        runs = tuple(
            (setting, varied[setting][name].runs[place]) for place in differing for setting in settings
        )
        units += [Unit(planned, seed, runs) for seed in planned.case.seeds[: options.seeds] if runs]
    if not units:
        raise RepairError(f"nothing that the cases run depends on {' '.join(options.set)}: set what they use")
    output = options.output or RESULTS / "choices.csv"
    progress = Progress(units)
    table = pd.DataFrame({"metric": []})
    with contextlib.closing(run_units(units, options, progress)) as results:
        for rows in results:
            table = summarise(rows, CHOICE_NAMES)
            write(merge(table, output, names=CHOICE_NAMES, by=["case", "setting"]), output)
    if len(table):
        show_best(table, list(settings))
    print(f"\nwritten to {output}")
    progress.end()


def grid(wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Every combination of values, by the parameters' dotted names, of texts such as `seed=0,1`.

    Raises:
        RepairError: if a text is not of this form, or names a parameter again.
    """
    values: dict[str, list[Any]] = {}
    for text in wanted:
        name, equals, listed = text.partition("=")
        if not (name and equals and listed) or name in values:
            raise RepairError(f"--set {text}: give NAME=VALUE or NAME=VALUE,VALUE once for each name")
        try:
            # As a list in YAML, so that a value may be a list itself.
            values[name] = YAML(typ="safe", pure=True).load(f"[{listed}]")
        except YAMLError:
            raise RepairError(f"--set {text}: its values cannot be read as YAML") from None
    for point in itertools.product(*values.values()):
        yield dict(zip(values, point, strict=True))


def run_units(
    units: Sequence[Unit], options: argparse.Namespace, progress: Progress
) -> Generator[pd.DataFrame, None, None]:
    """Run them, each in one working copy; after each, the rows of all that have been run, in a fixed order."""
    _fetch(units)
    done: dict[int, list[Row]] = {}
    with (
        ThreadPoolExecutor(options.processes) as pool,
        WorkingCopies(PROJECT, options.work, options.processes, note_costs=options.processes == 1) as copies,
    ):
        futures = {
            pool.submit(_rows_of_unit, unit, copies, progress): number for number, unit in enumerate(units)
        }
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                rows = [row for number in sorted(done) for row in done[number]]
                keys = ["setting", *NAMES, "seed"]
                # Runs measure the base model, and identifications, again and again.
                if rows:
                    yield pd.DataFrame(rows).drop_duplicates([key for key in keys if key != "uses"])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def rows_of_run(run: Run, outcome: Outcome) -> list[Row]:
    """What a run says of its base model, of its identification and of its treatment, by the names of the columns."""
    metrics = outcome.metrics
    base = {"identification": "", "treatment": "none", "causes": "", "uses": ""}
    found = {
        "identification": run.identification,
        "treatment": "",
        "causes": run.causes,
        # Discovery tells a judge what its belief is worth, and how many causes are expected.
        "uses": "guard"
        if run.judged or metrics["identification"].get("expected_causes") is not None
        else run.shown,
    }
    treated = {**found, "treatment": run.treatment, "uses": metrics["used"]["uses"]}

    def percent(when: str) -> dict[str, float]:
        values = metrics["repair"][when] | metrics.get("correction", {}).get(when, {})
        return {name: 100 * values[name] for name in ACCURACIES + CORRECTIONS if values.get(name) is not None}

    def costs(stages: Sequence[str]) -> dict[str, float]:
        noted = {stage: outcome.costs.get(stage, {}) for stage in stages}
        return {f"{name}:{stage}": value for stage, costs in noted.items() for name, value in costs.items()}

    facts = metrics.get("facts") or {}
    edited = {name: 100 * facts[name] for name in FACTS if facts.get(name) is not None}
    if (ratio := facts.get(RATIO)) is not None:
        edited[RATIO] = ratio
    knowledge = metrics.get("knowledge") or {}
    edited |= edits_of_facts(knowledge) | held(knowledge, "after")
    parts = [(treated, percent("after") | edited | costs(PAIR_STAGES))]
    if run.identification:
        ranked = {name: metrics["identification"].get(name) for name in RANKINGS}
        if "causes" in facts:
            # The causes of the failures that were shown; of others nothing can be known.
            ranked["auroc_of_edited"] = facts["causes"]["by_score"]["auroc_of_edited"]
        for corruption, of_it in metrics["identification"].get("by_corruption", {}).items():
            ranked |= {f"{name}:{corruption}": of_it[name] for name in BY_CORRUPTION}
        known = {name: value for name, value in ranked.items() if value is not None}
        parts.append((found, known | costs(IDENTIFICATION_STAGES)))
    if run.causes != "right-labels":
        told = knowledge.get("detection", {})
        parts.append((base, percent("before") | held(knowledge, "before") | told | costs(BASE_STAGES)))
    return [
        {**names, "metric": metric, "value": value}
        for names, values in parts
        for metric, value in values.items()
    ]


def held(knowledge: Mapping[str, Any], when: str) -> dict[str, float]:
    """How well a model holds facts "before" or "after", of those measures that are there."""
    values = {
        **knowledge.get(when, {}),
        PORTABILITY: knowledge.get(PORTABILITY, {}).get(when, {}).get("right"),
    }
    shares = {name: 100 * values[name] for name in KNOWLEDGE if values.get(name) is not None}
    return shares | {name: values[name] for name in PERPLEXITIES if values.get(name) is not None}


def edits_of_facts(knowledge: Mapping[str, Any]) -> dict[str, float]:
    """What edits do one by one ("success:single") and in a row ("success:after_10", "…:after_all"), in percent."""
    row = knowledge.get("edits_in_a_row", {})
    # As many as there are failures, which is another number for each seed.
    whole = {"after_all": [*row.values()][-1]} if row else {}
    measured = {"single": knowledge.get("single_edits", {}), **row, **whole}
    return {
        f"{name}:{when}": 100 * value
        for when, values in measured.items()
        for name in EDITS
        if (value := values.get(name)) is not None
    }


def with_paper(table: pd.DataFrame, cases: Mapping[str, PlannedCase]) -> pd.DataFrame:
    """The table with a column of what papers say; NaN where they say nothing."""
    said = {(name, *row): value for name, planned in cases.items() for row, value in planned.paper.items()}
    keys = zip(*(table[name] for name in NAMES if name != "uses"), strict=True)
    return table.assign(paper=[said.get(key, float("nan")) for key in keys])


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """One case's repairs, a row each, beside the best obvious competitor that is given as much.

    A repair loses if its mean accuracy over all classes is below the competitor's.
    """
    treated = table[table["treatment"] != ""]
    rows = []
    for (identification, treatment, causes, uses), part in treated.groupby(NAMES[1:5], sort=False):
        values = part.set_index("metric")
        shown = {name: values.loc[name, ["mean", "std"]] for name in SHOWN if name in values.index}
        mean, paper = values.loc["all", ["mean", "paper"]]
        rival = _competitor(treated, identification, treatment, causes, uses)
        rows.append(
            {
                "identification": identification,
                "treatment": treatment,
                "causes": causes,
                "uses": uses,
                **{name: spread(*shown[name]) if name in shown else "" for name in SHOWN},
                "paper, all": "" if pd.isna(paper) else f"{paper:.1f}",
                "competitor, all": f"{rival['name']} {rival['mean']:.1f}" if rival else "",
                "verdict": "loses" if rival and mean < rival["mean"] else "",
            }
        )
    return pd.DataFrame(rows)


def show_best(table: pd.DataFrame, settings: Sequence[str]) -> None:
    """For each thing that was run, means over the cases by setting, and which setting is best by each metric."""
    shown = table[table["metric"].isin([*SHOWN, "worst_class", "auroc", "average_precision"])]
    for (identification, treatment, causes), part in shown.groupby(["identification", "treatment", "causes"]):
        if treatment == "none":
            continue
        wide = part.pivot_table(index="setting", columns="metric", values="mean", sort=False).reindex(
            settings
        )
        count = part["case"].nunique()
        title = f"{identification or 'given'}/{treatment or 'identification'}, {causes} causes, mean over {count} cases"
        show(wide.reset_index(), title)
        for metric in wide.columns:
            best = [str(setting) for setting in wide.index[wide[metric] == wide[metric].max()]]
            print(f"best by {metric}: {', '.join(best) if len(best) < len(wide) else 'all alike'}")


def _rows_of_unit(unit: Unit, copies: WorkingCopies, progress: Progress) -> list[Row]:
    rows = []
    with copies.one() as copy:
        for setting, run in unit.runs:
            try:
                outcome = copies.run(copy, run.with_seed(unit.seed))
            except RepairError as error:
                progress.report_failure(unit, run, error)
                continue
            labels = {"case": unit.planned.name, "setting": setting, "seed": unit.seed}
            rows += [{**labels, **row} for row in rows_of_run(run, outcome)]
            progress.report(unit, setting, run, outcome)
    return rows


def _fetch(units: Sequence[Unit]) -> None:
    """Have published files at hand before several runs would download them at a time."""
    from modelrepair.sources import load_source

    wanted = [Parameters(**unit.runs[0][1].parameters) for unit in units]
    sources = {p.datasets[p.dataset].model_dump_json(): p.datasets[p.dataset] for p in wanted}
    for source in sources.values():
        if source.downloads:
            load_source(source, 0)


def _competitor(
    treated: pd.DataFrame, identification: str, treatment: str, causes: str, uses: str
) -> dict[str, Any] | None:
    """Name and mean accuracy of the best competitor; None where there is none, or the repair is a competitor itself."""
    # Who knows a part of the causes would treat these.
    part = re.fullmatch(r"(?:found|true)-(.+)", causes)
    given = f"true-{part[1]}" if part else causes
    findings = COMPETITORS.get("true" if part else causes, ())
    rivals = treated[
        (treated["metric"] == "all")
        & (treated["causes"] == given)
        & (treated["uses"] == uses)
        & treated["identification"].isin(findings)
        & treated["treatment"].isin(OBVIOUS)
    ]
    if rivals.empty or (causes == given and identification in findings and treatment in OBVIOUS):
        return None
    best = rivals.loc[rivals["mean"].idxmax()]
    return {"name": f"{best['identification'] or 'given'}/{best['treatment']}", "mean": best["mean"]}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{' '.join(map(_text, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
