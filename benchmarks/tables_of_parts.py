"""What the tables of repair.csv show where a part of the corrupted examples is known (Goel et al. 2024)."""

from __future__ import annotations

from markdown_tables import Row, Table, by_metric, mean_and_spread
from results_table import REPAIRS

KNOWN = {"10 %": "10", "50 %": "50", "all": "100"}
"""How many are known, by what the results call it."""
MEASURED = {
    "confusion-50": {"corrected_accuracy": "confused", "retained_accuracy": "others"},
    "backdoor-2": {
        "corrected_accuracy": "with the patch",
        "retained_accuracy": "others",
        "trigger_success": "patch works",
    },
}
TREATMENTS = (
    "mend", "relabel", "ewc", "ssse", "ssd", "distil", "negative-gradient", "salun", "rdia", "finetune",
    "finetune-remaining-failures", "retrain",
)  # fmt: skip
GROWN = ("mend", "relabel", "negative-gradient", "ssd", "finetune", "finetune-remaining-failures", "retrain")


def known_parts(case: str) -> Table:
    """What treatments do with 10, 50 and 100 % of the causes, and with what `grow` finds by 10 %; in percent."""
    return Table(
        file="repair.csv",
        names=REPAIRS,
        labels=("treatment", "causes"),
        columns=by_metric(MEASURED[case], mean_and_spread(1), case),
        rows=(
            Row(("before", ""), {"identification": "", "treatment": "none", "causes": ""}),
            Row(
                ("**`mend`**, which is told of none", "found"),
                {"identification": "second-look", "treatment": "mend", "causes": "found"},
            ),
            *(
                _row(name, f"{words} known", "", f"true-{share}")
                for words, share in KNOWN.items()
                for name in TREATMENTS
            ),
            *(_row(name, "10 % known, the rest by `grow`", "grow", "found-10") for name in GROWN),
        ),
    )


def _row(treatment: str, words: str, identification: str, causes: str) -> Row:
    where = {"identification": identification, "treatment": treatment, "causes": causes}
    return Row((f"**`{treatment}`**" if treatment == "mend" else f"`{treatment}`", words), where)


TABLES_OF_PARTS = {f"known-parts-{case}": known_parts(case) for case in MEASURED}
