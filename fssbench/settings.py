"""Method options as text: `--set field=value` to a validated config, and a config's fields for people to read."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fssbench.errors import MethodError, unknown_name

C = TypeVar("C", bound=BaseModel)

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "how many: at least"}


@dataclass(frozen=True)
class Setting:
    """One field of a config, in words."""

    name: str
    default: str  # as `--set` takes it; empty if there is none
    allowed: str
    description: str


def parse_settings(config: type[C], settings: Iterable[str] = (), base: Mapping[str, Any] | None = None) -> C:
    """A config from `field=value` texts, the last one winning, over `base` (such as a checkpoint's config).

    Tuples are written with commas, absent values as `none`. Raises `MethodError` naming the field and what it takes.

    >>> class Config(BaseModel):
    ...     size: tuple[int, int] = (417, 417)
    >>> parse_settings(Config, ["size=321,481"])
    Config(size=(321, 481))
    """
    values = dict(base or {})
    for text in settings:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals:
            raise MethodError(f"expected --set FIELD=VALUE, found {text!r}")
        if name not in config.model_fields:
            raise MethodError(unknown_name("setting", name, config.model_fields))
        values[name] = _value(value.strip(), config.model_fields[name].annotation)
    try:
        return config.model_validate(values)
    except ValidationError as error:
        raise MethodError(_explained(config, values, error)) from error


def describe_settings(config: type[BaseModel]) -> list[Setting]:
    """The fields of a config with defaults and allowed values, in order."""
    return [
        Setting(name, "" if field.is_required() else as_text(field.get_default(call_default_factory=True)),
                allowed_values(field), field.description or "")
        for name, field in config.model_fields.items()
    ]  # fmt: skip


def as_text(value: Any) -> str:
    """A value as `--set` takes it.

    >>> as_text((1, 3, 6))
    '1,3,6'
    """
    if isinstance(value, tuple | list):
        return ",".join(as_text(item) for item in value)
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def allowed_values(field: FieldInfo) -> str:
    """What a field takes, in words: type, then bounds."""
    bounds = [
        f"{words} {getattr(rule, key)}"
        for rule in field.metadata
        for key, words in _BOUNDS.items()
        if getattr(rule, key, None) is not None
    ]
    return ", ".join([_type_in_words(field.annotation), *bounds])


def _type_in_words(kind: Any) -> str:
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        return allowed_values(FieldInfo.from_annotation(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(as_text(choice) for choice in arguments)
    if _is_union(kind):
        return " or ".join("none" if one is types.NoneType else _type_in_words(one) for one in arguments)
    if get_origin(kind) in (tuple, list):
        items = [one for one in arguments if one is not Ellipsis]
        count = "" if Ellipsis in arguments or get_origin(kind) is list else f"{len(items)} "
        return f"{count}values separated by commas, each {_type_in_words(items[0])}"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _value(text: str, kind: Any) -> Any:
    """Text as pydantic wants it for a field of this type; what it cannot be is left to pydantic to refuse."""
    if _is_union(kind):
        if text.lower() == "none" and types.NoneType in get_args(kind):
            return None
        return _value(text, next(one for one in get_args(kind) if one is not types.NoneType))
    if get_origin(kind) is Literal:
        return next((choice for choice in get_args(kind) if as_text(choice) == text), text)
    if get_origin(kind) in (tuple, list):
        item = get_args(kind)[0]
        return [_value(part.strip(), item) for part in text.strip("()[] ").split(",") if part.strip()]
    return text


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _explained(config: type[BaseModel], values: Mapping[str, Any], error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return f"the settings contradict each other: {first['msg']}"
    name = str(first["loc"][0])
    if name not in config.model_fields:
        return unknown_name("setting", name, config.model_fields)
    expected = allowed_values(config.model_fields[name])
    if name not in values:
        return f"setting {name!r} has no default: expected {expected}, found nothing. Say --set {name}=VALUE."
    reason = f" ({first['msg']})" if first["type"] == "value_error" else ""
    return f"setting {name!r}: expected {expected}, found {as_text(values[name])!r}{reason}"
