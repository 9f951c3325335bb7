"""What the tables of identifications and treatments show of repair.csv and choices.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markdown_tables import Cell, Column, Row, Table, by_metric, mean_and_spread, number
from results_table import REPAIRS


def accuracies(case: str, *, paper: bool) -> tuple[Column, ...]:
    """The columns of a case's repairs, in percent."""
    headings = {
        "all": "all",
        "noisy_classes": "noisy classes",
        "holdout": "held-out failures",
        "remaining": "remaining",
    }
    shown = by_metric(headings, mean_and_spread(1), case)
    said = [Column("paper, all", {"case": case, "metric": "all"}, number("paper"))] if paper else []
    return (*shown, *said)


def repair(label: str, identification: str, treatment: str, causes: str, uses: str = "guard") -> Row:
    shown = {"": "", "found": "found", "true": "true", "right-labels": "no label wrong"}[causes]
    return Row(
        (label, shown, uses), {"identification": identification, "treatment": treatment, "causes": causes}
    )


def ranking(label: str, identification: str) -> Row:
    return Row((label,), {"identification": identification, "treatment": "", "causes": "found"})


def rankings(case: str) -> tuple[Column, ...]:
    """The columns of a case's identifications."""
    headings = {
        "auroc": "AUROC",
        "average_precision": "average precision",
        "selected_precision": "precision of the causes taken",
        "selected_recall": "recall",
    }
    shown = by_metric(headings, mean_and_spread(3), case)
    auroc = {"case": case, "metric": "auroc"}
    said = Column("paper, AUROC", auroc, number("paper", 2))
    return (*shown, said, Column("than the plain loss", auroc, number("mean"), {"identification": "loss"}))


def needing(label: str, needs: str, work: str, identification: str) -> Row:
    """An identification by what it asks for."""
    return Row((label, needs, work), {"identification": identification, "treatment": "", "causes": "found"})


def given(label: str, needs: str, work: str, identification: str, treatment: str, uses: str) -> Row:
    """A repair by what it asks for."""
    where = {"identification": identification, "treatment": treatment, "causes": "found", "uses": uses}
    return Row((label, needs, work), where)


def across(metric: str, cases: Mapping[str, str], cell: Cell) -> tuple[Column, ...]:
    """A column for each case, of one metric."""
    return tuple(Column(heading, {"case": case, "metric": metric}, cell) for case, heading in cases.items())


def all_and_held_out(cases: Mapping[str, str]) -> tuple[Column, ...]:
    """For each case accuracy on all, and then on the failures that were held out."""
    held_out = {case: f"held-out failures, {what}" for case, what in cases.items()}
    return (*across("all", cases, mean_and_spread(1)), *across("holdout", held_out, mean_and_spread(0)))


def deletions(causes: str) -> tuple[Row, ...]:
    """Every treatment with the causes that `second-look` found, or with the true ones, by what it is given."""
    identification = "second-look" if causes == "found" else ""
    guarded = (
        "mend", "relabel", "distil", "negative-gradient", "rdia", "salun", "ewc", "ssse", "newton", "ssd", "finetune",
        "retrain",
    )  # fmt: skip
    given = [(name, "guard") for name in guarded]
    given += [("bir", "reserved"), ("mend-discovery", "discovery")]
    return tuple(repair(f"`{name}`", identification, name, causes, uses) for name, uses in given)


REPORTED = {
    "mnist-label-lenet": "1↔7, 6↔9, 40 %",
    "report-pairs-25": "3↔8, 2↔7, 25 %",
    "report-one-way-30": "4→9, 5→6, 30 %",
    "report-uniform-25": "all, 25 %",
}
"""Cases that no choice of settings has seen, by what is wrong in them."""

CONVOLUTIONS = {"mnist-label-conv4": "1↔7, 6↔9, 40 %, Conv4"}
"""The first of them with another network, likewise."""

DEVELOPED = {
    "pairs-25": "3↔5, 0↔6, 25 %",
    "pairs-40": "2↔3, 7↔9, 40 %",
    "one-way-20": "8→5, 1→2, 20 %",
    "pairwise-10": "five pairs, 10 %",
    "uniform-20": "all, 20 %",
    "uniform-40": "all, 40 %",
}
"""Cases that settings were chosen on, likewise."""

INPUTS = {
    "salt-and-pepper-40": "salt and pepper",
    "gaussian-40": "Gaussian noise",
    "fgsm-40": "FGSM",
    "pgd-40": "PGD",
}
"""Cases of changed inputs, likewise."""

FEWER_INPUTS = {
    "mnist-input-30": "salt and pepper, 30 %",
    "mnist-adv-30": "FGSM, 30 %",
}
"""Those at the rate of the other paper, with half of the failures held out."""

PAPER_INPUTS = {
    "mnist-input-lenet": "salt and pepper, 40 %",
    "mnist-adv-lenet": "FGSM, 40 %",
    **FEWER_INPUTS,
}
"""Cases of changed inputs that no choice of settings has seen, likewise."""

PHOTOGRAPHS = {
    "cifar10-label-resnet20": "plane↔bird, cat↔dog, 40 %",
    "cifar10-uniform-25": "all, 25 %",
}
"""Cases of CIFAR-10 that no choice of settings has seen, likewise."""


def photographs(before: str) -> dict[str, str]:
    """These, with something before what is wrong in them."""
    return {case: f"{before}{label}" for case, label in PHOTOGRAPHS.items()}


EXPECTED = {
    "causes": ("wrong", mean_and_spread(0)),
    "expected_causes": ("expected", mean_and_spread(0)),
    "expected_causes_error": ("its stated error", mean_and_spread(0)),
    "selected_precision": ("precision of the causes taken", mean_and_spread(3)),
    "selected_recall": ("recall", mean_and_spread(3)),
}
"""How many causes there are and how many a second look expects, by metric."""

EVERY_RANKING = (
    ranking("**`second-look`**", "second-look"),
    ranking("`bir-loss`, with a clean set", "bir-loss"),
    ranking("`bir`, with a clean set", "bir"),
    ranking("`knn-shapley`, which sees all of discovery", "knn-shapley"),
    ranking("plain loss", "loss"),
    ranking("`margin`", "margin"),
    ranking("`confident-learning`", "confident-learning"),
    ranking("`self-influence`", "self-influence"),
    ranking("`self-influence-ekfac`", "self-influence-ekfac"),
    ranking("`ewc`", "ewc"),
    ranking("`ewc-full`", "ewc-full"),
    ranking("`online-ewc`", "online-ewc"),
    ranking("`synaptic-intelligence`", "synaptic-intelligence"),
    ranking("`variational`", "variational"),
    ranking("`orthogonal-gradients`", "orthogonal-gradients"),
    ranking("`linear`", "linear"),
    ranking("`linear-diagonal`", "linear-diagonal"),
    ranking("`linear-block`", "linear-block"),
    ranking("`linear-ekfac`", "linear-ekfac"),
    ranking("`sgd-influence`", "sgd-influence"),
    ranking("`random`", "random"),
)

EVERY_REPAIR = (
    repair("before repair", "", "none", "", ""),
    repair("**`mend`**", "second-look", "mend", "found"),
    repair("`second-look`, then `relabel`", "second-look", "relabel", "found"),
    repair("`second-look`, then `ewc`", "second-look", "ewc", "found"),
    repair("`ewc`", "ewc", "ewc", "found"),
    repair("`ewc-full`", "ewc-full", "ewc-full", "found"),
    repair("`ewc-ssse`", "ewc", "ssse", "found"),
    repair("`ewc`, then `ewc-align`", "ewc", "ewc-align", "found"),
    repair("`ssse`", "linear", "ssse", "found"),
    repair("`linear`", "linear", "newton", "found"),
    repair("`linear`, then `rdia`", "linear", "rdia", "found"),
    repair("`online-ewc`", "online-ewc", "online-ewc", "found"),
    repair("`variational`", "variational", "variational", "found"),
    repair("`orthogonal-gradients`", "orthogonal-gradients", "orthogonal-gradients", "found"),
    repair("`synaptic-intelligence`", "synaptic-intelligence", "synaptic-intelligence", "found"),
    repair("`sgd-influence`, then `finetune`", "sgd-influence", "finetune", "found"),
    repair("`confident-learning`, then `finetune`", "confident-learning", "finetune", "found"),
    repair("highest losses dropped, `finetune`", "loss", "finetune", "found"),
    repair("highest losses dropped, `retrain`", "loss", "retrain", "found"),
    repair("lowest margins dropped, `finetune`", "margin", "finetune", "found"),
    repair("`finetune-failures`", "loss", "finetune-failures", "found"),
    repair(
        "highest losses dropped, `finetune-remaining-failures`",
        "loss",
        "finetune-remaining-failures",
        "found",
    ),
    repair(
        "lowest margins dropped, `finetune-remaining-failures`",
        "margin",
        "finetune-remaining-failures",
        "found",
    ),
    repair("`bir`", "bir", "bir", "found", "reserved"),
    repair("`bir-loss`, then `bir`", "bir-loss", "bir", "found", "reserved"),
    repair("`bir-judge`", "bir", "bir-judge", "found", "reserved"),
    repair("`finetune-reserved`", "loss", "finetune-reserved", "found", "reserved"),
    repair("**`second-look`, then `mend-discovery`**", "second-look", "mend-discovery", "found", "discovery"),
    repair("`finetune-discovery`", "loss", "finetune-discovery", "found", "discovery"),
    repair(
        "highest losses dropped, `finetune-remaining-discovery`",
        "loss",
        "finetune-remaining-discovery",
        "found",
        "discovery",
    ),
    repair("lowest values dropped, `finetune`", "knn-shapley", "finetune", "found", "discovery"),
    repair("`mend`", "", "mend", "true"),
    repair("`ewc`", "", "ewc", "true"),
    repair("`ssse`", "", "ssse", "true"),
    repair("`linear`", "", "newton", "true"),
    repair("`bir`", "", "bir", "true", "reserved"),
    repair("`finetune` (semi-oracle)", "", "finetune", "true"),
    repair("`retrain` (gold standard)", "", "retrain", "true"),
    repair("`retrain`", "", "retrain", "right-labels"),
)
"""What a reader may choose from, and what is the limit."""

SHORT = (
    "**`second-look`**", "`bir`, with a clean set", "`knn-shapley`, which sees all of discovery", "plain loss",
    "`margin`", "`confident-learning`", "`ewc`", "`synaptic-intelligence`", "`linear`", "`sgd-influence`",
    "before repair", "**`mend`**", "`bir`", "`second-look`, then `relabel`", "`ewc-ssse`",
    "highest losses dropped, `finetune`", "highest losses dropped, `retrain`", "lowest margins dropped, `finetune`",
    "highest losses dropped, `finetune-remaining-failures`", "lowest margins dropped, `finetune-remaining-failures`",
    "`bir-judge`", "`finetune-reserved`", "**`second-look`, then `mend-discovery`**", "`finetune-discovery`",
    "highest losses dropped, `finetune-remaining-discovery`", "`finetune` (semi-oracle)", "`retrain` (gold standard)",
)  # fmt: skip
"""The labels of those rows that a reader should see first."""


def short(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.labels[0] in SHORT)


NEEDED = (
    needing("`loss`", "the model", "a pass", "loss"),
    needing("`margin`", "the course of its training", "nothing more", "margin"),
    needing("`confident-learning`", "a training recipe", "a training for each fold", "confident-learning"),
    needing("`self-influence`", "the model", "an exact Fisher", "self-influence"),
    needing("`second-look`", "failures, and discovery to judge by", "some epochs", "second-look"),
    needing("`ewc`", "failures", "a diagonal Fisher, a short training on the failures", "ewc"),
    needing(
        "`synaptic-intelligence`",
        "failures, the course of the training",
        "a short training on the failures",
        "synaptic-intelligence",
    ),
    needing("`linear`", "failures", "an exact Fisher, one solve", "linear"),
    needing(
        "`sgd-influence`",
        "failures, the training to replay",
        "a training with its Hessian products",
        "sgd-influence",
    ),
    needing("`bir`", "a clean set", "a few layers trained on it", "bir"),
    needing("`knn-shapley`", "all of discovery", "features, sorted for each query", "knn-shapley"),
)
"""Identifications, by what somebody has."""

ASKED = (
    given("`mend`", "failures, guard", "some epochs", "second-look", "mend", "guard"),
    given(
        "`relabel`", "failures, guard", "a second look, then some epochs", "second-look", "relabel", "guard"
    ),
    given("`ewc`", "failures, guard", "some epochs", "ewc", "ewc", "guard"),
    given("`ssse`", "failures, guard", "one step with an exact Fisher", "ewc", "ssse", "guard"),
    given(
        "highest losses dropped, `finetune-remaining-failures`",
        "failures, guard",
        "some epochs",
        "loss",
        "finetune-remaining-failures",
        "guard",
    ),
    given("highest losses dropped, `retrain`", "failures, guard", "a training", "loss", "retrain", "guard"),
    given("`bir`", "a clean set", "some epochs of a few layers", "bir", "bir", "reserved"),
    given("`finetune-reserved`", "a clean set", "some epochs on it", "loss", "finetune-reserved", "reserved"),
    given(
        "`mend-discovery`", "all of discovery", "some epochs", "second-look", "mend-discovery", "discovery"
    ),
    given(
        "`finetune-discovery`",
        "all of discovery",
        "some epochs on it",
        "loss",
        "finetune-discovery",
        "discovery",
    ),
)
"""Treatments, with causes found by what goes with them, by what somebody has."""


def divided(identification: str, clusters: str) -> Row:
    """An identification whose failures are in so many clusters."""
    setting = f"failures.clusters={clusters}"
    where = {"setting": setting, "identification": identification, "treatment": "", "causes": "found"}
    return Row((f"`{identification}`", f"`{clusters}`"), where)


def of_each_corruption(case: str, corruptions: Mapping[str, str]) -> tuple[Column, ...]:
    """Share found and area under the ROC curve, of each of several corruptions."""
    metrics = {"selected_recall": "found", "auroc": "AUROC"}
    return tuple(
        Column(f"{heading}, {words}", {"case": case, "metric": f"{metric}:{name}"}, mean_and_spread(2))
        for name, words in corruptions.items()
        for metric, heading in metrics.items()
    )


def kinds(case: str, few: str) -> Table:
    """What was found of two kinds of wrong labels, with failures in so many clusters."""
    return Table(
        file="choices.csv",
        names=("case", "setting", *REPAIRS[1:]),
        labels=("identification", "`failures.clusters`"),
        columns=of_each_corruption(case, {"few": few, "many": "2↔3, 7↔9"}),
        rows=tuple(
            divided(identification, clusters)
            for identification in ("linear", "ewc", "second-look", "loss", "margin")
            for clusters in ("none", "4", "8", "auto")
            # Which look at no failures, so that dividing these changes nothing.
            if clusters == "none" or identification not in ("loss", "margin")
        ),
    )


def of_repairs(labels: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """A table from repair.csv; its labels are cut at commas."""
    return Table("repair.csv", REPAIRS, tuple(labels.split(", ")), tuple(columns), tuple(rows))


AUROC = mean_and_spread(3)
ONE_DIGIT = mean_and_spread(1)
BY_GIVEN = "method, causes, uses"

TABLES_OF_REPAIRS = {
    "clusters": kinds("two-kinds", "5↔8, 10 %"),
    "clusters-30": kinds("two-kinds-30", "8→5, 30 %"),
    "choosing-identification": of_repairs(
        "identification, needs, work", across("auroc", REPORTED, AUROC), NEEDED
    ),
    "choosing-treatment": of_repairs("treatment, needs, work", across("all", REPORTED, ONE_DIGIT), ASKED),
    "rankings-development": of_repairs("AUROC", across("auroc", DEVELOPED, AUROC), EVERY_RANKING),
    "expected": of_repairs(
        "case",
        tuple(Column(heading, {"metric": metric}, cell) for metric, (heading, cell) in EXPECTED.items()),
        tuple(
            Row((label,), {"case": case, "identification": "second-look", "treatment": "", "causes": "found"})
            for case, label in {
                **DEVELOPED,
                **REPORTED,
                **CONVOLUTIONS,
                **photographs("photographs, "),
            }.items()
        ),
    ),
    "repair-development": of_repairs(BY_GIVEN, across("all", DEVELOPED, ONE_DIGIT), EVERY_REPAIR),
    "repair-inputs": of_repairs(BY_GIVEN, all_and_held_out(INPUTS), EVERY_REPAIR),
    "rankings-paper-inputs": of_repairs("AUROC", across("auroc", PAPER_INPUTS, AUROC), EVERY_RANKING),
    "repair-paper-noise": of_repairs(BY_GIVEN, accuracies("mnist-input-lenet", paper=True), EVERY_REPAIR),
    "repair-paper-attacks": of_repairs(BY_GIVEN, accuracies("mnist-adv-lenet", paper=True), EVERY_REPAIR),
    "repair-fewer-inputs": of_repairs(BY_GIVEN, all_and_held_out(FEWER_INPUTS), EVERY_REPAIR),
    "rankings-photographs": of_repairs("AUROC", across("auroc", PHOTOGRAPHS, AUROC), EVERY_RANKING),
    "repair-photographs": of_repairs(BY_GIVEN, all_and_held_out(PHOTOGRAPHS), EVERY_REPAIR),
    "rankings-short": of_repairs("identification", rankings("mnist-label-lenet"), short(EVERY_RANKING)),
    "repair-short": of_repairs(BY_GIVEN, accuracies("mnist-label-lenet", paper=True), short(EVERY_REPAIR)),
    "rankings-lenet": of_repairs("identification", rankings("mnist-label-lenet"), EVERY_RANKING),
    "rankings-report": of_repairs("AUROC", across("auroc", REPORTED, AUROC), EVERY_RANKING),
    "treatments-lenet": of_repairs(
        "treatment, causes, uses",
        accuracies("mnist-label-lenet", paper=True),
        (repair("before repair", "", "none", "", ""), *deletions("found"), *deletions("true")),
    ),
    "repair-pairs": of_repairs(BY_GIVEN, accuracies("report-pairs-25", paper=False), EVERY_REPAIR),
    "repair-one-way": of_repairs(BY_GIVEN, accuracies("report-one-way-30", paper=False), EVERY_REPAIR),
    "repair-uniform": of_repairs(BY_GIVEN, accuracies("report-uniform-25", paper=False), EVERY_REPAIR),
    "rankings-conv4": of_repairs("identification", rankings("mnist-label-conv4"), EVERY_RANKING),
    "repair-conv4": of_repairs(BY_GIVEN, accuracies("mnist-label-conv4", paper=True), EVERY_REPAIR),
    "repair-lenet": of_repairs(BY_GIVEN, accuracies("mnist-label-lenet", paper=True), EVERY_REPAIR),
}
