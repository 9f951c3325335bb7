"""How close a model with examples erased is to one retrained without them.

θ* is the original model, trained on D; θ the updated one; θ*₋S the one retrained on D without the erased
examples S. Peste et al. 2021 (SSSE), section 4, split the data in four: D\\S and S (training data kept and
erased), T\\T_a and T_a (test data unlike and like the erased: of the other classes, and of the erased one).
Predictions come as probabilities: (n, k) over k classes with labels (n,), or (n, k) of k yes/no attributes
with labels (n, k). Attributes are predicted present at 0.5 or above.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Answers, Evidence
from modelrepair.evaluation.measures.identification import area_under_roc
from modelrepair.evaluation.measures.repair import class_numbers

SPLITS = ("retained_train", "erased_train", "retained_test", "erased_test")
MODELS = ("original", "updated", "retrained")
BESIDE_RETRAINED = ("gap", "similarity", "membership_updated", "membership_retrained")
Array = NDArray[np.generic]
Metrics = dict[str, float | None]


def measure(evidence: Evidence) -> dict[str, Any]:
    """What the models still know of the causes, by the labels that they were trained with.

    Returns:
        examples: how many causes were deleted; before, after and, where there is one, reference: `forgetting`, beside
        the unseen examples that are `alike` and, where it was measured, relearning_steps (None: more than were taken).
        Where the reference is retrained without the causes, also
        beside_retrained: the gap, similarity, membership_updated and membership_retrained of `erasure_metrics`.
    """
    unseen = alike(evidence)

    def known(answers: Answers) -> Metrics:
        is_erased = np.isin(np.arange(len(evidence.given_labels)), evidence.causes)
        known = forgetting(
            answers.training_correct[evidence.causes],
            answers.training_correct[~is_erased],
            answers.training_log_likelihoods[evidence.causes],
            answers.test_log_likelihoods[unseen],
        )
        steps = answers.relearning_steps
        return known if steps is None else {**known, "relearning_steps": None if steps == math.inf else steps}

    measured = {
        "examples": len(evidence.causes),
        "before": known(evidence.before),
        "after": known(evidence.after),
    }
    if evidence.reference is not None:
        measured["reference"] = known(evidence.reference)
    if evidence.reference is not None and evidence.reference_retrained and len(evidence.causes):
        measured["beside_retrained"] = _beside_retrained(evidence, evidence.reference, unseen)
    return measured


def _beside_retrained(
    evidence: Evidence, retrained: Answers, unseen: NDArray[np.int64]
) -> dict[str, Metrics]:
    """`erasure_metrics` of the causes and of the test examples for assessment, of which `unseen` are like them."""
    kept = np.setdiff1d(np.arange(len(evidence.given_labels)), evidence.causes)
    rows = (kept, evidence.causes, np.setdiff1d(evidence.assessed, unseen), unseen)

    def split(training: Array, test: Array) -> dict[str, Array]:
        sides = (training, training, test, test)
        return {name: side[of] for name, side, of in zip(SPLITS, sides, rows, strict=True)}

    answers = dict(zip(MODELS, (evidence.before, evidence.after, retrained), strict=True))
    measured = erasure_metrics(
        {
            model: split(np.asarray(of.training_probabilities), np.asarray(of.test_probabilities))
            for model, of in answers.items()
        },
        split(evidence.given_labels, evidence.test_labels),
        losses={
            model: split(-of.training_log_likelihoods, -of.test_log_likelihoods)
            for model, of in answers.items()
        },
    )
    if evidence.parameter_distance is not None:
        measured["similarity"]["relative_parameter_distance"] = evidence.parameter_distance
    return {name: measured[name] for name in BESIDE_RETRAINED}


def alike(evidence: Evidence) -> NDArray[np.int64]:
    """Positions of the test examples for assessment that are like the erased: of their classes, or with all the
    attributes that all of them share (with none shared, every one)."""
    labels, erased = evidence.test_labels[evidence.assessed], evidence.given_labels[evidence.causes]
    if evidence.has_attributes:
        shared = (erased > 0).all(axis=0)
        return evidence.assessed[(labels[:, shared] > 0).all(axis=1)]
    return evidence.assessed[np.isin(labels, erased)]


def confusion_distance(first: ArrayLike, second: ArrayLike, labels: ArrayLike, n_classes: int) -> int:
    """S_C(θ₁, θ₂) = Σᵢⱼ |mᵢⱼ(θ₁) − mᵢⱼ(θ₂)|, m the confusion matrix in counts (Peste et al. 2021, Eq. 11).

    Args:
        first, second: (n,) class numbers predicted by the two models on the examples C.
        labels: (n,) true class numbers.
        n_classes: number of classes.

    Returns:
        An even number from 0 (equal matrices, though single predictions may differ) to 2n.

    Raises:
        RepairError: if lengths differ or a class number is out of range.
    """
    truth, one, other = class_numbers(n_classes, labels, first, second)
    # Only the entries that occur are counted: n of 100,000² at most.
    entries = np.concatenate([truth * n_classes + one, truth * n_classes + other])
    occurring, place = np.unique(entries, return_inverse=True)
    counts = [np.bincount(of, minlength=len(occurring)) for of in np.split(place, 2)]
    return int(np.abs(counts[0] - counts[1]).sum())


def normalised_confusion_distance(
    updated: ArrayLike, original: ArrayLike, retrained: ArrayLike, labels: ArrayLike, n_classes: int
) -> float:
    """δ_S = S_S(θ, θ*₋S) / (S_S(θ, θ*) + S_S(θ, θ*₋S)) on the erased examples (Peste et al. 2021, Eq. 12).

    0 is the retrained model's confusions, 1 the original's; below 0.5 is nearer to the retrained. It is 0.5
    where both distances are 0, which is the paper's value for models that behave almost identically on S.

    Args:
        updated, original, retrained: (n,) class numbers predicted on the erased examples.
        labels: (n,) true class numbers.
        n_classes: number of classes.

    Raises:
        RepairError: if lengths differ or a class number is out of range.
    """
    to_retrained = confusion_distance(updated, retrained, labels, n_classes)
    return _share(to_retrained, confusion_distance(updated, original, labels, n_classes))


def attribute_aucs(scores: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """(k,) area under the ROC curve of each of k attributes, from (n, k) scores and (n, k) 0/1 labels.

    An attribute that no example has gets 0, the convention of Peste et al. 2021 (section 4.1); so does one
    that every example has, whose curve is undefined as well.

    Raises:
        RepairError: if the shapes differ.
    """
    values, truth = np.asarray(scores), np.asarray(labels)
    if values.ndim != 2 or values.shape != truth.shape:
        raise RepairError(
            f"the attributes' scores have shape {values.shape} and their labels {truth.shape}: "
            "give both as examples by attributes"
        )
    areas = [area_under_roc(values[:, column], truth[:, column] > 0) for column in range(values.shape[1])]
    return np.array([0.0 if area is None else area for area in areas])


def performance_similarity(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> float:
    """D_C(θ₁, θ₂) = Σᵢ |αᵢ(θ₁) − αᵢ(θ₂)|, αᵢ the AUC of attribute i on C (Peste et al. 2021, Eq. 9).

    Despite the paper's name it is a distance: 0 where all AUCs agree, at most k for k attributes.

    Args:
        first, second: (n, k) attribute scores of the two models.
        labels: (n, k) zeros and ones.

    Raises:
        RepairError: if the shapes differ.
    """
    return float(np.abs(attribute_aucs(first, labels) - attribute_aucs(second, labels)).sum())


def similarity_ratio(
    updated: ArrayLike, original: ArrayLike, retrained: ArrayLike, labels: ArrayLike
) -> float:
    """γ_S = D_S(θ, θ*) / (D_S(θ, θ*) + D_S(θ, θ*₋S)) on the erased examples (Peste et al. 2021, Eq. 10).

    1 is the retrained model's AUCs, 0 the original's. It is 0.5 where both distances are 0, which is the
    paper's value for models that behave almost identically on S.

    Args:
        updated, original, retrained: (n, k) attribute scores on the erased examples.
        labels: (n, k) zeros and ones.

    Raises:
        RepairError: if the shapes differ.
    """
    to_original = performance_similarity(updated, original, labels)
    return _share(to_original, performance_similarity(updated, retrained, labels))


def relative_parameter_distance(updated: ArrayLike, original: ArrayLike, retrained: ArrayLike) -> float:
    """‖θ − θ*₋S‖ / (‖θ − θ*‖ + ‖θ − θ*₋S‖) from three flat parameter vectors (d,).

    The normalised distance of Peste et al. 2021, Figure 2b. The fraction printed there has the same norm
    above and below; this is the reading under which, as their text says, 0.5 is equally far from both.
    It is 0.5 where both distances are 0.
    """
    after, before, reference = (
        np.asarray(vector, dtype=np.float64) for vector in (updated, original, retrained)
    )
    if not after.shape == before.shape == reference.shape:
        raise RepairError(
            f"the parameter vectors have shapes {after.shape}, {before.shape} and {reference.shape}: "
            "compare models of one architecture"
        )
    return _share(float(np.linalg.norm(after - reference)), float(np.linalg.norm(after - before)))


def tug_of_war(accuracies: Metrics, retrained_accuracies: Metrics) -> float | None:
    """ToW = Πₛ (1 − |a(s) − a_retrain(s)|) over the sets s that both have (Zhao et al. 2024, "What makes
    unlearning hard and what to do about it").

    Accuracies are fractions; 1 is the retrained model's accuracy on every set. None without a common set.
    """
    gaps = _gaps(accuracies, retrained_accuracies)
    present = [gap for gap in gaps.values() if gap is not None]
    return float(np.prod([1 - abs(gap) for gap in present])) if present else None


def mean_divergence(retrained: ArrayLike, updated: ArrayLike, *, attributes: bool = False) -> float | None:
    """Mean over n examples of KL(p_retrained ‖ p_updated) in nats; None without examples.

    Args:
        retrained, updated: (n, k) probabilities of k classes, or of k independent attributes.
        attributes: the columns are independent yes/no attributes, whose divergences add up.

    A probability below 1e-12 counts as 1e-12, so that one that underflowed costs at most 28 nats instead of
    making the mean infinite.
    """
    reference, model = (np.asarray(array, dtype=np.float64) for array in (retrained, updated))
    if reference.shape != model.shape or reference.ndim != 2:
        raise RepairError(
            f"the two models' probabilities have shapes {reference.shape} and {model.shape}: "
            "give both as examples by classes"
        )
    if not len(reference):
        return None
    divergence = _divergence(reference, model)
    if attributes:
        divergence = divergence + _divergence(1 - reference, 1 - model)
    return float(np.mean(divergence))


def membership_auc(erased: ArrayLike, unseen: ArrayLike) -> float | None:
    """How well a threshold tells erased training examples from unseen ones: its area under the ROC curve.

    Args:
        erased: (m,) a signal that is higher for examples the model was trained on, such as the probability
            of the true class or minus the loss, on the erased examples.
        unseen: (u,) the same on examples like them that were never trained on.

    Returns:
        0.5 where nothing of them is left, 1 where all can be told (Yeom et al. 2018; Shokri et al. 2017),
        below 0.5 where they look less familiar than unseen ones, which tells on them too. None without
        examples on either side.
    """
    members, others = np.asarray(erased), np.asarray(unseen)
    is_member = np.arange(len(members) + len(others)) < len(members)
    return area_under_roc(np.concatenate([members, others]), is_member)


def forgetting(
    erased_correct: ArrayLike,
    kept_correct: ArrayLike,
    erased_log_likelihoods: ArrayLike,
    unseen_log_likelihoods: ArrayLike,
) -> Metrics:
    """What one model still knows of the erased examples S, where no retrained model is at hand to stand beside it.

    Args:
        erased_correct, kept_correct: (m,), (n − m,) in [0, 1], how right the predictions on S and on D\\S are, by the
            labels that the model was trained with.
        erased_log_likelihoods: (m,) log p(y | x, θ) of S.
        unseen_log_likelihoods: (u,) the same of test examples like them.

    Returns:
        erased, kept: accuracies; membership_auc: `membership_auc` by the loss. Each is None without examples.
    """
    means = {
        name: float(np.mean(np.asarray(values, dtype=np.float64))) if len(np.asarray(values)) else None
        for name, values in (("erased", erased_correct), ("kept", kept_correct))
    }
    return {**means, "membership_auc": membership_auc(erased_log_likelihoods, unseen_log_likelihoods)}


def erasure_metrics(
    probabilities: Mapping[str, Mapping[str, ArrayLike]],
    labels: Mapping[str, ArrayLike],
    parameters: Mapping[str, ArrayLike] | None = None,
    losses: Mapping[str, Mapping[str, ArrayLike]] | None = None,
) -> dict[str, Metrics]:
    """Every measure of erasure, beside the retrained model.

    Args:
        probabilities: for each of "original", "updated", "retrained", for each of the splits
            "retained_train" (D\\S), "erased_train" (S), "retained_test" (T\\T_a), "erased_test" (T_a):
            (n, k) probabilities. A split may be empty: T_a is, where the erased share no class or attribute.
        labels: for each split (n,) class numbers or (n, k) attributes.
        parameters: for each of the three models its flat parameters (d,), if they are to be compared.
        losses: for each model and split (n,) losses from logits. By default −log of the probability of the
            given label(s), which ranks as the confidence does for classes; real losses also rank the examples
            whose confidence rounds to 1.

    Returns:
        accuracy_original, accuracy_updated, accuracy_retrained: for each split, and test (T, both together).
        gap: updated minus retrained accuracy, for the same sets (Peste et al. 2021, Figures 4 and 5).
        similarity: for classes confusion_distance to the retrained model and
        normalised_confusion_distance (Eqs. 11, 12), for attributes performance_similarity and
        similarity_ratio (Eqs. 9, 10), on S; tug_of_war over S, D\\S and T; divergence_SPLIT; and
        relative_parameter_distance if parameters are given.
        membership_original, membership_updated, membership_retrained: membership_auc on confidence and on
        loss, of S against T_a, or against T where T_a is empty (against other classes the attack would tell
        the classes apart rather than the members).

    Raises:
        RepairError: if a model or split is missing or shapes differ.
    """
    truth, predicted = _checked(probabilities, labels)
    attributes = truth["erased_train"].ndim == 2
    accuracies = {model: _accuracies(predicted[model], truth) for model in MODELS}
    updated, retrained = accuracies["updated"], accuracies["retrained"]
    sets = ("erased_train", "retained_train", "test")
    similarity = _similarity(
        {model: predicted[model]["erased_train"] for model in MODELS}, truth["erased_train"]
    )
    similarity["tug_of_war"] = tug_of_war(
        {name: updated[name] for name in sets}, {name: retrained[name] for name in sets}
    )
    for split in SPLITS:
        similarity[f"divergence_{split}"] = mean_divergence(
            predicted["retrained"][split], predicted["updated"][split], attributes=attributes
        )
    if parameters is not None:
        similarity["relative_parameter_distance"] = relative_parameter_distance(
            parameters["updated"], parameters["original"], parameters["retrained"]
        )
    return {
        **{f"accuracy_{model}": accuracies[model] for model in MODELS},
        "gap": _gaps(updated, retrained),
        "similarity": similarity,
        **{
            f"membership_{model}": _membership(
                predicted[model], truth, None if losses is None else losses[model]
            )
            for model in MODELS
        },
    }


def _similarity(erased: Mapping[str, Array], labels: Array) -> Metrics:
    """Eqs. 9-12 on the erased examples."""
    updated, original, retrained = erased["updated"], erased["original"], erased["retrained"]
    if labels.ndim == 2:
        return {
            "performance_similarity": performance_similarity(updated, retrained, labels),
            "similarity_ratio": similarity_ratio(updated, original, retrained, labels),
        }
    after, before, reference = (_predictions(array, False) for array in (updated, original, retrained))
    n_classes = updated.shape[1]
    return {
        "confusion_distance": confusion_distance(after, reference, labels, n_classes),
        "normalised_confusion_distance": normalised_confusion_distance(
            after, before, reference, labels, n_classes
        ),
    }


def _accuracies(probabilities: Mapping[str, Array], labels: Mapping[str, Array]) -> Metrics:
    """Accuracy, for attributes averaged over them, on each split and on the whole test set."""
    right = {
        split: _predictions(probabilities[split], labels[split].ndim == 2) == labels[split]
        for split in SPLITS
    }
    right["test"] = np.concatenate([right["retained_test"], right["erased_test"]])
    return {name: float(hits.mean()) if len(hits) else None for name, hits in right.items()}


def _membership(
    probabilities: Mapping[str, Array], labels: Mapping[str, Array], losses: Mapping[str, ArrayLike] | None
) -> Metrics:
    signals = {split: _confidence(probabilities[split], labels[split]) for split in SPLITS}
    familiar = {
        split: np.log(np.maximum(signals[split], np.finfo(np.float64).tiny))
        if losses is None
        else -np.asarray(losses[split], dtype=np.float64)
        for split in SPLITS
    }
    unseen = ("erased_test",) if len(labels["erased_test"]) else ("retained_test",)
    return {
        name: membership_auc(signal["erased_train"], np.concatenate([signal[split] for split in unseen]))
        for name, signal in (("confidence", signals), ("loss", familiar))
    }


def _confidence(probabilities: Array, labels: Array) -> NDArray[np.float64]:
    """(n,) probability given to the true class, or to the true values of all attributes together."""
    values = probabilities.astype(np.float64)
    if labels.ndim == 2:
        return np.asarray(np.where(labels.astype(bool), values, 1 - values).prod(axis=1), dtype=np.float64)
    return np.take_along_axis(values, labels.astype(np.int64)[:, None], axis=1)[:, 0]


def _predictions(probabilities: Array, attributes: bool) -> NDArray[np.int64]:
    values = probabilities.astype(np.float64)
    return (values >= 0.5).astype(np.int64) if attributes else values.argmax(axis=1)


def _divergence(reference: NDArray[np.float64], model: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) Σⱼ p log(p/q), where p = 0 adds nothing."""
    floor = 1e-12
    logarithms = np.log(np.maximum(reference, floor)) - np.log(np.maximum(model, floor))
    return np.asarray((reference * logarithms).sum(axis=1), dtype=np.float64)


def _gaps(accuracies: Metrics, reference: Metrics) -> Metrics:
    gaps: Metrics = {}
    for name in accuracies.keys() & reference.keys():
        mine, theirs = accuracies[name], reference[name]
        gaps[name] = None if mine is None or theirs is None else mine - theirs
    return {name: gaps[name] for name in accuracies if name in gaps}


def _share(part: float, other: float) -> float:
    """part / (part + other), and 0.5 for 0/0."""
    return part / (part + other) if part + other > 0 else 0.5


def _checked(
    probabilities: Mapping[str, Mapping[str, ArrayLike]], labels: Mapping[str, ArrayLike]
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    missing = [model for model in MODELS if model not in probabilities]
    missing += [split for split in SPLITS if split not in labels]
    missing += [
        f"{model}/{split}"
        for model in MODELS
        if model in probabilities
        for split in SPLITS
        if split not in probabilities[model]
    ]
    if missing:
        raise RepairError(
            f"no predictions or labels are given for {', '.join(missing)}: "
            "erasure is measured on four splits under the original, updated and retrained model"
        )
    truth = {split: np.asarray(labels[split]) for split in SPLITS}
    predicted = {
        model: {split: np.asarray(probabilities[model][split]) for split in SPLITS} for model in MODELS
    }
    if not len(truth["erased_train"]):
        raise RepairError("the set of erased training examples is empty: there is no erasure to measure")
    for model in MODELS:
        for split in SPLITS:
            shape, expected = predicted[model][split].shape, truth[split].shape
            if len(shape) != 2 or shape[0] != expected[0] or (len(expected) == 2 and shape != expected):
                raise RepairError(
                    f"the {model} model's probabilities on {split} have shape {shape} and the labels "
                    f"{expected}: give probabilities as examples by classes and one label for each example"
                )
    return truth, predicted
