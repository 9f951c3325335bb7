"""Formulas as MathML, which browsers show by themselves: pages load nothing from elsewhere, and need no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

log = logging.getLogger(__name__)
FUNCTION = re.compile(r"(<mi>[a-z]{2,}</mi>)(?=<mi>)")
"""The name of a function and behind it its argument, between which TeX leaves room."""


def formula(node: nodes.Node, display: str) -> str:
    """A formula's MathML; a command that has none is a warning, and those are errors."""
    result = convert(node.astext(), display=display)
    if unknown := re.findall(r"\\\w+", result):
        log.warning("a formula has %s, which has no MathML", ", ".join(sorted(set(unknown))), location=node)
    return FUNCTION.sub(r'\1<mspace width="0.167em" />', result)


def inline(translator: Any, node: nodes.Node) -> None:
    """A formula in a line of text."""
    translator.body.append(formula(node, "inline"))
    raise nodes.SkipNode


def block(translator: Any, node: nodes.Node) -> None:
    """A formula by itself."""
    # Without room above and below, the theme's box around it gets a scroll bar: accents reach beyond what is measured.
    body = formula(node, "block")
    translator.body.append(f'<div class="formula" style="padding: 0.5em 0">{body}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
