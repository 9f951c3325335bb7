"""Check every setting, and write each stage's own, one file a stage.

Later stages depend on these files and not on `params.yaml`, so two methods with equal settings for a stage share its
result, and whatever is wrong is said before anything runs.
"""

import zipfile
from pathlib import Path
from typing import cast

import numpy as np

from modelrepair.data.model_folders import open_model_folder
from modelrepair.pipeline.artifacts import output_folder, write_json
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.settings.attributes import expect_no_classes
from modelrepair.settings.data import NpzSettings, PrepareData
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import expect_lists, language_models, stage_settings


def main(stage: Stage) -> None:
    parameters = read_parameters(stage.root / "params.yaml")
    settings = stage_settings(parameters)
    expect_lists(parameters, settings, stage.root)
    for place in language_models(parameters, settings):
        open_model_folder(stage.root / place)
    dataset = cast(PrepareData, settings["prepare-data"]).dataset
    if isinstance(dataset, NpzSettings) and has_attributes(stage.root / dataset.file):
        expect_no_classes(settings)
    with output_folder(stage.root / "data/method") as folder:
        for name, content in settings.items():
            write_json(folder / f"{name}.json", content.model_dump())
    what = settings["evaluate"].model_dump()
    print("finds causes by {identification}, selects by {selection}, treats by {treatment}".format(**what))


def has_attributes(path: Path) -> bool:
    """Whether the labels of the user's own arrays have a column for each attribute, by their first bytes.

    False where these cannot be read: prepare-data says what is wrong with the file.
    """
    name = "train_labels.npy"
    try:
        with (path / name if path.is_dir() else zipfile.Path(path, name)).open("rb") as head:
            old = np.lib.format.read_magic(head) == (1, 0)
            reader = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
            return len(reader(head)[0]) == 2
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False


if __name__ == "__main__":
    run_stage(main)
