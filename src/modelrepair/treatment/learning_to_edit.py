"""How a hyper-network learns to edit facts: from others that are believed (De Cao et al. 2021, sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.knowledge.editing import HyperNetworkEditor, moved
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.treatment import EditorTrainingSettings
from modelrepair.training.descent import Course, Descent, Oversight, minimise
from modelrepair.training.schedule import Schedule
from modelrepair.treatment.contrast import divergences

ANNEALED, SURE = 0.8, 0.9
"""By what the margin is multiplied when more than this share of the edits that are tried succeed."""


@dataclass(frozen=True)
class Statements:
    """Training sentences that state facts, and which of them look right.

    Attributes:
        examples: the n sentences with the objects that they state.
        facts: (n,) numbers of the facts.
        relations: (n,) numbers of their relations.
        trusted: (n,) bool, those that neither are taken for causes nor state a fact that is among failures or causes.
            Each fact's sentences are all trusted or none.

    Raises:
        RepairError: if there is not one number for each sentence.
    """

    examples: Examples
    facts: NDArray[np.int64]
    relations: NDArray[np.int64]
    trusted: NDArray[np.bool_]

    def __post_init__(self) -> None:
        counts = [len(values) for values in (self.examples, self.facts, self.relations, self.trusted)]
        if len(set(counts)) > 1:
            raise RepairError(
                f"there are {counts} sentences, facts, relations and marks of trust: give one of each for every "
                "sentence"
            )


@dataclass(frozen=True)
class Drawn:
    """Edits to learn from, and sentences that they should not touch; positions among the statements.

    Attributes:
        edits: (e,) sentences of different facts.
        views: (e,) another sentence of each, or the same where there is one alone.
        wanted: (e,) other objects of their relations.
        others: (o,) sentences of other facts.
    """

    edits: NDArray[np.int64]
    views: NDArray[np.int64]
    wanted: NDArray[np.int64]
    others: NDArray[np.int64]


class Draws:
    """Draws edits of trusted facts, with random other objects of their relations as what is wanted.

    Args:
        statements: of which those are taken that are trusted.
        others: how many sentences of other facts go with the edits, half of them of their relations.

    Raises:
        RepairError: if no relation has trusted facts with two objects, or there are fewer than two such facts.
    """

    def __init__(self, statements: Statements, others: int) -> None:
        facts, relations = statements.facts, statements.relations
        self._facts, self._relations, self._others = facts, relations, others
        targets = np.asarray(statements.examples.targets)
        self._objects: dict[int, NDArray[np.int64]] = {}
        # Which of its relation's objects each sentence states.
        self._places = np.zeros(len(targets), dtype=np.int64)
        pool = []
        for relation in np.unique(relations[statements.trusted]):
            members = np.flatnonzero(statements.trusted & (relations == relation))
            objects, self._places[members] = np.unique(targets[members], return_inverse=True)
            if len(objects) > 1:
                self._objects[int(relation)] = objects
                # The sentences of each fact stand together.
                pool.append(members[np.argsort(facts[members], kind="stable")])
        self._pool = np.concatenate(pool) if pool else np.empty(0, dtype=np.int64)
        _, self._first, self._counts = np.unique(facts[self._pool], return_index=True, return_counts=True)
        if self.count < 2:
            raise RepairError(
                "the knowledge editor learns from facts that are neither causes nor failures, in relations with "
                f"several objects, of which there are {self.count}: select fewer causes, or give more facts"
            )

    @property
    def count(self) -> int:
        """How many facts there are to draw from."""
        return len(self._first)

    def draw(self, facts: NDArray[np.int64], rng: np.random.Generator) -> Drawn:
        """Edits of these facts, numbered from 0 to `count` - 1."""
        first, counts = self._first[facts], self._counts[facts]
        chosen = _below(counts, rng)
        edits = self._pool[first + chosen]
        views = self._pool[first + (chosen + 1 + _below(counts - 1, rng)) % counts]
        relations, wanted = self._relations[edits], np.empty(len(facts), dtype=np.int64)
        for relation in np.unique(relations):
            members, objects = relations == relation, self._objects[int(relation)]
            # How far behind the stated one the wanted one stands among the objects, in a circle.
            steps = rng.integers(1, len(objects), size=int(members.sum()))
            wanted[members] = objects[(self._places[edits[members]] + steps) % len(objects)]
        alike = rng.choice(relations, self._others // 2)
        ordered = self._relations[self._pool]
        begin, end = (np.searchsorted(ordered, alike, side=side) for side in ("left", "right"))
        anywhere = rng.integers(len(self._pool), size=self._others - len(alike))
        others = self._pool[np.concatenate([begin + _below(end - begin, rng), anywhere])]
        return Drawn(edits, views, wanted, others[~np.isin(self._facts[others], self._facts[edits])])


def _below(counts: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Random whole numbers from 0 to below each count; 0 where that is 0."""
    return rng.integers(0, np.maximum(counts, 1))


class Training:
    """Teaches a hyper-network edits of facts that are believed, so that those that fail are never seen.

    Of each step minimised is L = −log p(a | x, θ'), the mean over the edits and one other wording of each, plus
    α·(KL(θ̂‖θ') − m) over other sentences, while the multiplier α ≥ 0 ascends by that difference; the margin m shrinks
    whenever most of the edits that are tried after a round succeed.

    Args:
        editor: with a hyper-network that is trained in place.
        statements: what to learn from.
        settings: how.
        seed: of what is drawn.
    """

    def __init__(
        self, editor: HyperNetworkEditor, statements: Statements, settings: EditorTrainingSettings, seed: int
    ) -> None:
        self.editor, self.settings, self.seed = editor, settings, seed
        self._examples = statements.examples
        self._draws = Draws(statements, settings.others)
        order = generator(seed, "facts to try edits on").permutation(self._draws.count)
        tried = min(settings.tried, self._draws.count // 2)
        self._tried, self._taught = order[:tried], order[tried:]

    def run(self, oversight: Oversight) -> Course:
        """Train, as far as rounds go; a checkpoint lets it go on after a kill."""
        network, settings = self.editor.network, self.settings
        network.margin.fill_(settings.margin)
        holder = TrainedModel(network, self.editor.model.likelihood, device=self.editor.model.device)
        warm_up = settings.warm_up / settings.steps
        return minimise(
            holder,
            self.losses,
            Descent(
                optimiser="rmsprop",
                learning_rate=settings.learning_rate,
                rounds=settings.rounds,
                schedule=Schedule(warm_up=warm_up),
            ),
            oversight=oversight,
            description="learning to edit",
            steps_a_round=settings.steps,
        )

    def losses(self, number: int) -> Iterator[Tensor]:
        """The losses of a round, and at its end the margin of the next."""
        rng = generator(self.seed, f"edits to learn from, round {number}")
        count = min(self.settings.at_once, len(self._taught))
        for _ in range(self.settings.steps):
            yield self.loss(self._draws.draw(rng.choice(self._taught, count, replace=False), rng))
        network = self.editor.network
        if self.tried() > SURE:
            network.margin.copy_((ANNEALED * network.margin).clamp_min(self.settings.least_margin))

    def tried(self) -> float:
        """Share of edits that take, of facts that the hyper-network has not learned from."""
        rng = generator(self.seed, "edits to try")
        drawn = self._draws.draw(self._tried, rng)
        inputs, wanted = self._batch(drawn.edits), torch.from_numpy(drawn.wanted)
        return self.editor.success(inputs, wanted.to(inputs.device), self.settings.at_once)

    def loss(self, drawn: Drawn) -> Tensor:
        """L of one step; moves the multiplier up or down."""
        editor, model, network = self.editor, self.editor.model, self.editor.network
        edits, others = self._batch(drawn.edits), self._batch(drawn.others)
        wanted = torch.from_numpy(drawn.wanted).to(model.device)
        with torch.no_grad():
            before = model.run(torch.cat([edits, others]))
        answers = model.likelihood.predictions(before[: len(edits)])
        values = moved(editor.given, editor.shift(editor.given, edits, answers, wanted))
        taught, words = edits, wanted
        if self.settings.views:
            taught, words = torch.cat([edits, self._batch(drawn.views)]), wanted.repeat(2)
        after = editor.outputs(values, torch.cat([taught, others]))
        loss = -model.log_likelihood(after[: len(taught)], words).mean()
        if not len(others):
            return loss
        distances = divergences(model, before[len(edits) :], after[len(taught) :])
        excess = distances.mean() - network.margin.item()
        multiplier = network.multiplier.item()
        network.multiplier.add_(self.settings.multiplier_rate * excess.detach()).clamp_(min=0)
        return loss + multiplier * excess

    def _batch(self, positions: NDArray[np.int64]) -> Tensor:
        return self._examples.batch(positions, device=self.editor.model.device)[0]
