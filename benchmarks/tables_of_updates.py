"""What the tables of datamodelling.csv and in_a_row.csv show."""

from __future__ import annotations

from markdown_tables import Column, Row, Table, mean_and_spread
from tables_of_curves import of_measure

FORESEEING = {
    "`sgd-influence`": "trajectory",
    "`linear`, exact matrix": "linear, gram",
    "`linear`, conjugate gradients": "linear, cg",
    "`linear`, EKFAC": "linear, ekfac",
    "`ewc`": "loss-change, ewc",
    "plain loss": "loss",
}
MEASURED = {
    "auroc": ("insert", "failures inserted: AUROC"),
    "holdout": ("delete", "causes deleted: held-out failures, %"),
    "remaining": ("delete", "causes deleted: what was right, %"),
}


def in_a_row(update: str, metric: str) -> Row:
    operation, heading = MEASURED[metric]
    return Row((f"`{update}`", heading), {"update": update, "operation": operation, "metric": metric})


TABLES_OF_UPDATES = {
    "datamodelling": Table(
        file="datamodelling.csv",
        names=("optimiser", "score"),
        labels=("score",),
        columns=tuple(
            Column(heading, {"optimiser": name}, mean_and_spread(3))
            for name, heading in (("sgd", "SGD"), ("momentum", "with momentum"), ("adam", "Adam"))
        ),
        rows=tuple(Row((label,), {"score": score}) for label, score in FORESEEING.items()),
    ),
    "in-a-row": Table(
        file="in_a_row.csv",
        names=("update", "operation", "metric"),
        labels=("update", ""),
        columns=tuple(
            Column("at once" if count == 1 else f"{count} in a row", {"pieces": count}, of_measure)
            for count in (1, 2, 5, 20)
        ),
        rows=tuple(
            in_a_row(update, metric) for metric in MEASURED for update in ("ewc", "online-ewc", "variational")
        ),
    ),
}
