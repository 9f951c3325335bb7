"""What can be done from a terminal: begin a project of one's own, keep it up to date, see what came of it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from modelrepair.errors import RepairError
from modelrepair.project.pipeline import version


def main(arguments: list[str] | None = None) -> None:
    """Run `modelrepair`: one sentence and status 1 for what a user can mend.

    Args:
        arguments: of the command; those of this process by default.
    """
    parser = argparse.ArgumentParser(prog="modelrepair", description=__doc__)
    parser.add_argument("--version", action="version", version=f"modelrepair {version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    begin = commands.add_parser("init", help="begin a project of your own")
    begin.set_defaults(run=_init)
    begin.add_argument("folder", type=Path, help="where: a new folder, or an empty one")
    begin.add_argument(
        "--data",
        type=Path,
        help="arrays as .npz or a folder of .npy, a table as .csv or .parquet, images by class, or a zip of them: they "
        "are copied",
    )
    begin.add_argument(
        "--images", type=Path, help="the folder, or a zip, of the images that the table in --data lists"
    )
    begin.add_argument(
        "--files", default="file", help="its column with the names of the images; file by default"
    )
    begin.add_argument(
        "--label", default="label", help="the column of a table that holds the class; label by default"
    )
    begin.add_argument(
        "--network", help="one of the package's, such as conv4, or yours: path/to/net.py:Class"
    )
    begin.add_argument(
        "--argument", action="append", default=[], metavar="NAME=VALUE", help="that the network is made with"
    )
    begin.add_argument("--weights", type=Path, help="of the trained network: safetensors")
    begin.add_argument(
        "--failures", type=Path, help="a CSV of what the model has wrong; without it all that it has"
    )
    begin.add_argument("--method", help="how causes are found and the model is repaired; mend by default")

    update = commands.add_parser("update", help="bring a project to this version of the package")
    update.set_defaults(run=_update)
    update.add_argument(
        "folder", type=Path, nargs="?", default=Path(), help="of the project; this one by default"
    )

    show = commands.add_parser("show", help="print what the last run found and repaired")
    show.set_defaults(run=_show)
    show.add_argument(
        "folder", type=Path, nargs="?", default=Path(), help="of the project; this one by default"
    )

    given = parser.parse_args(arguments)
    try:
        given.run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has read enough, as `head` has; Python would complain once more as it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except RepairError as error:
        sys.exit(f"modelrepair: {error}")


def _init(given: argparse.Namespace) -> None:
    from modelrepair.project.start import Wishes, start_project

    wishes = Wishes(
        data=given.data,
        label=given.label,
        images=given.images,
        files=given.files,
        network=given.network,
        arguments=dict(map(_argument, given.argument)),
        weights=given.weights,
        failures=given.failures,
        method=given.method,
    )
    start_project(given.folder, wishes)
    print(f"Your project is in {given.folder}, with all choices in params.yaml. Next:\n")
    if given.folder.resolve() != Path.cwd():
        print(f"  cd {shlex.quote(str(given.folder))}")
    print("  dvc repro")


def _argument(text: str) -> tuple[str, Any]:
    """A name and a value, which is read as YAML."""
    from ruamel.yaml import YAML

    name, separator, value = text.partition("=")
    if not separator or not name.isidentifier():
        raise RepairError(f"the argument {text!r} is no name with a value: give one such as width=64")
    return name, YAML(typ="safe", pure=True).load(value)


def _update(given: argparse.Namespace) -> None:
    from modelrepair.project.start import update_project

    added = update_project(given.folder)
    print(f"dvc.yaml has the stages of modelrepair {version()}")
    if added:
        print(f"params.yaml has, in addition, {', '.join(added)}")


def _show(given: argparse.Namespace) -> None:
    from modelrepair.project.results import show_results

    show_results(given.folder)


if __name__ == "__main__":
    main()
