"""Find the base model's failures on the test set, and keep some of them from every method."""

from typing import Any

import numpy as np

from modelrepair.data.classes import class_number, label_array
from modelrepair.data.randomness import generator
from modelrepair.knowledge.contrast import assess, contrasts_of
from modelrepair.models.files import load_model
from modelrepair.models.workspace import (
    dataset_description,
    language_of,
    test_examples,
    test_rows,
    training_examples,
)
from modelrepair.pipeline.artifacts import output_file, output_folder, write_json, write_table
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.failures import SplitFailures
from modelrepair.splits.clusters import cluster_counts, divide_failures
from modelrepair.splits.failures import (
    NoFailures,
    failure_counts,
    failure_tables,
    nested_part,
    split_failures,
)
from modelrepair.splits.listed import listed_failures
from modelrepair.splits.prompts import answers_in_words
from modelrepair.valuation.features import last_layer_factors


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(SplitFailures)
    wanted = settings.failures.classes
    described = dataset_description(stage.root)
    classes = described["classes"]
    model, _ = load_model(stage.root / "models/base")
    table, listed, file = test_rows(stage.root), None, settings.failures.file
    if file is not None:
        listed, labels = listed_failures(stage.root / file, table, classes)
        other, table = int((labels != table["label"]).sum()), table.assign(label=labels)
    examples = test_examples(stage.root, table)
    correct = model.correct(examples).cpu().numpy() == 1
    if file is None and "is_own" in table:
        listed = table["is_own"].to_numpy(bool)
        named = examples.with_targets(np.maximum(table["wrong"].to_numpy(), 0))
        as_named = model.correct(named).cpu().numpy() == 1
        print(answers_in_words(table, correct, as_named), flush=True)
    failing = None
    if settings.failures.detect == "cka":
        cka, rng = settings.failures.cka, generator(settings.seed, "contradicting relations")
        contrasts = contrasts_of(
            table,
            training_examples(stage.root)[1],
            language_of(stage.root),
            examples.inputs.shape[1],
            relations=cka.relations,
            rng=rng,
            contradictions=described.get("contradictions", {}),
        )
        failing = assess(model, examples, contrasts, cka.alpha) < cka.threshold
        print(
            f"{int(failing.sum())} of {len(failing)} facts that are asked for are not held; the model answers "
            f"{int((~correct).sum())} wrongly, and the two agree on {np.mean(failing == ~correct):.1%}",
            flush=True,
        )
    if listed is not None and file is not None:
        print(
            f"{file} lists {int(listed.sum())} test examples, {other} with another label than the data have: "
            f"{int((listed & correct).sum())} of them the model has right, which are no failures",
            flush=True,
        )
    try:
        split = split_failures(
            correct,
            table["part"].to_numpy(str),
            examples.targets,
            generator(settings.seed, "failures"),
            protocol=settings.failures.protocol,
            failure_classes=None if wanted is None else [class_number(name, classes) for name in wanted],
            required=settings.failures.required,
            most_queries=settings.failures.most_queries,
            listed=listed,
            failing=failing,
        )
    except NoFailures as good_news:
        with output_file(stage.root / "metrics/failures.json") as path:
            write_json(path, {"query": 0, "accuracy": correct.mean(), "note": str(good_news)}, checksum=False)
        raise
    clusters: list[dict[str, Any]] = []
    if settings.failures.clustered:
        numbers, clusters = divide_failures(
            lambda positions: last_layer_factors(model, examples.subset(positions)),
            examples.targets,
            model.likelihood.predictions(model.outputs(examples)).cpu().numpy(),
            split["role"].to_numpy(str),
            settings.failures.clusters,
            settings.seed,
            examples=table["example"].to_numpy(),
            classes=classes,
        )
        split = split.assign(cluster=numbers) if clusters else split
    tables = failure_tables(table, split)
    if settings.failures.most_reserved is not None:
        reserved, most = tables["reserved"], settings.failures.most_reserved
        chosen = nested_part(
            label_array(reserved["label"]), most, generator(settings.seed, "part of the reserved")
        )
        tables["reserved"] = reserved.iloc[chosen].reset_index(drop=True)
    with output_folder(stage.root / "data/failures") as folder:
        for part, rows in tables.items():
            write_table(folder / f"{part}.parquet", rows)
        if clusters:
            write_json(folder / "clusters.json", clusters)
    counts = failure_counts(table, split, classes)
    with output_file(stage.root / "metrics/failures.json") as path:
        write_json(path, {"accuracy": correct.mean(), **counts, **cluster_counts(clusters)}, checksum=False)
    print(
        f"{counts['query']} failures to find the causes of, {counts['holdout']} held out to judge the repair by"
    )


if __name__ == "__main__":
    run_stage(main, shared=True)
