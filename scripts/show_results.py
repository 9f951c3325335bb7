"""Print what the last run of the pipeline found and repaired, and where its pictures are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from modelrepair.artifacts import read_json
from modelrepair.errors import RepairError

ROOT = Path(__file__).parents[1]
TEST_ROWS = {
    "query": "failures shown to the method",
    "holdout": "failures held out",
    "remaining": "what was right before",
    "all": "all",
    "clean_classes": "clean classes",
    "noisy_classes": "noisy classes",
}
TRAINING_ROWS = {"erased": "erased", "kept": "kept"}


def main() -> None:
    method = read_json(ROOT / "data/method/name.json")
    requested = read_json(ROOT / "data/method/influence.json")["score"] == "none"
    metrics = read_json(ROOT / "metrics/repair.json")
    found, repair, erasure = metrics["identification"], metrics["repair"], metrics["erasure"]
    what = "erased" if requested else "took as causes"
    print(f"\nMethod {method}: {what} {found['selected']} training examples")
    if found["auroc"] is not None and not requested:
        print(f"  {percent(found['selected_precision'])} of them are corrupted (precision), "
              f"AUROC {found['auroc']:.3f}; plain loss {found['auroc_of_plain_loss']:.3f}")  # fmt: skip
    table("accuracy on test examples", TEST_ROWS, repair)
    table("accuracy on training examples, by their labels", TRAINING_ROWS, erasure)
    if requested:
        before, after = (erasure[when]["membership_auc"] for when in ("before", "after"))
        if before is not None:
            print(f"\n  told from unseen examples by their loss (area under the curve; 0.5 is chance): "
                  f"{before:.2f} before, {after:.2f} after")  # fmt: skip
    print(f"\n  {repair['fixed']} test examples fixed, {repair['broken']} broken")
    print("  pictures: metrics/pictures/ (summary.png first); in a browser: dvc plots show\n")


def table(title: str, rows: dict[str, str], values: dict[str, Any]) -> None:
    print(f"\n  {title:48}{'before':>9}{'after':>9}")
    for group, label in rows.items():
        print(f"  {label:48}{percent(values['before'][group]):>9}{percent(values['after'][group]):>9}")


def percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


if __name__ == "__main__":
    try:
        main()
    except RepairError as error:
        sys.exit(f"there are no results to show: {error}")
