"""Check every setting, and write each stage's own, one file a stage.

Later stages depend on these files and not on `params.yaml`, so two methods with equal settings for a stage share its
result, and whatever is wrong is said before anything runs.
"""

from modelrepair.data.model_folders import open_model_folder
from modelrepair.pipeline.artifacts import output_folder, write_json
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import expect_lists, language_models, stage_settings


def main(stage: Stage) -> None:
    parameters = read_parameters(stage.root / "params.yaml")
    settings = stage_settings(parameters)
    expect_lists(parameters, settings, stage.root)
    for place in language_models(parameters, settings):
        open_model_folder(stage.root / place)
    with output_folder(stage.root / "data/method") as folder:
        for name, content in settings.items():
            write_json(folder / f"{name}.json", content.model_dump())
    what = settings["evaluate"].model_dump()
    print("finds causes by {identification}, selects by {selection}, treats by {treatment}".format(**what))


if __name__ == "__main__":
    run_stage(main)
