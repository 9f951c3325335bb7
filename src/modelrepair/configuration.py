"""Making a family's member from its name and options in `params.yaml`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from modelrepair.errors import RepairError

Member = TypeVar("Member")


def build(family: str, members: Mapping[str, type[Member]], name: str, options: Mapping[str, Any]) -> Member:
    """The member of that name, made with these options.

    Args:
        family: what the members are, for messages.
        members: dataclasses by name.
        name: which one.
        options: values for its fields.

    Raises:
        RepairError: if there is no such member, or it lacks such an option; names the ones there are.
    """
    member = choose(family, members, name)
    fields = [field.name for field in dataclasses.fields(member) if field.init]  # type: ignore[arg-type]
    unknown = sorted(set(options) - set(fields))
    if unknown:
        raise RepairError(
            f"{family} {name!r} has no option {', '.join(unknown)}: it takes {', '.join(fields) or 'none'}"
        )
    try:
        return member(**options)
    except TypeError as error:
        raise RepairError(f"{family} {name!r} cannot be made from {dict(options)}: {error}") from error


def choose(family: str, members: Mapping[str, Member], name: str) -> Member:
    """The member of that name.

    Raises:
        RepairError: if there is none; names the ones there are.
    """
    if name not in members:
        raise RepairError(f"there is no {family} {name!r}: choose one of {', '.join(sorted(members))}")
    return members[name]
