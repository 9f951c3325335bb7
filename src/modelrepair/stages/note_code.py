"""Note down which code of the installed package each stage runs, in a project that is no clone of modelrepair."""

import sys

from modelrepair.pipeline.artifacts import output_folder, write_json
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.project.pipeline import code_of_stages, expect_current


def main(stage: Stage) -> None:
    expect_current(stage.root)
    [network] = sys.argv[1:]
    with output_folder(stage.root / "data/code") as folder:
        for name, files in code_of_stages(network).items():
            write_json(folder / f"{name}.json", files)


if __name__ == "__main__":
    run_stage(main)
