"""Bring the data set into arrays and tables, split into training and validation, and the test set into parts."""

from modelrepair.data.randomness import generator
from modelrepair.pipeline.artifacts import output_folder, write_array, write_json, write_table
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.settings.data import PrepareData
from modelrepair.sources import input_file, load_source
from modelrepair.splits.dataset import (
    split_test,
    split_training,
    test_table,
    training_table,
    with_files,
    with_further_labels,
)


def main(stage: Stage) -> None:
    settings = stage.settings(PrepareData)
    seed, sizes = settings.seed, settings.dataset
    with output_folder(stage.root / "data/original") as folder:
        data = load_source(sizes, seed, folder)
        split, part = data.split, data.part
        if split is None:
            split = split_training(
                data.train_labels, sizes.validation_fraction, generator(seed, "training and validation")
            )
        if part is None:
            part = split_test(
                data.test_labels,
                generator(seed, "parts of the test set"),
                reserved=sizes.reserved,
                assessment=sizes.assessment,
            )
        for side, inputs in (("train", data.train_inputs), ("test", data.test_inputs)):
            if not input_file(folder, side).exists():
                write_array(input_file(folder, side), inputs)
        training = with_files(training_table(data.train_labels, split), data.train_files)
        training = with_further_labels(training, data.further_labels).assign(**data.train_columns)
        write_table(folder / "train.parquet", training)
        tests = with_files(test_table(data.test_labels, part), data.test_files).assign(**data.test_columns)
        write_table(folder / "test.parquet", tests)
        write_json(
            folder / "dataset.json",
            {
                "description": data.description,
                "classes": data.classes,
                "input_shape": data.train_inputs.shape[1:],
                "likelihood": "softmax" if data.train_labels.ndim == 1 else "sigmoid",
                **({"in_words": True} if sizes.in_words else {}),
                **({} if data.vocabulary is None else {"vocabulary": data.vocabulary}),
                **({} if data.tokens is None else {"tokens": data.tokens.write(folder)}),
                **({"contradictions": data.contradictions} if data.contradictions else {}),
            },
        )
    print(data.description)


if __name__ == "__main__":
    run_stage(main)
