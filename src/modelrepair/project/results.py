"""What the last run of the pipeline found and repaired, in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelrepair.errors import RepairError
from modelrepair.pipeline.artifacts import read_json

TEST_ROWS = {
    "query": "failures shown to the method",
    "holdout": "failures held out",
    "remaining": "what was right before",
    "all": "all",
    "clean_classes": "clean classes",
    "noisy_classes": "noisy classes",
}
TRAINING_ROWS = {"erased": "erased", "kept": "kept"}
GIVEN = {
    "failures": "the failures",
    "guard": "the failures, and accuracy on discovery to judge by",
    "request": "the request",
}


def show_results(root: Path) -> None:
    """Print them, and where page and pictures are.

    Args:
        root: the folder of the pipeline.

    Raises:
        RepairError: if there are none, or none of this version.
    """
    metrics, intervals = (_results(root / f"metrics/{name}.json") for name in ("repair", "intervals"))
    used, found = metrics["used"], metrics["identification"]
    repair, erasure = metrics["repair"], metrics["erasure"]
    requested = used["uses"] == "request"
    what = "erased" if requested else "took as causes"
    print(f"\nMethod {used['method']}: {what} {found['selected']} training examples")
    print("  identification {identification}, selection {selection}, treatment {treatment}".format(**used)
          + f"; given {GIVEN.get(used['uses'], used['uses'])}")  # fmt: skip
    if found.get("auroc") is not None:
        print(f"  {_percent(found['selected_precision'])} of them are corrupted (precision), "
              f"AUROC {found['auroc']:.3f}; plain loss {found['auroc_of_plain_loss']:.3f}")  # fmt: skip
    if found.get("expected_causes") is not None:
        known = f"; {found['causes']} are" if found.get("causes") is not None else ""
        expected = f"{found['expected_causes']:.0f} ± {found['expected_causes_error']:.0f}"
        print(f"  {expected} were expected to be wrong{known}")
    # Without noise put in on purpose there are no noisy classes to tell from clean ones.
    noisy = repair["before"]["noisy_classes"] is not None
    _table(
        "accuracy on test examples",
        {group: label for group, label in TEST_ROWS.items() if noisy or not group.endswith("_classes")},
        repair,
        intervals["after"],
    )
    _table("accuracy on training examples, by their labels", TRAINING_ROWS, erasure)
    if requested:
        before, after = (erasure[when]["membership_auc"] for when in ("before", "after"))
        if before is not None:
            print(f"\n  told from unseen examples by their loss (area under the curve; 0.5 is chance): "
                  f"{before:.2f} before, {after:.2f} after")  # fmt: skip
    print(f"\n  {repair['fixed']} test examples fixed, {repair['broken']} broken")
    if reference := metrics.get("reference"):
        print(f"  beside it, {reference['what']}: {_percent(reference['after']['all'])} of all right, "
              f"{reference['fixed']} fixed, {reference['broken']} broken")  # fmt: skip
    if (root / "metrics/page.html").is_file():
        print("  page: metrics/page.html, to look at suspects and failures and to decide for yourself")
    if (root / "metrics/pictures").is_dir():
        print("  pictures: metrics/pictures/ (summary.png first); in a browser: dvc plots show\n")
    else:
        print("  pictures: none here yet; `dvc repro` draws them\n")


def _results(path: Path) -> dict[str, Any]:
    """What evaluate wrote. It is not in DVC's cache, so that nothing but running the pipeline brings it back."""
    if not path.is_file():
        raise RepairError("there are no results to show yet: run `dvc repro`, which makes them")
    try:
        content: dict[str, Any] = read_json(path)
    except RepairError:
        raise RepairError(f"{path} cannot be read: run `dvc repro`, which writes it anew") from None
    if not {"used", "after"} & set(content):
        raise RepairError(f"{path} is of an earlier version: run `dvc repro`, which writes it anew")
    return content


def _table(
    title: str,
    rows: dict[str, str],
    values: dict[str, Any],
    sure: dict[str, list[float] | None] | None = None,
) -> None:
    print(f"\n  {title:48}{'before':>9}{'after':>9}" + (f"{'95 % interval':>17}" if sure else ""))
    for group, label in rows.items():
        ends = (sure or {}).get(group)
        interval = f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if ends else ""
        cells = f"{_percent(values['before'][group]):>9}{_percent(values['after'][group]):>9}{interval:>17}"
        print(f"  {label:48}{cells.rstrip()}")


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"
