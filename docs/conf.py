"""How the documentation is built: `make docs`. Warnings, such as of a link to nothing, are errors."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

project = "modelrepair"
release = importlib.metadata.version("modelrepair")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"modelrepair {release}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["amsmath", "dollarmath"]
# A link to a heading is then checked as one to a page is.
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "show-inheritance": True}
# Those of pydantic, which every class of settings has, say nothing of it.
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
# The bounds of settings are types; their docstrings say them in words.
autodoc_typehints = "none"

SECTION = re.compile(r"\s*(Args|Attributes|Raises|Returns|Yields):")


def take_literally(app: Any, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code`, sections, and indented formulas: they are marked up as such.

    Args:
        app, what, name, documented, options: as Sphinx gives them.
        lines: of the docstring, which are changed.
    """
    formula: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if formula is not None and line.strip() and indent <= formula:
            formula = None
        if formula is not None:
            continue
        if line.strip() == "Returns:" and number + 1 < len(lines):
            # Napoleon would take what stands before a colon for a type.
            lines[number + 1] = re.sub(r"(\w+(?:, \w+)*):(?= )", r"`\1:`", lines[number + 1])
        following = lines[number + 1 : number + 3]
        opens = (
            len(following) == 2 and not following[0].strip() and following[1].startswith(" " * (indent + 4))
        )
        parts = re.split(r"(`[^`]+`)", line)
        lines[number] = "".join(
            f"`{part}`"
            if re.fullmatch(r"`[^`]+`", part)
            else re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", part)
            for part in parts
        )
        if line.endswith(":") and not SECTION.fullmatch(line) and opens:
            lines[number] += ":"
            formula = indent
    if what == "attribute" and (before := re.match(r"(?:[^`:]|`[^`]*`)*: ", lines[0])):
        # Napoleon would take what stands before a colon in the first line for a type, unless the line ends there.
        lines[:1] = [before[0].rstrip(), lines[0][before.end() :]]


def setup(app: Any) -> None:
    """Before napoleon turns sections into fields."""
    app.connect("autodoc-process-docstring", take_literally, priority=0)
