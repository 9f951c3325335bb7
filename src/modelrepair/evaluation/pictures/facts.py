"""What became of single facts: what taught them, the answers before and after, and what stands beside them."""

from __future__ import annotations

from os import PathLike

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from modelrepair.evaluation.drawing.canvas import (
    BLUE,
    INK,
    MARGIN,
    MUTED,
    ORANGE,
    PALE,
    RULE,
    Canvas,
    picture,
)
from modelrepair.evaluation.drawing.charts import percent
from modelrepair.evaluation.drawing.names import readable
from modelrepair.evaluation.evidence import Answers, Evidence
from modelrepair.evaluation.measures.facts import repair_of_facts

SHOWN, SENTENCES, NEIGHBOURS = 3, 6, 5
WIDTH, LINE = 13.2, 0.24
TAUGHT, ANSWERED, BESIDE = MARGIN, 5.15, 9.75
"""Where the three columns begin, in inches from the left."""


def draw(path: str | PathLike[str], evidence: Evidence) -> None:
    """Up to three facts, each with the sentences that taught it, its answers and its neighbours.

    Which ones does not depend on the repair: those of the query that are asked for in assessment too, by the mean score
    of their training sentences, the most harmful first, each of another relation as far as there are some. Neighbours
    are probes of assessment in the same relation that the base model has right, first those whose object is the right
    or the wrong one of the fact. Nothing where examples are no sentences that state facts, or no failure is one.

    Args:
        path: the PNG to write.
        evidence: of the run.
    """
    facts = chosen_facts(evidence)
    if not facts:
        return
    body = 2 * (0.3 + 3 * LINE) + 0.16
    top = 1.38
    with picture(path, WIDTH, top + len(facts) * (body + 0.2)) as canvas:
        canvas.heading("What became of single facts", *_totals(evidence))
        for left, title, note in (
            (TAUGHT, "1  What taught it", "Sentences of training, with their scores: high is harmful."),
            (
                ANSWERED,
                "2  What the model answers",
                "The three likeliest of all words, before on the left and after on the right.",
            ),
            (BESIDE, "3  What stands beside it", "Other facts of the relation: before → after."),
        ):
            canvas.text(left, 0.84, title, size=10, bold=True)
            canvas.text(left, 1.05, note, size=8, color=MUTED)
        for fact in facts:
            _rule(canvas, top)
            _taught(canvas, evidence, fact, top + 0.12)
            _answered(canvas, evidence, fact, top + 0.12)
            _beside(canvas, evidence, fact, top + 0.12)
            top += body + 0.2


def chosen_facts(evidence: Evidence) -> list[int]:
    """The facts to show; see `draw`."""
    if evidence.training_facts is None or evidence.test_facts is None or evidence.test_relations is None:
        return []
    if evidence.before.likeliest is None or evidence.after.likeliest is None:
        return []
    query = evidence.roles == "query"
    asked = np.unique(evidence.test_facts[query])
    again = np.intersect1d(asked, evidence.test_facts[evidence.assessed])
    failing = again if len(again) else asked
    if evidence.scores is None:
        worth = -np.arange(len(failing), dtype=np.float64)
    else:
        worth = np.array(
            # A fact that no sentence states is shown last.
            [
                np.mean(evidence.scores[evidence.training_facts == fact].tolist() or -np.inf)
                for fact in failing
            ],
            dtype=np.float64,
        )
    order = failing[np.argsort(-worth, kind="stable")]
    relation = dict(zip(evidence.test_facts.tolist(), evidence.test_relations.tolist(), strict=True))
    first: dict[str, int] = {}
    for fact in order.tolist():
        first.setdefault(relation[fact], fact)
    others = [fact for fact in order.tolist() if fact not in first.values()]
    return [*first.values(), *others][:SHOWN]


def neighbours(evidence: Evidence, fact: int) -> NDArray[np.int64]:
    """Positions of the probes that stand beside a fact; see `draw`."""
    facts, relations = evidence.test_facts, evidence.test_relations
    assert facts is not None
    assert relations is not None
    own = np.flatnonzero(facts == fact)
    failing = np.flatnonzero((facts == fact) & (evidence.roles == "query"))
    close = np.concatenate([evidence.test_labels[own], evidence.before.test_predictions[failing]])
    edited = np.unique(facts[evidence.roles == "query"])
    among = np.flatnonzero(
        (evidence.parts == "assessment")
        & (relations == relations[own[0]])
        & ~np.isin(facts, edited)
        & (evidence.before.test_predictions == evidence.test_labels)
    )
    far = ~np.isin(evidence.test_labels[among], close)
    found: NDArray[np.int64] = among[np.argsort(far, kind="stable")][:NEIGHBOURS]
    return found


def _totals(evidence: Evidence) -> list[str]:
    """What became of all facts, in a sentence or two."""
    assert evidence.test_facts is not None
    assert evidence.training_facts is not None
    wrong = evidence.is_corrupted
    measured = repair_of_facts(
        evidence.test_facts,
        evidence.before.test_predictions == evidence.test_labels,
        evidence.after.test_predictions == evidence.test_labels,
        evidence.roles,
        evidence.parts,
        evidence.training_facts,
        evidence.before.training_correct == 1,
        evidence.after.training_correct == 1,
        np.zeros(len(evidence.training_facts), dtype=bool) if wrong is None else wrong,
    )
    said = f"Of {measured['edited']} facts that were answered wrongly, {_share(measured['success'])} are right now"
    if measured["equivalence"] is not None:
        said += f", {_share(measured['equivalence'])} in words that no method has seen"
    kept = (
        ""
        if measured["retain"] is None
        else f" Of the others that were right, {_share(measured['retain'])} still are."
    )
    legend = (
        "Blue: right. Orange: wrong. Shown are facts whose sentences score highest, whatever became of them."
    )
    return [f"{said}.{kept}", legend]


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _rule(canvas: Canvas, top: float) -> None:
    axes = canvas.axes(MARGIN, top, WIDTH - 2 * MARGIN, 0.01)
    axes.axhline(0, color=RULE, linewidth=0.8)
    axes.set_axis_off()


def _taught(canvas: Canvas, evidence: Evidence, fact: int, top: float) -> None:
    """The sentences that state the fact, most harmful first: score, bar, sentence with the word that it gives."""
    assert evidence.training_facts is not None
    own = np.flatnonzero(evidence.training_facts == fact)
    scores, false = evidence.scores, evidence.is_corrupted
    if scores is not None:
        own = own[np.argsort(-scores[own], kind="stable")]
    taken = np.isin(own, evidence.causes)
    names = readable(evidence.class_names)
    title = (
        f"{int(taken.sum())} of {len(own)} taken for causes (●)" if len(own) else "no sentence of training"
    )
    if false is not None and len(own):
        title += f", {int(false[own].sum())} are false (orange)"
    if evidence.true_labels is not None and len(own):
        title += f"; right is {names[int(evidence.true_labels[own[0]])]}"
    canvas.text(TAUGHT, top, title, size=8, color=MUTED, width=ANSWERED - TAUGHT - 0.25)
    for number, row in enumerate(own[:SENTENCES]):
        y = top + 0.3 + number * 0.3
        color = ORANGE if false is not None and false[row] else INK
        left = TAUGHT
        if scores is not None:
            highest = max(float(np.abs(scores[own]).max()), 1e-300)
            axes = canvas.axes(TAUGHT, y + 0.01, 0.5, 0.1)
            axes.barh(0, max(float(scores[row]), 0.0) / highest, height=1, color=color)
            axes.set(xlim=(0, 1), ylim=(-0.5, 0.5))
            axes.set_axis_off()
            canvas.text(TAUGHT + 0.95, y, _score(scores[row]), size=7.5, color=MUTED, align="right")
            left = TAUGHT + 1.05
        given = names[int(evidence.given_labels[row])]
        sentence = str(evidence.training_shown[row]).replace("___", f"«{given}»")
        mark = "●" if taken[number] else "○"
        canvas.text(left, y, f"{mark} {sentence}", size=7.5, color=color, width=ANSWERED - left - 0.25)


def _score(value: float) -> str:
    return f"{value:+#.3g}".rstrip(".").replace("-", "−")


def _answered(canvas: Canvas, evidence: Evidence, fact: int, top: float) -> None:
    """The fact in the words of the query, and in others: the likeliest words before and after."""
    assert evidence.test_facts is not None
    own = evidence.test_facts == fact
    probes = [
        ("As reported", np.flatnonzero(own & (evidence.roles == "query"))),
        ("In other words", np.flatnonzero(own & (evidence.parts == "assessment"))),
    ]
    y = top
    for title, rows in probes:
        if not len(rows):
            continue
        row = int(rows[0])
        end = canvas.text(ANSWERED, y, f"{title}: ", size=8, color=MUTED)
        canvas.text(end + 0.05, y, str(evidence.test_shown[row]), size=8, bold=True, width=BESIDE - end - 0.3)
        _bars(canvas, evidence, row, y + 0.2)
        y += 0.3 + 3 * LINE + 0.04


def _bars(canvas: Canvas, evidence: Evidence, row: int, top: float) -> None:
    names, right = readable(evidence.class_names), int(evidence.test_labels[row])
    width = (BESIDE - ANSWERED - 0.45) / 2
    for place, answers in enumerate((evidence.before, evidence.after)):
        left = ANSWERED + place * (width + 0.2)
        words, likely = _likeliest(answers, row)
        axes = canvas.axes(left, top, width, 3 * LINE)
        _bar_column(axes, [names[int(word)] for word in words], words == right, likely)


def _bar_column(axes: Axes, words: list[str], right: NDArray[np.bool_], likely: NDArray[np.float64]) -> None:
    places = np.arange(len(words))
    colors = [BLUE if is_right else ORANGE if place == 0 else PALE for place, is_right in enumerate(right)]
    axes.barh(places, likely, height=0.82, color=colors)
    for place, (word, share) in enumerate(zip(words, likely, strict=True)):
        inside = share > 0.5
        axes.text(
            0.02 if inside else share + 0.02,
            place,
            f"{word}  {share:.2f}",
            va="center",
            size=7.5,
            color="white" if inside else INK,
            fontweight="bold" if place == 0 else "normal",
        )
    axes.set(xlim=(0, 1), ylim=(len(words) - 0.45, -0.55), xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.spines["left"].set_visible(True)


def _likeliest(answers: Answers, row: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The likeliest words of a probe, and how likely they are."""
    assert answers.likeliest is not None
    assert answers.likeliest_probabilities is not None
    return answers.likeliest[row], answers.likeliest_probabilities[row]


def _beside(canvas: Canvas, evidence: Evidence, fact: int, top: float) -> None:
    """Facts of the relation that the base model has right, with what it answers now."""
    rows, names = neighbours(evidence, fact), readable(evidence.class_names)
    after = evidence.after
    stayed = after.test_predictions[rows] == evidence.test_labels[rows]
    canvas.text(BESIDE, top, f"{int(stayed.sum())} of these {len(rows)} stayed right", color=MUTED)
    for number, (row, kept) in enumerate(zip(rows.tolist(), stayed, strict=True)):
        y = top + 0.3 + number * 2 * 0.185
        room = WIDTH - BESIDE - MARGIN
        canvas.text(BESIDE, y, str(evidence.test_shown[row]), size=8, width=room)
        said = [names[int(of.test_predictions[row])] for of in (evidence.before, after)]
        likely = [_likeliest(of, row)[1][0] for of in (evidence.before, after)]
        canvas.text(
            BESIDE + 0.15,
            y + 0.165,
            f"{said[0]} {likely[0]:.2f}  →  {said[1]} {likely[1]:.2f}",
            size=8,
            color=BLUE if kept else ORANGE,
            bold=not kept,
            width=room - 0.15,
        )
