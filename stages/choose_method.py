"""Write the chosen method's settings, one file for each stage that needs some.

Later stages depend on these files and not on `methods.NAME.*`, so two methods with equal settings for a stage
share its result, and a name that is not there is met with the names that are.
"""

import environment  # noqa: F401

from pathlib import Path

from modelrepair.artifacts import output_folder, write_json
from modelrepair.methods import resolve_method
from modelrepair.stage import Stage, run_stage


def main(stage: Stage) -> None:
    method = resolve_method(stage.parameters["method"], stage.parameters["methods"])
    with output_folder(stage.root / Path("data/method")) as folder:
        for part, settings in method.items():
            write_json(folder / f"{part}.json", settings)


if __name__ == "__main__":
    run_stage(main)
