"""Print what the last run of the pipeline found and repaired, and where its pictures are."""

from __future__ import annotations

import sys
from pathlib import Path

from modelrepair.artifacts import read_json
from modelrepair.errors import RepairError

ROOT = Path(__file__).parents[1]
ROWS = {
    "query": "failures shown to the method",
    "holdout": "failures held out",
    "remaining": "what was right before",
    "all": "all",
    "clean_classes": "clean classes",
    "noisy_classes": "noisy classes",
}


def main() -> None:
    method = read_json(ROOT / "data/method/name.json")
    metrics = read_json(ROOT / "metrics/repair.json")
    found, repair = metrics["identification"], metrics["repair"]
    print(f"\nMethod {method}: took {found['selected']} training examples as causes")
    if found["auroc"] is not None:
        print(f"  {percent(found['selected_precision'])} of them are corrupted (precision), "
              f"AUROC {found['auroc']:.3f}; plain loss {found['auroc_of_plain_loss']:.3f}")  # fmt: skip
    print(f"\n  {'accuracy on test examples':32}{'before':>9}{'after':>9}")
    for group, label in ROWS.items():
        before, after = repair["before"][group], repair["after"][group]
        print(f"  {label:32}{percent(before):>9}{percent(after):>9}")
    print(f"\n  {repair['fixed']} test examples fixed, {repair['broken']} broken")
    print("  pictures: metrics/pictures/ (summary.png first); in a browser: dvc plots show\n")


def percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


if __name__ == "__main__":
    try:
        main()
    except RepairError as error:
        sys.exit(f"there are no results to show: {error}")
