"""What a method in `params.yaml` is made of, checked before anything runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelrepair.configuration import choose
from modelrepair.errors import RepairError

PARTS = {"posterior": "update", "influence": "score", "treatment": "treat"}


def resolve_method(name: str, methods: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of the named method, part by part.

    Returns:
        `name`; `posterior`, `influence` and `treatment` as they stand; `selection`, the name of a selection that
        this method always uses, or None; `curvatures`, the names that posterior and treatment ask for.

    Raises:
        RepairError: if there is no such method, or a part of it is missing or unknown.
    """
    method = choose("method", methods, name)
    unknown = sorted(set(method) - set(PARTS) - {"selection"})
    if unknown:
        raise RepairError(
            f"method {name!r} has a part {unknown[0]!r}: it may have {', '.join(PARTS)} and selection"
        )
    for part, key in PARTS.items():
        if not isinstance(method.get(part), Mapping) or key not in method[part]:
            raise RepairError(
                f"method {name!r} lacks {part}.{key} in params.yaml: say there which one to use, as the others do"
            )
    posterior = method["posterior"]
    needed = ("curvature", "damping", "balance_classes")
    missing = [key for key in needed if posterior["update"] != "none" and key not in posterior]
    if missing:
        raise RepairError(
            f"the posterior of method {name!r} lacks {', '.join(missing)}: add it in params.yaml"
        )
    asked = {method[part].get("curvature") for part in ("posterior", "treatment")}
    return {
        "name": name,
        **{part: dict(method[part]) for part in PARTS},
        "selection": method.get("selection"),
        "curvatures": sorted(asked - {None}),
    }
