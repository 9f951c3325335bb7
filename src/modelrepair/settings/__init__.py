"""What may be set, and what does each setting mean?

Every section of `params.yaml` is described here once: names, types, bounds, defaults, documentation. From these
descriptions come the checks before anything runs, the messages, a JSON schema for editors, and the options of the
families' members, whose classes inherit them. Imports `errors` alone, and no torch.

Here stands what every section is: strictly typed, bounded, without unknown keys, and clear about what is wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

from modelrepair.errors import RepairError

Chosen = TypeVar("Chosen")
LISTED = 12
"""So many names a message shows."""


def expect(words: str) -> WrapValidator:
    """Words for what a value should be, in place of a validator's own message: "give WORDS"."""

    def validate(value: Any, validator: Callable[[Any], Any]) -> Any:
        try:
            return validator(value)
        except ValidationError:
            raise PydanticCustomError("expected", "{words}", {"words": words}) from None

    return WrapValidator(validate)


Count = Annotated[int, Field(ge=1, lt=2**31), expect("a whole number of 1 or more")]
Whole = Annotated[int, Field(ge=0, lt=2**31), expect("a whole number of 0 or more")]
Seed = Annotated[int, Field(ge=0, lt=2**63), expect("a whole number of 0 or more, below 2**63")]
Positive = Annotated[float, Field(gt=0, lt=float("inf")), expect("a number above 0")]
NonNegative = Annotated[float, Field(ge=0, lt=float("inf")), expect("a number of 0 or more")]
Number = Annotated[float, Field(gt=float("-inf"), lt=float("inf")), expect("a finite number")]
Share = Annotated[float, Field(gt=0, le=1), expect("a number above 0 and at most 1")]
Proportion = Annotated[float, Field(ge=0, le=1), expect("a number from 0 to 1")]
Flag = Annotated[bool, expect("true or false")]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$"), expect("a text of one line that is not empty")]
Bytes = Annotated[int, Field(ge=1, lt=2**63), expect("a whole number of bytes, 1 or more")]
ClassName = Annotated[
    Text | Annotated[int, Field(ge=0, lt=2**31)], expect("the name or the number of a class")
]


class Settings(BaseModel):
    """A section of settings. Made from keywords, wrong ones raise a RepairError of one sentence."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RepairError(sentence(error, values)) from None

    # Sections inside a section are then checked by the outer one, whose message names the whole path.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        if isinstance(values, cls):
            return values
        known = [field.alias or name for name, field in cls.model_fields.items()]
        if not isinstance(values, Mapping):
            raise PydanticCustomError("expected", "{words}", {"words": f"a section with {listed(known)}"})
        for key in values:
            if key not in known:
                words = f"{named(key)}: {_nearest(key, known)}"
                raise PydanticCustomError("unknown", "{words}", {"words": words})
        return dict(values)


class Member(Settings):
    """The settings of one member of a family, which one of its fields names.

    Attributes:
        tag: the field that names the member, such as `update` or `score`.
    """

    tag: ClassVar[str]

    @property
    def chosen(self) -> str:
        """The member's name."""
        name: str = getattr(self, self.tag)
        return name

    @property
    def options(self) -> dict[str, Any]:
        """Its settings by name, without its name; sections within it as they are."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != self.tag}


def choose(family: str, members: Mapping[str, Chosen], name: str) -> Chosen:
    """The member of that name.

    Args:
        family: what the members are, for messages.
        members: by name.
        name: which one.

    Raises:
        RepairError: if there is none; names the ones there are.
    """
    if not isinstance(name, str) or name not in members:
        raise RepairError(f"there is no {family} {shown(name)}: choose one of {alternatives(name, members)}")
    return members[name]


def sentence(error: ValidationError, values: Mapping[str, Any]) -> str:
    """The first thing that is wrong, in words: where, what was given, what to give; and how many more there are.

    Args:
        error: what pydantic found.
        values: what it was given.
    """
    problems = error.errors(include_url=False)
    text = _in_words(dict(problems[0]), values)
    # What pydantic says of each of several types that a value may have is said of one place.
    places = {
        tuple(_path(problem["loc"], values, keep_last=problem["type"] == "missing")) for problem in problems
    }
    more = len(places) - 1
    return f"{text} ({more} more after this one)" if more else text


def alternatives(given: object, names: Iterable[str]) -> str:
    """What may stand in place of a name that is not there: all names or, of many, those most like it, or the first."""
    ordered = sorted(names)
    if len(ordered) <= LISTED:
        return listed(ordered)
    near = difflib.get_close_matches(str(given), ordered, n=3) or ordered[: LISTED // 2]
    return f"{listed(near)} or the {len(ordered) - len(near)} others"


def listed(names: Iterable[object]) -> str:
    """Names with commas between them."""
    return ", ".join(named(name) for name in names) or "nothing"


def named(name: object) -> str:
    """A name as a message shows it: as it is, or as a value where it has no letters, line ends, or is endless."""
    text = str(name)
    return text if text.strip() and text.isprintable() and len(text) <= 60 else shown(name)


def shown(value: object) -> str:
    """A value as a message shows it: at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _in_words(problem: dict[str, Any], values: Mapping[str, Any]) -> str:
    context, given, kind = problem.get("ctx", {}), shown(problem["input"]), problem["type"]
    place = _path(problem["loc"], values, keep_last=kind == "missing")
    name = ".".join(place) or "it"
    if kind == "missing":
        section = ".".join(place[:-1])
        return f"{section + ' lacks' if section else 'lacking is'} {place[-1]}: add it"
    if kind == "unknown":
        return f"{f'{name} has' if place else 'there is'} no setting {context['words']}"
    if kind == "expected":
        return f"{name} is {given}: give {context['words']}"
    if kind == "union_tag_not_found":
        return f"{name} lacks {context['discriminator'].strip(chr(39))}: say which one to use"
    if kind == "union_tag_invalid":
        tag, tags = context["discriminator"].strip("'"), context["expected_tags"].replace("'", "")
        return f"{name}.{tag} is {_inside(problem['input'], tag)}: choose one of {tags}"
    if kind == "literal_error":
        return f"{name} is {given}: choose one of {context['expected'].replace(chr(39), '').replace(' or ', ', ')}"
    if kind == "dict_type":
        return f"{name} is {given}: give names with their values"
    if kind == "list_type":
        return f"{name} is {given}: give a list"
    if kind in ("string_type", "string_unicode"):
        return f"{name} is {given}: give a text"
    if kind == "model_attributes_type":
        return f"{name} is {given}: give a section, which says what to use and its settings"
    if kind == "value_error":
        return f"{f'{name}: ' if place else ''}{context['error']}"
    return f"{name} is {given}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _inside(section: object, name: str) -> str:
    """What a section says under a name, as a message shows it."""
    return shown(section[name] if isinstance(section, Mapping) else getattr(section, name, None))


def _path(location: Sequence[object], values: Any, *, keep_last: bool) -> list[str]:
    """The names on the way to a value, without the names of members that pydantic adds to it."""
    path: list[str] = []
    *_, last = location or (None,)
    for place, step in enumerate(location):
        missing = object()
        if isinstance(values, Mapping):
            inner = values.get(step, missing)
            following = location[place + 1 : place + 2]
            told = keep_last or any(name in values for name in following)
            if (
                inner is not missing
                and following
                and told
                and not isinstance(inner, Mapping | list | BaseModel)
            ):
                # A member that is called as one of its own settings is, such as the rule fraction.
                continue
        elif isinstance(values, list | tuple):
            inner = values[step] if isinstance(step, int) and step < len(values) else missing
        else:
            inner = getattr(values, str(step), missing)
        if inner is not missing:
            values = inner
        elif not (keep_last and step is last):
            continue
        path.append(named(step))
    return path


def _nearest(key: object, known: list[str]) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"is {near[0]} meant?" if near else f"there may be {listed(known)}"
