"""Check that the code which dvc.yaml says a stage depends on is the code that it imports, no less and no more.

    python scripts/stage_dependencies.py [STAGE…]    # say what differs, status 1 if anything does

Code is declared as folders of which a stage imports every module, and as single files where it imports some. Networks
are imported by name, one a run, so a stage that imports `networks` depends on the file that `model.network` names, and
on what any of them imports; and on the folder of the user's own, which `networks/own.py` looks into.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SOURCE = Path("src")
STAGES = Path("src/modelrepair/stages")
NETWORKS = Path("src/modelrepair/networks")
OWN_NETWORKS = "networks"
CHOSEN_NETWORK = f"{NETWORKS}/${{model.network}}.py"


def expected_dependencies(stage: str, root: Path = ROOT) -> set[str]:
    """The code entries that the stage's `deps` should have."""
    files = imported_files(STAGES / f"{stage.replace('-', '_')}.py", root)
    named = {file for file in files if file.parent == NETWORKS and file.name != "__init__.py"}
    entries = folded(files - named, root)
    return entries | {CHOSEN_NETWORK, OWN_NETWORKS} if NETWORKS / "__init__.py" in files else entries


def imported_files(script: Path, root: Path = ROOT) -> set[Path]:
    """Files of this project that run with a stage's module: what it imports, directly or not, its packages and itself.

    Relative to root. Found in the syntax tree, so imports inside functions count, and those under `if TYPE_CHECKING` do
    not. Importing a.b.c also runs a and a.b.
    """
    found: set[Path] = set()
    waiting = [script, *(script.parents[i] / "__init__.py" for i in range(len(script.parents) - 2))]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        if file == NETWORKS / "__init__.py":
            waiting += [path.relative_to(root) for path in (root / NETWORKS).glob("*.py")]
        for name in _imported_names((root / file).read_text(encoding="utf-8")):
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                waiting += _files_of(parts[:length], file, root)
    return found


def folded(files: set[Path], root: Path = ROOT) -> set[str]:
    """The files, with folders in place of all that is in them where no module of a folder is left out."""
    folders = {folder for file in files for folder in file.parents if SOURCE in folder.parents}
    whole = {
        folder
        for folder in folders
        if all(path.relative_to(root) in files for path in (root / folder).rglob("*.py"))
    }
    return {str(next((f for f in reversed(file.parents) if f in whole), file)) for file in files}


def _imported_names(code: str) -> set[str]:
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(code)]
    while waiting:
        node = waiting.pop()
        # What is there for the type checker alone does not run.
        typed = (
            isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        )
        waiting += node.orelse if typed else ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _files_of(parts: list[str], importer: Path, root: Path) -> list[Path]:
    places = [SOURCE.joinpath(*parts), importer.parent.joinpath(*parts)]
    candidates = [file for place in places for file in (place.with_suffix(".py"), place / "__init__.py")]
    return [file for file in candidates if (root / file).is_file()]


def main() -> None:
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    complaints = []
    for name in sys.argv[1:] or stages:
        declared = {entry for entry in stages[name]["deps"] if entry.startswith(("src/", OWN_NETWORKS))}
        expected = expected_dependencies(name)
        if missing := sorted(expected - declared):
            complaints.append(f"{name} imports what it does not declare: add {', '.join(missing)}")
        if surplus := sorted(declared - expected):
            complaints.append(f"{name} declares what it does not import: remove {', '.join(surplus)}")
    if complaints:
        sys.exit("\n".join(["the dependencies in dvc.yaml are not those of the code:", *complaints]))


if __name__ == "__main__":
    main()
