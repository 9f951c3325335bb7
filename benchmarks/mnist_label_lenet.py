"""Every method on MNIST with 40 % of 1↔7 and 6↔9 swapped, LeNet-5: mean and spread over seeds, beside the paper.

    python benchmarks/mnist_label_lenet.py --folder FOLDER_WITH_THE_OFFICIAL_MNIST_FILES

runs the pipeline's own stages in a temporary copy of this project, each as a process of its own so that its wall
time and peak memory are its own, and writes `benchmarks/results/mnist-label-lenet.csv`. A base model is trained
once a seed and shared by the methods. Time and memory are of the first seed, so that the machine need be left alone for
those minutes only. `--work` names the copy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
SHARED = ["prepare-data", "corrupt-data", "train-base", "split-failures"]
PER_METHOD = ["choose-method", "fit-fisher"]
PER_POSTERIOR = ["update-posterior", "score-influence"]
PER_CAUSES = ["select-causes", "treat", "evaluate"]

# Neighbours that find causes in the same way share the search. With the true causes, `ewc-newton` is `linear`, and
# `ewc-ssse` is `ssse`; fine-tuning without them is the semi-oracle of Tanno et al. 2022.
METHODS = ["ewc", "finetune", "retrain", "ewc-full", "linear", "ssse", "ewc-newton", "ewc-ssse"]

# Huang et al. 2023, tables 1, 4 and 6: test accuracy in percent, LeNet, MNIST-Label.
PAPER = {
    ("base", "none"): {"all": 82.46, "clean_classes": 96.10, "noisy_classes": 62.00},
    ("ewc", "identified"): {"all": 84.26, "clean_classes": 95.43, "noisy_classes": 67.50},
    ("linear", "identified"): {"all": 83.00, "clean_classes": 96.43, "noisy_classes": 62.85},
    ("ewc", "truth"): {"all": 95.10, "clean_classes": 96.00, "noisy_classes": 93.75},
    ("linear", "truth"): {"all": 85.20, "clean_classes": 96.33, "noisy_classes": 68.50},
    ("finetune", "truth"): {"all": 95.56, "clean_classes": 96.90, "noisy_classes": 93.55},
    ("retrain", "truth"): {"all": 96.66, "clean_classes": 97.43, "noisy_classes": 95.50},
}


def main() -> None:
    options = parse()
    work = options.work.resolve()
    copy_project(work)
    parameters = yaml.safe_load((work / "params.yaml").read_text())
    parameters["dataset"] = options.dataset
    if options.folder:
        parameters["datasets"]["mnist"]["folder"] = str(options.folder.resolve())
    # Retraining without any one example, where no label is wrong: how good the network can be on this data.
    parameters["selections"]["one"] = {"rule": "top-k", "count": 1}
    rows: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        parameters["seed"] = seed
        costs = run(work, SHARED, parameters, f"seed {seed}")
        identified_by, treated_true = "", set()
        for method in options.methods:
            parameters["method"] = method
            costs |= run(work, PER_METHOD, parameters, f"seed {seed} {method}")
            found = [
                (work / "data/method" / f"{part}.json").read_text() for part in ("posterior", "influence")
            ]
            if "".join(found) != identified_by:
                costs |= run(work, PER_POSTERIOR, parameters, f"seed {seed} {method}")
                identified_by = "".join(found)
            for causes, selection in (("identified", options.selection), ("truth", "truth")):
                parameters["selection"] = selection
                # With the true causes, methods that differ in how they find them are one.
                treatment = (work / "data/method/treatment.json").read_text()
                if causes == "truth" and treatment in treated_true:
                    continue
                treated_true |= {treatment} if causes == "truth" else set()
                name = f"seed {seed} {method} {causes}"
                last_costs = run(work, PER_CAUSES, parameters, name)
                metrics = json.loads((work / "metrics/repair.json").read_text())
                rows += figures(method, causes, seed, metrics)
                if seed == 0:
                    rows += cost_figures(method, causes, seed, costs | last_costs)
                after = metrics["repair"]["after"]
                print(f"{name}: all {after['all']:.4f}, holdout {after['holdout']:.4f}, "
                      f"remaining {after['remaining']:.4f}, auroc {metrics['identification']['auroc']:.3f}",
                      flush=True)  # fmt: skip
        parameters |= {"corruption": "none", "method": "retrain", "selection": "one"}
        name = f"seed {seed} retrain on right labels"
        run(work, SHARED + PER_METHOD + PER_POSTERIOR + PER_CAUSES, parameters, name)
        metrics = json.loads((work / "metrics/repair.json").read_text())
        rows += accuracies("retrain", "right-labels", seed, metrics, "after")
        print(f"{name}: all {metrics['repair']['after']['all']:.4f}", flush=True)
        parameters["corruption"] = "label-noise"
        # After every seed, so that what is done is not lost.
        summary = summarise(pd.DataFrame(rows))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        summary.to_csv(options.output, index=False, float_format="%.4g")
    groups = ["all", "clean_classes", "noisy_classes", "holdout", "remaining", "auroc"]
    shown = summary[summary["metric"].isin(groups)]
    print(shown.to_string(index=False, float_format="%.2f", na_rep=""))
    print(f"written to {options.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="mnist", choices=["mnist", "mnist-sample"])
    parser.add_argument("--folder", type=Path, help="of the official MNIST files; downloaded if not given")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument(
        "--selection", default="fraction", help="how causes are selected when they are identified"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "modelrepair-benchmark")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/mnist-label-lenet.csv")
    return parser.parse_args()


def copy_project(work: Path) -> None:
    """The project's code and parameters in a folder of their own, so that the checkout is left as it is."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, work / name)
    for name in ("stages", "src"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))


def run(
    work: Path, stages: list[str], parameters: dict[str, Any], name: str
) -> dict[str, tuple[float, float]]:
    """Run stages one after the other; for each its seconds and its peak memory in MiB."""
    (work / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    environment = {**os.environ, "DVC_ROOT": str(work), "PYTHONPATH": str(work / "src")}
    costs = {}
    for stage in stages:
        script = [sys.executable, str(work / "stages" / f"{stage.replace('-', '_')}.py")]
        start = time.perf_counter()
        with (work / "log").open("w") as log:
            process = subprocess.Popen(script, cwd=work, env=environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"{name}, {stage}: {(work / 'log').read_text()[-2000:]}")
        costs[stage] = (time.perf_counter() - start, usage.ru_maxrss / 1024)
    return costs


def figures(method: str, causes: str, seed: int, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Accuracies in percent, before (as method "base") and after; measures of identification as they are."""
    names = ["auroc", "average_precision", "precision_at_causes", "selected_precision", "selected_recall"]
    found = metrics["identification"]
    measured = [(method, causes, name, found[name]) for name in names]
    measured.append(("plain-loss", "identified", "auroc", found["auroc_of_plain_loss"]))
    keys = ("method", "causes", "metric", "value")
    return [
        *accuracies(method, causes, seed, metrics, "after"),
        *accuracies("base", "none", seed, metrics, "before"),
        *(dict(zip(keys, row, strict=True), seed=seed) for row in measured),
    ]


def accuracies(
    method: str, causes: str, seed: int, metrics: dict[str, Any], when: str
) -> list[dict[str, Any]]:
    """In percent."""
    groups = ["all", "clean_classes", "noisy_classes", "worst_class", "query", "holdout", "remaining"]
    row = {"method": method, "causes": causes, "seed": seed}
    found = {group: metrics["repair"][when][group] for group in groups}
    return [{**row, "metric": group, "value": 100 * v} for group, v in found.items() if v is not None]


def cost_figures(
    method: str, causes: str, seed: int, costs: dict[str, tuple[float, float]]
) -> list[dict[str, Any]]:
    rows = []
    for stage, (seconds, mebibytes) in costs.items():
        for metric, value in ((f"seconds:{stage}", seconds), (f"peak_mib:{stage}", mebibytes)):
            rows.append({"method": method, "causes": causes, "metric": metric, "value": value, "seed": seed})
    return rows


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation (n − 1) over the seeds, with the paper's value where there is one."""
    rows = rows.drop_duplicates(["method", "causes", "metric", "seed"])
    groups = rows.groupby(["method", "causes", "metric"], sort=False)["value"]
    table = groups.agg(mean="mean", std="std", seeds="count").reset_index()
    table["paper"] = [
        PAPER.get((row.method, row.causes), {}).get(row.metric) for row in table.itertuples(index=False)
    ]
    return table


if __name__ == "__main__":
    main()
