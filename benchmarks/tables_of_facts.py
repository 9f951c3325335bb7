"""What the tables of treatments of facts show of facts.csv."""

from __future__ import annotations

from markdown_tables import Column, Row, Table, by_metric, mean_and_spread, number
from results_table import REPAIRS

EDITS = {
    "success": "success",
    "equivalence": "in other words",
    "retain": "others kept",
    "retain_hidden": "others never asked for",
}
"""What is measured of edits, in words."""


def edited(label: str, identification: str, treatment: str, causes: str) -> Row:
    """A treatment of facts."""
    return Row((label, causes), {"identification": identification, "treatment": treatment, "causes": causes})


def editing(case: str) -> Table:
    """What treatments do to facts, all failures of the query at once."""
    headings = {**EDITS, "portability": "portability", "false_rate": "false rate"}
    ratio = {"case": case, "metric": "forgotten_per_learned"}
    return Table(
        file="facts.csv",
        names=REPAIRS,
        labels=("treatment", "causes"),
        columns=(
            *by_metric(headings, mean_and_spread(1), case),
            Column("paper, false rate", {"case": case, "metric": "false_rate"}, number("paper")),
            Column("forgotten per learned", ratio, mean_and_spread(3)),
            Column("paper", ratio, number("paper", 3)),
        ),
        rows=(
            Row(("before", ""), {"identification": "", "treatment": "none", "causes": ""}),
            edited("**`calinet`**", "ewc", "calinet", "found"),
            edited("`calinet`", "", "calinet", "true"),
            edited("CALINET as published", "", "calinet-published", "true"),
            edited("`lora-selector`", "ewc", "lora-selector", "found"),
            edited("LoRA, always on", "", "lora", "true"),
            edited("`kadapter-selector`", "ewc", "kadapter-selector", "found"),
            edited("K-adapter, always on", "", "kadapter", "true"),
            edited("`knowledge-editor`, all edits in one sum", "ewc", "knowledge-editor", "found"),
            edited("`closed-form`, by one solve", "ewc", "closed-form", "found"),
            edited("`closed-form`, fact after fact, unguarded", "ewc", "closed-form-in-a-row", "found"),
            edited("`mend-restated`", "ewc", "mend-restated", "found"),
            edited("`mend-restated`", "", "mend-restated", "true"),
            edited("`finetune-restated`", "ewc", "finetune-restated", "found"),
            edited("`mend`", "ewc", "mend", "found"),
            edited("fine-tuning on the failures", "loss", "tuned", "found"),
            edited("the same, first layer", "loss", "tuned-first-layer", "found"),
            edited("the same by EWC", "loss", "tuned-ewc", "found"),
        ),
    )


def pretrained(case: str) -> Table:
    """What a pretrained model makes of facts, and what editors make of it."""
    percent = {**EDITS, "all": "right of all", "false_rate": "false rate"}
    costs = {"perplexity": "perplexity of right answers", "seconds:treat": "seconds", "peak_mib:treat": "MiB"}
    return Table(
        file="pretrained.csv",
        names=REPAIRS,
        labels=("treatment",),
        columns=(
            *by_metric(percent, mean_and_spread(1), case),
            *by_metric(costs, mean_and_spread(0), case),
        ),
        rows=(
            Row(("before",), {"identification": "", "treatment": "none", "causes": ""}),
            *(
                Row((f"`{name}`",), {"identification": "loss", "treatment": name, "causes": "found"})
                for name in ("calinet", "lora-selector", "finetune-failures")
            ),
        ),
    )


def edits(when: str, words: str) -> tuple[Row, ...]:
    """What editors do to single facts."""
    measures = {"success": "success", "equivalence": "in other words", "retain": "others kept"}
    return tuple(Row((words, heading), {"metric": f"{name}:{when}"}) for name, heading in measures.items())


FACT_CASES = {"report-facts-small-10": "`facts`", "report-pararel-small-10": "`pararel`"}
"""Cases of facts that no choice of settings has seen, by their data."""


EDITORS = {
    "report-facts-small-10": ("knowledge-editor", "closed-form-in-a-row"),
    "report-pararel-small-10": ("closed-form-in-a-row",),
}
"""Treatments of these cases that can edit one fact by itself."""


def by_editor(treatment: str, case: str) -> dict[str, str]:
    """The rows of one of them."""
    return {"case": case, "identification": "ewc", "treatment": treatment, "causes": "found"}


def told(label: str, identification: str, treatment: str, metric: str) -> Row:
    """How well something tells what is false."""
    causes = "found" if identification else ""
    where = {"identification": identification, "treatment": treatment, "causes": causes, "metric": metric}
    return Row((label,), where)


TABLES_OF_FACTS = {
    "editing-facts": editing("report-facts-small-10"),
    "editing-all-facts": editing("report-facts-10"),
    "editing-pararel": editing("report-pararel-small-10"),
    "editing-pretrained": pretrained("pretrained-facts"),
    "edits-of-facts": Table(
        file="facts.csv",
        names=REPAIRS,
        labels=("edits", ""),
        columns=(
            *(
                Column(
                    f"`{editor.removesuffix('-in-a-row')}`, {data}",
                    by_editor(editor, case),
                    mean_and_spread(1),
                )
                for case, data in FACT_CASES.items()
                for editor in EDITORS[case]
            ),
            Column(
                "paper, `knowledge-editor`, zsRE",
                by_editor("knowledge-editor", "report-facts-small-10"),
                number("paper", 2),
            ),
        ),
        rows=(
            *edits("single", "one by one, 100 at most"),
            *edits("after_1", "in a row, after 1"),
            *edits("after_10", "after 10"),
            *edits("after_all", "after all, 100 at most"),
        ),
    ),
    "finding-facts": Table(
        file="facts.csv",
        names=REPAIRS,
        labels=("AUROC",),
        columns=tuple(
            Column(heading, {"case": case}, mean_and_spread(3))
            for case, heading in {**FACT_CASES, "report-facts-10": "all of `facts`"}.items()
        ),
        rows=(
            told("false facts, by a wrong answer", "", "none", "auroc_of_answer"),
            told("false facts, by CKA", "", "none", "auroc_of_assessment"),
            told("the sentences that taught the failures, by `ewc`", "ewc", "", "auroc_of_edited"),
            told("the same, by the loss", "loss", "", "auroc_of_edited"),
        ),
    ),
}
