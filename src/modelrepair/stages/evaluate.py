"""Measure what was found and what was repaired, draw it, and write the page on which a person decides."""

import pandas as pd

from modelrepair.data.classes import label_array
from modelrepair.evaluation.gathering import gather
from modelrepair.evaluation.links import connect
from modelrepair.evaluation.measures import intervals, measure_all
from modelrepair.evaluation.page import Run, write_page
from modelrepair.evaluation.pictures import draw_all
from modelrepair.evaluation.workspace import make_assessment, read_edits
from modelrepair.models.files import load_model
from modelrepair.models.workspace import (
    corrupted_domain,
    dataset_description,
    failures,
    test_examples,
    training_examples,
)
from modelrepair.pipeline.artifacts import (
    output_file,
    output_folder,
    read_curve,
    read_json,
    read_table,
    write_json,
)
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.evaluation import Description


def main(stage: Stage) -> None:
    use_deterministic_torch()
    root = stage.root
    settings = stage.settings(Description)
    used = settings.model_dump(exclude={"seed", "measured", "cka"})
    scored, reference, retrained, parameters = (
        used.pop(name) for name in ("scored", "reference", "retrained", "parameters")
    )
    used = {name: value for name, value in used.items() if value is not None}

    examples, training = training_examples(root)
    tests = pd.concat([failures(root, part) for part in ("discovery", "reserved", "assessment")])
    # Under the protocol halves, a query from assessment is in the table of discovery too.
    tests = tests.drop_duplicates("example").reset_index(drop=True)
    in_domain, attacker_class = corrupted_domain(root, tests)
    base, unseen = load_model(root / "models/base")[0], test_examples(root, tests)
    described = dataset_description(root)
    causes = read_table(root / "data/causes/causes.parquet")
    ranked = read_table(root / "data/scores/scores.parquet") if scored else pd.DataFrame()
    divided, expected = root / "data/failures/clusters.json", root / "data/causes/expected.json"
    estimate = read_json(expected) if expected.exists() else None
    corruption = read_json(root / "data/corrupted/corruption.json")
    single_edits, edits_in_a_row = read_edits(root, settings, base, unseen, tests)
    evidence = gather(
        base=base,
        single_edits=single_edits,
        edits_in_a_row=edits_in_a_row,
        repaired=load_model(root / "models/repaired")[0],
        training=examples,
        tests=unseen,
        class_names=described["classes"],
        in_words=described.get("in_words", False),
        vocabulary=described.get("vocabulary"),
        training_facts=training.get("fact"),
        test_facts=tests.get("fact"),
        training_relations=training.get("relation"),
        training_subjects=training.get("subject"),
        test_relations=tests.get("relation"),
        noisy_classes=corruption["noisy_classes"],
        true_labels=label_array(training["true_label"]),
        is_corrupted=training["is_corrupted"],
        corrupted_by=training.get("corruption"),
        scores=ranked.get("score"),
        causes=causes["position"],
        corrections=causes.get("new_label"),
        roles=tests["role"],
        parts=tests["part"],
        reference=load_model(root / "models/reference")[0] if reference else None,
        reference_in_words=reference,
        reference_retrained=retrained,
        in_domain=in_domain,
        attacker_class=attacker_class,
        assessment=make_assessment(root, settings, tests, training, described),
        course=read_curve(root / "metrics/treatment_course.csv", round="int64", returned="bool"),
        clusters=read_json(divided) if divided.exists() else (),
        failure_clusters=tests.get("cluster"),
        driven_clusters=ranked.get("cluster"),
        expected_causes=None if estimate is None else (estimate["count"], estimate["error"]),
        relearning=settings.measured.relearning_steps,
        seed=settings.seed,
    )
    measured = measure_all(evidence)
    score = read_json(root / "data/scores/scores.json") if scored else None
    run = Run(used, parameters, score, stage.costs_before())
    # All are put in place when all of each is there, the numbers last.
    with (
        output_file(root / "metrics/repair.json") as numbers,
        output_file(root / "metrics/intervals.json") as sure,
        output_file(root / "metrics/page.html") as page,
        output_folder(root / "metrics/pictures") as folder,
    ):
        attacks = {name: corruption[name] for name in ("attacks",) if name in corruption}
        write_json(numbers, {"used": used, **attacks, **measured}, checksum=False)
        write_json(sure, intervals.measure(evidence), checksum=False)
        draw_all(folder, evidence)
        write_page(page, evidence, connect(base, examples, unseen, evidence), measured, run)


if __name__ == "__main__":
    run_stage(main, shared=True)
