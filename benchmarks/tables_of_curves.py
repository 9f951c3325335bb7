"""What the tables beside the pictures of removal.csv and efficiency.csv show: some points of each curve."""

from __future__ import annotations

import pandas as pd

from markdown_tables import Column, Row, Table, mean_and_spread

CASE = "mnist-label-lenet"
REMOVED = (0, 100, 200, 400, 700, 1500)
COUNTS = {10: "10", 20: "20", 30: "30", 50: "50", 100: "100", 200: "200", float("inf"): "all"}
MEASURES = {"auroc": "AUROC", "holdout": "held-out failures, %"}
REMOVALS = {
    "`second-look`": "second-look",
    "`ewc`": "ewc",
    "`synaptic-intelligence`": "synaptic-intelligence",
    "`online-ewc`": "online-ewc",
    "`ewc-full`": "ewc-full",
    "`linear`": "linear",
    "`bir`, with a clean set": "bir",
    "`knn-shapley`, which sees all of discovery": "knn-shapley",
    "plain loss": "loss",
    "`margin`": "margin",
    "`confident-learning`": "confident-learning",
    "`self-influence`": "self-influence",
    "random": "random",
}


def of_measure(row: pd.Series) -> str:
    return mean_and_spread(3 if row["metric"] == "auroc" else 1)(row)


def one(given: str, identification: str, treatment: str, metric: str) -> Row:
    """An identification, or a pair, of which so much is measured as there is more or less of what is given."""
    label = f"`{identification}`" + (f", then `{treatment}`" if treatment else "")
    where = {"given": given, "identification": identification, "treatment": treatment, "metric": metric}
    return Row((label, MEASURES[metric]), where)


def fewer(given: str, *pairs: tuple[str, str]) -> Table:
    """Rankings and repairs of pairs, by how many failures or clean examples there are."""
    alone = dict.fromkeys(identification for identification, _ in pairs)
    return Table(
        file="efficiency.csv",
        names=("case", "given", "identification", "treatment", "metric"),
        labels=("method", ""),
        columns=tuple(
            Column(heading, {"case": CASE, "count": count}, of_measure) for count, heading in COUNTS.items()
        ),
        rows=(
            *(one(given, identification, "", "auroc") for identification in alone),
            *(one(given, *pair, "holdout") for pair in pairs),
        ),
    )


TABLES_OF_CURVES = {
    "removal": Table(
        file="removal.csv",
        names=("case", "identification", "metric"),
        labels=("highest scores of",),
        columns=tuple(
            Column(str(count), {"case": CASE, "metric": "holdout", "removed": count}, mean_and_spread(1))
            for count in REMOVED
        ),
        rows=tuple(Row((label,), {"identification": name}) for label, name in REMOVALS.items()),
    ),
    "fewer-failures": fewer(
        "failures",
        ("second-look", "mend"),
        ("ewc", "ewc"),
        ("ewc-full", "ewc-full"),
        ("linear", "newton"),
        ("linear", "ssse"),
        ("loss", "finetune-failures"),
        ("loss", "finetune-remaining-failures"),
    ),
    "fewer-clean": fewer(
        "reserved", ("bir", "bir"), ("bir", "bir-judge"), ("bir-loss", "bir"), ("loss", "finetune-reserved")
    ),
}
