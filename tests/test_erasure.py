"""Erasing examples on request: from the request to the step, its length, and the pipeline."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import Finished, Project
from modelrepair.curvature import Hessian, Identity
from modelrepair.data.classes import names_of
from modelrepair.erasure import Choice, Proxy, along, choose_epsilon
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.erasure import normalised_confusion_distance
from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.posterior import NaturalGradient
from modelrepair.selection import select_causes
from modelrepair.treatment import Delete, Patient, Retrain, make_treatment
from models import (
    DenseCurvature,
    assert_equal,
    blobs,
    linear_gaussian,
    make_examples,
    make_model,
    negative_hessian,
    one_thread,  # noqa: F401
    per_example_gradients,
    with_prior_mode,
)

DECAY = 0.05
"""Strength of the ℓ2 penalty on the mean loss of the convex models here."""


def linear_softmax(examples: Examples, *, outputs: int = 2) -> TrainedModel:
    """The optimum of the ℓ2-regularised mean loss of a linear classifier."""
    network = make_network("linear", examples.inputs.shape[1:], outputs, seed=0).double()
    model = TrainedModel(network, make_model().likelihood, device="cpu")
    return with_prior_mode(model, examples, DECAY * len(examples))


def linear_sigmoid(count: int = 60) -> tuple[TrainedModel, Examples]:
    """The same of a linear model of three attributes of points in five dimensions."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(count, 5))
    attributes = (inputs @ draw.normal(size=(5, 3)) + draw.normal(size=(count, 3)) > 0.5).astype(np.float64)
    examples = Examples(inputs, attributes)
    network = make_network("linear", (5,), 3, seed=0).double()
    model = TrainedModel(network, Sigmoid(), device="cpu")
    return with_prior_mode(model, examples, DECAY * count), examples


DATA, _ = blobs(80, flipped=0.1)
BASE = linear_softmax(DATA)
ERASED = np.flatnonzero(DATA.targets == 1)[:12]
KEPT = np.setdiff1d(np.arange(len(DATA)), ERASED)
RETRAINED = linear_softmax(DATA.subset(KEPT))


def distance(first: TrainedModel, second: TrainedModel) -> float:
    return float((first.parameter_vector - second.parameter_vector).norm())


class TestHessian:
    @pytest.mark.parametrize("likelihood", ["gaussian", "sigmoid", "softmax"])
    @pytest.mark.parametrize("block_size", [None, 7])
    def test_equals_a_dense_one(self, likelihood: str, block_size: int | None) -> None:
        model, examples = make_model(likelihood=likelihood), make_examples(likelihood=likelihood)
        expected = negative_hessian(model, examples) / len(examples)
        if block_size:
            block = torch.arange(len(expected)) // block_size
            expected = expected * (block[:, None] == block)
        hessian = Hessian.fit(model, examples, block_size=block_size).damped(9.0)
        expected = expected + 9 * torch.eye(len(expected))
        vectors = torch.randn(
            len(expected), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
        )
        for v in (vectors, vectors[:, 0]):
            assert_equal(hessian.matvec(v), expected @ v, 1e-10)
            assert_equal(hessian.solve(v), torch.linalg.solve(expected, v), 1e-10)

    def test_blocks_by_attribute_lose_nothing(self) -> None:
        model, examples = linear_sigmoid()
        v = torch.linspace(-1, 1, 15, dtype=torch.float64)
        whole, blocks = (Hessian.fit(model, examples, block_size=size).damped(DECAY) for size in (None, 5))
        assert_equal(blocks.solve(v), whole.solve(v), 1e-10)

    def test_without_some_examples_it_is_the_hessian_of_the_others(self) -> None:
        hessian = Hessian.fit(BASE, DATA).damped(DECAY)
        fitted = Hessian.fit(BASE, DATA.subset(KEPT)).damped(DECAY)
        v = torch.ones(4, dtype=torch.float64)
        assert_equal(hessian.without(ERASED).solve(v), fitted.solve(v), 1e-10)
        assert_equal(hessian.without([]).solve(v), hessian.solve(v))
        for positions, sentence in (
            (np.arange(80), "without all of its 80 examples the Hessian has none left: remove fewer"),
            ([80], "example 80 of 80 was asked for: give positions from 0 to 79"),
            ([-1], "example -1 of 80 was asked for: give positions from 0 to 79"),
        ):
            with pytest.raises(RepairError, match=sentence):
                hessian.without(positions)
        with pytest.raises(RepairError, match="all of them at once"):
            hessian.without(ERASED).without(KEPT[:1])

    def test_says_what_damping_would_do_where_it_is_not_positive(self) -> None:
        model, examples = make_model(), make_examples()
        lowest = float(torch.linalg.eigvalsh(negative_hessian(model, examples) / len(examples))[0])
        assert lowest < -0.01
        v = torch.ones(len(model.parameter_vector), dtype=torch.float64)
        hessian = Hessian.fit(model, examples)
        with pytest.raises(RepairError, match=r"not positive.*use a damping above") as refusal:
            hessian.damped(-lowest / 2).solve(v)
        enough = float(str(refusal.value).split("damping above ")[1].split(",")[0])
        assert -lowest < enough < -3 * lowest
        hessian.damped(enough).solve(v)

    def test_impossible_sizes_are_refused(self) -> None:
        with pytest.raises(RepairError, match="block_size is 0"):
            Hessian.fit(BASE, DATA, block_size=0)
        with pytest.raises(RepairError, match="more than the option memory"):
            Hessian.fit(BASE, DATA, memory=100)
        with pytest.raises(RepairError, match="no examples"):
            Hessian.fit(BASE, DATA.subset([]))


class TestStep:
    """One natural-gradient step away from what is erased."""

    def test_gradient_ascent_is_a_step_with_the_identity(self) -> None:
        edited = NaturalGradient(epsilon=0.3).delete(
            BASE, DATA.subset(ERASED), curvature=Identity.fit(BASE, DATA).damped(1.0), count=len(DATA)
        )
        ascent = -0.3 / len(KEPT) * per_example_gradients(BASE, DATA.subset(ERASED)).sum(dim=0)
        assert_equal(edited.model.parameter_vector, BASE.parameter_vector + ascent)

    def test_the_identity_without_damping_is_singular(self) -> None:
        with pytest.raises(RepairError, match="use a damping of 1"):
            Identity.fit(BASE, DATA).solve(torch.ones(4))
        with pytest.raises(RepairError, match="remove fewer"):
            Identity.fit(BASE, DATA).without(np.arange(len(DATA)))

    @pytest.mark.parametrize("weights", [[-1, -1, -1], [-1, 0.5, -1], [-1, 1, 1]])
    def test_both_gradients_are_equal_at_an_optimum(self, weights: list[float]) -> None:
        """If what is inserted is not taken from what is kept, and each example carries its share of the penalty."""
        evidence = DATA.subset(ERASED[:3])
        signs = np.array(weights)
        staying = np.setdiff1d(np.arange(len(DATA)), ERASED[:3][signs < 0])
        how = {"curvature": Hessian.fit(BASE, DATA).damped(DECAY), "count": len(DATA)}
        removed, kept = (
            NaturalGradient(gradient=name, weight_decay=DECAY).step(
                BASE, evidence, signs, kept=DATA.subset(staying), **how
            )
            for name in ("removed", "kept")
        )
        assert_equal(removed, kept, 1e-9)

    def test_on_a_quadratic_loss_it_is_retraining(self) -> None:
        """With the true Hessian of what is kept, and the penalty that the removed examples carried."""
        model, examples = linear_gaussian()
        base = with_prior_mode(model, examples, DECAY * 40)
        retrained = with_prior_mode(model, examples.subset(np.arange(9, 40)), DECAY * 31)
        hessian = Hessian.fit(base, examples).damped(DECAY).without(np.arange(9))
        for gradient in ("removed", "kept"):
            update = NaturalGradient(gradient=gradient, weight_decay=DECAY)
            edited = update.delete(
                base, examples.subset(np.arange(9)), curvature=hessian, count=40,
                kept=examples.subset(np.arange(9, 40)),
            )  # fmt: skip
            assert_equal(edited.model.parameter_vector, retrained.parameter_vector, 1e-9)

    def test_the_kept_gradient_also_finishes_the_training(self) -> None:
        unfinished = BASE.with_parameter_vector(0.9 * BASE.parameter_vector)
        hessian = Hessian.fit(unfinished, DATA).damped(DECAY).without(ERASED)
        removed, kept = (
            NaturalGradient(gradient=name, weight_decay=DECAY)
            .delete(
                unfinished, DATA.subset(ERASED), curvature=hessian, count=len(DATA), kept=DATA.subset(KEPT)
            )
            .model
            for name in ("removed", "kept")
        )
        assert distance(kept, RETRAINED) < 0.2 * distance(removed, RETRAINED)

    def test_nearer_to_retraining_with_the_curvature_of_what_is_kept(self) -> None:
        hessian = Hessian.fit(BASE, DATA).damped(DECAY)
        gap = {}
        for name, curvature in (("all", hessian), ("kept", hessian.without(ERASED))):
            update = NaturalGradient(weight_decay=DECAY)
            edited = update.delete(BASE, DATA.subset(ERASED), curvature=curvature, count=len(DATA))
            gap[name] = distance(edited.model, RETRAINED)
        assert gap["kept"] < gap["all"] < 0.5 * distance(BASE, RETRAINED)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"gradient": "both"}, "gradient is 'both': choose one of removed, kept"),
            ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ],
    )
    def test_impossible_options_are_refused(self, options: dict[str, Any], sentence: str) -> None:
        with pytest.raises(RepairError, match=sentence):
            NaturalGradient(**options)

    def test_the_kept_gradient_needs_kept_examples(self) -> None:
        curvature = Identity.fit(BASE, DATA).damped(1.0)
        with pytest.raises(RepairError, match="use gradient: removed"):
            NaturalGradient(gradient="kept").insert(BASE, DATA, curvature=curvature, count=len(DATA))


def clouds() -> Examples:
    """Forty points each of four overlapping classes in the plane, with a constant as third input."""
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    centres = 1.6 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    points = centres[labels] + draw.normal(size=(160, 2))
    return Examples(np.column_stack([points, np.ones(160)]), labels)


class TestChoiceOfEpsilon:
    """A Hessian that is wrong by a factor, as a Fisher is, and another epsilon for each factor."""

    data = clouds()
    count = 160
    base = linear_softmax(data, outputs=4)

    def request(self, label: int) -> tuple[Examples, TrainedModel]:
        """All of a class, and the model retrained without it."""
        erased = np.flatnonzero(self.data.targets == label)
        rest = np.setdiff1d(np.arange(self.count), erased)
        return self.data.subset(erased), linear_softmax(self.data.subset(rest), outputs=4)

    def curvature(self, factor: float) -> DenseCurvature:
        hessian = Hessian.fit(self.base, self.data).damped(DECAY)
        return DenseCurvature(factor * hessian.matvec(torch.eye(12, dtype=torch.float64)))

    def choice(self, factor: float = 1.0, label: int = 3, **options: Any) -> Choice:
        erased, retrained = self.request(label)
        step = NaturalGradient(weight_decay=DECAY).step(
            self.base, erased, -np.ones(len(erased)), curvature=self.curvature(factor), count=self.count
        )
        return choose_epsilon(self.base, [Proxy(along(self.base, step), retrained, erased)], **options)

    def test_it_minimises_the_confusion_distance(self) -> None:
        choice = self.choice()
        assert choice.measure == "normalised_confusion_distance"
        assert choice.value == dict(choice.curve)[choice.epsilon] < 0.25
        values = [value for _, value in choice.curve]
        assert choice.value <= min(values) + 0.01
        assert all(value > min(values) + 0.01 for epsilon, value in choice.curve if epsilon < choice.epsilon)
        assert values[0] > 0.75, "at a tiny epsilon the model is still the original"

    def test_it_makes_up_for_the_scale_of_the_curvature(self) -> None:
        grid = [0.125 * 2**power for power in range(10)]
        assert self.choice(8.0, epsilons=grid).epsilon == 8 * self.choice(1.0, epsilons=grid).epsilon

    @pytest.mark.parametrize("label", [0, 1, 2])
    def test_it_serves_other_requests(self, label: int) -> None:
        """Chosen on one class, reused for the others; without it the step would be 20 times too short."""
        erased, retrained = self.request(label)
        distances = []
        for epsilon in (self.choice(20.0).epsilon, 1.0):
            update = NaturalGradient(epsilon=epsilon, weight_decay=DECAY)
            edited = update.delete(self.base, erased, curvature=self.curvature(20.0), count=self.count).model
            predicted = [m.outputs(erased).argmax(1).numpy() for m in (edited, self.base, retrained)]
            distances.append(normalised_confusion_distance(*predicted, erased.targets, 4))
        assert distances[0] < 0.25
        assert distances[1] > 0.75

    def test_with_attributes_it_maximises_the_similarity_ratio(self) -> None:
        model, examples = linear_sigmoid()
        positions = np.flatnonzero(examples.targets[:, 0] == 1)
        rest = np.setdiff1d(np.arange(len(examples)), positions)
        retrained = with_prior_mode(model, examples.subset(rest), DECAY * len(rest))
        erased = examples.subset(positions)
        step = NaturalGradient(weight_decay=DECAY).step(
            model,
            erased,
            -np.ones(len(erased)),
            curvature=Hessian.fit(model, examples).damped(DECAY),
            count=60,
        )
        choice = choose_epsilon(model, [Proxy(along(model, step), retrained, erased)])
        assert choice.measure == "similarity_ratio"
        assert choice.value > 0.8
        assert choice.value >= max(value for _, value in choice.curve) - 0.01
        assert 0.2 < choice.epsilon < 5

    def test_several_proxies_count_by_their_mean(self) -> None:
        proxies = []
        for label in (2, 3):
            erased, retrained = self.request(label)
            step = NaturalGradient().step(
                self.base, erased, -np.ones(len(erased)), curvature=self.curvature(1.0), count=self.count
            )
            proxies.append(Proxy(along(self.base, step), retrained, erased))
        curves = [choose_epsilon(self.base, chosen).curve for chosen in ([proxies[0]], [proxies[1]], proxies)]
        first, second, both = np.array(curves)
        assert_equal(torch.tensor(both), torch.tensor((first + second) / 2))

    def test_models_that_overflow_are_passed_over(self) -> None:
        def updated(epsilon: float) -> TrainedModel:
            return BASE.with_parameter_vector(BASE.parameter_vector * (float("inf") if epsilon > 1 else 1.1))

        proxy = Proxy(updated, RETRAINED, DATA.subset(ERASED))
        choice = choose_epsilon(BASE, [proxy], epsilons=[2.0, 1.0])
        assert choice.epsilon == 1.0
        assert np.isnan(choice.curve[1][1])
        with pytest.raises(RepairError, match="try smaller ones"):
            choose_epsilon(BASE, [proxy], epsilons=[2.0])

    def test_models_that_break_what_is_kept_are_passed_over(self) -> None:
        def updated(epsilon: float) -> TrainedModel:
            return BASE.with_parameter_vector(BASE.parameter_vector * (1.0 if epsilon < 1 else -1.0))

        proxy = Proxy(updated, RETRAINED, DATA.subset(ERASED), DATA.subset(KEPT))
        curve = choose_epsilon(BASE, [proxy], epsilons=[0.5, 2.0]).curve
        assert np.isnan([value for _, value in curve]).tolist() == [False, True]
        curve = choose_epsilon(BASE, [proxy], epsilons=[0.5, 2.0], allowed_loss=1.0).curve
        assert not np.isnan([value for _, value in curve]).any()

    def test_what_cannot_be_chosen_from_is_refused(self) -> None:
        proxy, empty = (Proxy(lambda epsilon: BASE, RETRAINED, erased) for erased in (DATA, DATA.subset([])))
        for proxies in ([], [empty], [proxy, empty]):
            with pytest.raises(RepairError, match="one of each at least"):
                choose_epsilon(BASE, proxies)
        with pytest.raises(RepairError, match="one of each at least"):
            choose_epsilon(BASE, [proxy], epsilons=[])
        with pytest.raises(RepairError, match="give positive numbers"):
            choose_epsilon(BASE, [proxy], epsilons=[1.0, 0.0])


class TestTreatment:
    @staticmethod
    def patient(**options: Any) -> Patient:
        return Patient(
            model=BASE,
            examples=DATA,
            causes=np.flatnonzero(DATA.targets == 1),
            discovery=blobs(60, seed=1)[0],
            failures=DATA.subset([]),
            curvature=lambda name, damping: (
                {"hessian": Hessian, "identity": Identity}[name].fit(BASE, DATA).damped(damping)
            ),
            fresh=lambda: TrainedModel(
                make_network("linear", (2,), 2, seed=0).double(), BASE.likelihood, device="cpu"
            ),
            **options,
        )

    def test_an_erasure_is_guarded_only_by_default(self) -> None:
        delete = Delete(posterior=NaturalGradient(epsilon=40), curvature="identity", damping=1.0)
        ones = np.flatnonzero(DATA.targets == 1)
        guarded, free = (delete.treat(self.patient(guarded=flag)) for flag in (True, False))
        assert guarded.model.accuracy(DATA.subset(ones)) > 0.5
        assert free.model.accuracy(DATA.subset(ones)) < 0.5
        assert len(free.trace) == 2
        assert free.best_round == 1
        assert [row["discovery_accuracy"] for row in free.trace] == [
            model.accuracy(self.patient().discovery) for model in (BASE, free.model)
        ]

    def test_retraining_without_a_guard_keeps_the_retrained_model(self) -> None:
        retrain = Retrain(learning_rate=1e-9, epochs=2, batch_size=16)
        guarded, free = (retrain.treat(self.patient(guarded=flag)) for flag in (True, False))
        assert guarded.model is BASE
        assert free.best_round == 2
        assert free.model.accuracy(DATA) < BASE.accuracy(DATA)

    @pytest.mark.parametrize("gradient", ["removed", "kept"])
    def test_settings_reach_the_step(self, gradient: str) -> None:
        settings = {
            "posterior": {"update": "natural-gradient", "gradient": gradient, "weight_decay": DECAY},
            "curvature": "hessian",
            "damping": DECAY,
            "curvature_without_causes": True,
        }
        treatment = make_treatment("delete", **settings)
        patient = self.patient(guarded=False)
        expected = NaturalGradient(gradient=gradient, weight_decay=DECAY).delete(
            BASE,
            DATA.subset(patient.causes),
            curvature=Hessian.fit(BASE, DATA).without(patient.causes).damped(DECAY),
            count=len(DATA),
            kept=DATA.subset(patient.remaining),
        )
        assert_equal(treatment.treat(patient).model.parameter_vector, expected.model.parameter_vector, 1e-9)

    def test_a_curvature_that_cannot_leave_out_causes_is_named(self) -> None:
        with pytest.raises(RepairError, match="the curvature diagonal cannot leave out the causes"):
            Delete(
                posterior=NaturalGradient(), curvature="diagonal", damping=1.0, curvature_without_causes=True
            )


class TestRequest:
    table = pd.DataFrame({"example": [10, 11, 12, 13, 14, 15], "label": [0, 1, 1, 1, 1, 2]}).assign(
        names=lambda table: names_of(table["label"].to_numpy(), ["cat", "dog", "emu"])
    )
    scores = np.zeros(6)

    @pytest.mark.parametrize(("fraction", "count"), [(1.0, 4), (0.5, 2), (0.01, 1)])
    def test_a_class_or_a_part_of_it(self, fraction: float, count: int) -> None:
        choose = partial(select_causes, self.scores, self.table, "of-class", name="dog")
        causes = choose(fraction=fraction)
        assert len(causes) == count
        assert set(causes) <= {1, 2, 3, 4}
        assert list(causes) == sorted(causes)
        assert set(choose(fraction=fraction / 2)) <= set(causes), "a part of the part"
        drawn = {tuple(choose(fraction=fraction, seed=seed)) for seed in range(20)}
        assert (len(drawn) > 1) == (fraction < 1)

    def test_an_attribute(self) -> None:
        names = names_of(np.array([[0, 1], [1, 1], [0, 0], [1, 0]]), ["hat", "smile"])
        assert names == [("smile",), ("hat", "smile"), (), ("hat",)]
        table = pd.DataFrame({"names": names})
        assert list(select_causes(np.zeros(4), table, "of-class", name="hat")) == [1, 3]

    def test_an_unknown_class_is_met_with_those_that_there_are(self) -> None:
        with pytest.raises(
            RepairError, match="no training example is labelled 'fox': choose from cat, dog, emu"
        ):
            select_causes(self.scores, self.table, "of-class", name="fox")
        for fraction in (0.0, 1.1):
            with pytest.raises(RepairError, match="above 0 and at most 1"):
                select_causes(self.scores, self.table, "of-class", name="dog", fraction=fraction)

    def test_no_score(self) -> None:
        scores = influence_scores(Investigation(base=BASE, updated=BASE, examples=DATA), "none")
        assert scores.shape == (len(DATA),)
        assert not scores.any()


AFTER_THE_FAILURES = [
    "fit-fisher",
    "update-posterior",
    "score-influence",
    "select-causes",
    "treat",
    "evaluate",
]


def run_stages(project: Project, names: list[str]) -> None:
    for name in names:
        project.stage(name).succeeded()


@pytest.mark.parametrize("method", ["erase", "erase-scrub", "erase-retrain"])
def test_a_request_runs_through_the_pipeline(project: Project, method: str) -> None:
    project.set_parameters({"method": method, "selection": "class", "selections.class.name": "six"})
    run_stages(project, ["choose-method", *AFTER_THE_FAILURES])
    causes = pd.read_parquet(project.root / "data/causes/causes.parquet")
    table = pd.read_parquet(project.root / "data/corrupted/train.parquet")
    sixes = table[(table["split"] == "train") & (table["label"] == 1)]
    assert list(causes["example"]) == list(sixes["example"])
    course = pd.read_csv(project.root / "metrics/treatment_course.csv")
    assert course["returned"].iloc[-1]
    assert course["discovery_accuracy"].notna().all()
    erasure = json.loads((project.root / "metrics/repair.json").read_text())["erasure"]
    assert erasure["examples"] == len(sixes)
    assert erasure["before"]["erased"] > erasure["after"]["erased"] or method == "erase-scrub"
    shown = project.run("python3", "-m", "modelrepair", "show").succeeded().stdout
    assert f"Method {method}: erased {len(sixes)} training examples" in shown
    assert "told from unseen examples by their loss" in shown
    pictures = {path.name for path in (project.root / "metrics/pictures").iterdir()}
    assert pictures == {"summary.png", "changes.png", "confusion.png", "treatment.png"}, "there was no search"


def test_a_list_runs_through_the_pipeline(project: Project) -> None:
    """And changing it runs again what depends on it, and nothing else."""
    project.set_parameters({"method": "erase-ascent", "selection": "listed"})
    table = pd.read_parquet(project.root / "data/corrupted/train.parquet")
    trained_on = table.loc[table["split"] == "train", "example"].tolist()
    request = project.root / "requests/erase.csv"
    for count in (5, 7):
        request.write_text("example\n" + "\n".join(map(str, trained_on[:count])) + "\n")
        outcome = project.repro().succeeded()
        assert len(pd.read_parquet(project.root / "data/causes/causes.parquet")) == count
    assert outcome.stages_run == ["know-causes", "split-failures", "select-causes", "treat", "evaluate"]


def test_a_selection_that_needs_scores_is_refused_where_there_are_none(project: Project) -> None:
    project.set_parameters({"method": "erase", "selection": "small"})
    outcome = project.stage("choose-method")
    assert outcome.status == 1
    assert "the selection 'small' cannot rank them" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_model_without_failures_can_serve_a_request(finished: Finished, project: Project) -> None:
    """Its training data are its test data, and it has learned them."""
    inputs = dict(np.load(project.root / "data/own/small.npz"))
    inputs |= {"test_inputs": inputs["train_inputs"][::2], "test_labels": inputs["train_labels"][::2]}
    np.savez(project.root / "data/own/small.npz", **inputs)
    values = {"reserved": 8, "assessment": 40, "validation_fraction": 0.0}
    parameters: dict[str, Any] = {f"datasets.small.{name}": value for name, value in values.items()}
    parameters |= {"corruption": "none", "training.epochs": 40, "training.patience": None}
    parameters |= {"method": "erase", "selection": "class", "selections.class.name": "six"}
    project.set_parameters(parameters)
    run_stages(project, ["choose-method", "prepare-data", "corrupt-data", "train-base"])
    outcome = project.stage("split-failures")
    assert outcome.status == 1
    assert "good news" in outcome.stderr
    project.set_parameters({"failures.required": False})
    run_stages(project, ["choose-method", "split-failures", *AFTER_THE_FAILURES])
    counts = (project.root / "metrics/failures.json").read_text()
    assert '"query": 0' in counts
