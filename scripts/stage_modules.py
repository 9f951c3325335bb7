"""Keep the code dependencies in dvc.yaml true: each stage lists exactly the modules that it imports.

python scripts/stage_modules.py            # say what differs; status 1 if anything does
python scripts/stage_modules.py --write    # write it into dvc.yaml
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
SOURCE = Path("src")


def imported_files(script: Path, root: Path = ROOT) -> set[str]:
    """Files of this project that a script imports, directly or not, and the script itself; relative to root.

    Found in the syntax tree, so imports inside functions count. Importing a.b.c also runs a and a.b.
    """
    found: set[str] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if str(file) in found:
            continue
        found.add(str(file))
        for name in _imported_names((root / file).read_text()):
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                waiting += _files_of(parts[:length], file, root)
    return found


def expected_dependencies(stage: str, given: list[str], root: Path = ROOT) -> list[str]:
    """What the stage's `deps` should be: its data as given, its code as imported; sorted as DVC sorts them."""
    data = {name for name in given if not name.endswith(".py")}
    return sorted(data | imported_files(Path("stages") / f"{stage.replace('-', '_')}.py", root))


def _imported_names(code: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
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
    yaml = YAML()
    yaml.width = 4096
    path = ROOT / "dvc.yaml"
    pipeline = yaml.load(path.read_text())
    stale = []
    for name, stage in pipeline["stages"].items():
        expected = expected_dependencies(name, list(stage.get("deps", [])))
        if list(stage.get("deps", [])) != expected:
            stale.append(name)
            stage["deps"] = expected
            # `deps` stands after `cmd`, where DVC itself would write it.
            for key in [key for key in stage if key not in ("cmd", "deps")]:
                stage.move_to_end(key)
    if stale and "--write" in sys.argv:
        yaml.dump(pipeline, path)
    elif stale:
        sys.exit(f"dvc.yaml lists other modules than are imported for {', '.join(stale)}: run with --write")


if __name__ == "__main__":
    main()
