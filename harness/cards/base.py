"""What all cards share: frozen, no unknown keys, and errors that name the file, the key and the nearest right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import UserError, nearest

__all__ = ["Card", "Fact", "explain", "parse"]


class Fact(BaseModel):
    """A typed piece of a card: immutable, and a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Card(Fact):
    """A card as a whole; ``id`` names it everywhere: in code, configs, commands, records and on the page."""

    id: str
    title: str


FactT = TypeVar("FactT", bound=Fact)


def parse(kind: type[FactT], content: Any, where: Path | str) -> FactT:
    """Validate ``content`` as ``kind``.

    Raises
    ------
    UserError
        A key is unknown, missing or of the wrong type; every fault is listed, with the nearest known key.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where} is not a valid {kind.__name__}: {explain(error, kind)}") from error


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """Put pydantic's findings into one paragraph, with a suggestion for each unknown key."""
    return "; ".join(_sentence(finding, kind) for finding in error.errors())


def _sentence(finding: Any, kind: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in finding["loc"]) or "the whole"
    if finding["type"] != "extra_forbidden":
        return f"{place}: {finding['msg']} (found {finding['input']!r:.80})"
    # a key at the top is compared with its neighbours alone; further down the place may be inside a union
    known = set(kind.model_fields) if len(finding["loc"]) == 1 else _field_names(kind)
    guess = nearest(str(finding["loc"][-1]), known)
    return f"{place}: this key is not known{f'; did you mean {guess!r}?' if guess else ''}"


def _field_names(kind: type[BaseModel]) -> set[str]:
    """Collect the field names of a model and of every model inside it."""
    names: set[str] = set()
    for name, field in kind.model_fields.items():
        names.add(name)
        for inner in _models_in(field.annotation):
            names |= _field_names(inner)
    return names


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
