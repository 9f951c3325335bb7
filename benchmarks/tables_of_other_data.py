"""What the table of other_data.csv shows."""

from __future__ import annotations

from markdown_tables import Column, Row, Table, mean_and_spread
from other_problems import DATA, EPOCHS, KEYS, RATES

HEADINGS = {
    "before": "before",
    "mend": "**`mend`**",
    "loss, on with the failures": "highest losses dropped, on with the failures",
    "mend-discovery": "**`mend-discovery`**",
    "loss, on with discovery": "highest losses dropped, on with discovery",
    "true causes, mend": "`mend`, true causes",
    "true causes, retrain": "retrained, true causes",
}
ACCURACIES = tuple(
    Column(heading, {"method": method, "metric": "all"}, mean_and_spread(1))
    for method, heading in HEADINGS.items()
)
FOUND = (
    Column("known by heart, %", {"method": "before", "metric": "known_by_heart"}, mean_and_spread(0)),
    Column("wrong", {"method": "before", "metric": "wrong"}, mean_and_spread(0)),
    Column("taken", {"method": "mend", "metric": "causes"}, mean_and_spread(0)),
    Column("precision", {"method": "mend", "metric": "precision"}, mean_and_spread(2)),
    Column("AUROC", {"method": "mend", "metric": "auroc"}, mean_and_spread(3)),
    Column(
        "AUROC of the loss", {"method": "loss, on with the failures", "metric": "auroc"}, mean_and_spread(3)
    ),
)
GAINED = tuple(
    Column(heading, {"method": method, "metric": "gain"}, mean_and_spread(1))
    for method, heading in {
        "mend, of ten": "**`mend`**",
        "loss, on with the failures, of ten": "highest losses dropped, on with the failures",
    }.items()
)


def of_problems(columns: tuple[Column, ...]) -> Table:
    """A row for each kind of data, network and wrong labels."""
    labels = [f"{name}, {100 * rate:.0f} %" for name, rate in RATES["report"].items()]
    return Table(
        file="other_data.csv",
        names=tuple(KEYS),
        labels=("data", "network", "wrong labels"),
        columns=columns,
        rows=tuple(
            Row((data, network, wrong), {"data": data, "network": network, "labels": wrong})
            for data in DATA["report"]
            for network in EPOCHS
            for wrong in labels
        ),
    )


TABLES_OF_OTHER_DATA = {
    "other-data": of_problems(ACCURACIES),
    "other-data-causes": of_problems(FOUND),
    "other-data-few": of_problems(GAINED),
}
