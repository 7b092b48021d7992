"""Validated dataclasses of settings, with one-line errors.

Every settings class of mgnas is a frozen pydantic dataclass made with `@settings`. `build` makes an instance from a
mapping in a user's file. It turns pydantic's report into a single `ConfigError` that names the key.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, dataclass_transform, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from .errors import ConfigError
from .files import short

T = TypeVar("T")


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Decorator for a frozen, keyword-only dataclass that refuses unknown keys and values of another type."""
    # pydantic declares a class of its own as the result; it is `cls` with an __init__ that validates.
    return dataclass(cls, frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))  # pyright: ignore[reportReturnType]


def build(cls: type[T], mapping: Any, prefix: str = "", file: str | None = None) -> T:
    """Make an instance of `cls` from a user's mapping.

    Args:
        cls: a class made with `@settings`.
        mapping: keys and values of the file.
        prefix: dotted path of the mapping in the file.
        file: the file's name, for the message.

    Raises:
        ConfigError: `mapping` is not a mapping, a key is unknown or missing, or a value is wrong. The message names
            the key.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(prefix, f"expected a mapping of settings, got {short(mapping)}", file)
    try:
        return cls(**{str(key): value for key, value in mapping.items()})
    except ValidationError as error:
        raise _config_error(error, cls).inside(prefix, file) from None


def check_field(cls: type, name: str, value: Any, prefix: str = "") -> None:
    """Check the type and range of one field's value, without the other fields.

    Raises:
        ConfigError: the value has the wrong type or range.
    """
    try:
        _adapter(cls, name).validate_python(value)
    except ValidationError as error:
        raise _config_error(error, cls).inside(name).inside(prefix) from None


@functools.cache
def _adapter(cls: type, name: str) -> TypeAdapter:
    return TypeAdapter(get_type_hints(cls, include_extras=True)[name], config=ConfigDict(strict=True))


def unknown_key(key: str, known_keys: list[str]) -> ConfigError:
    """The error for an unknown key. It names the most similar known key, or else all known keys."""
    near = difflib.get_close_matches(key, known_keys, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known_keys))}"
    return ConfigError(key, f"unknown key; {hint}")


def _config_error(error: ValidationError, cls: type) -> ConfigError:
    # Unknown keys come first, because an unknown key is often a misspelt required one, which is then missing.
    unknown = [item for item in error.errors() if item["type"] in ("unexpected_keyword_argument", "extra_forbidden")]
    if unknown:
        return unknown_key(str(unknown[0]["loc"][-1]), [field.name for field in fields(cls)])
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    # After the field's name pydantic puts list indices and, if it tried several types, their names.
    key = ".".join(str(part) for i, part in enumerate(first["loc"]) if i == 0 or isinstance(part, int))
    if isinstance(cause, ConfigError):
        return cause.inside(key)
    if first["type"] in ("missing", "missing_keyword_only_argument"):
        return ConfigError(key, "is required and missing")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return ConfigError(
        key, f"{message[0].lower()}{message[1:]}, got {short(first['input'])}{_yaml_hint(first['input'])}"
    )


def _yaml_hint(value: Any) -> str:
    """A remedy for numbers such as 5e-4, which YAML 1.1 reads as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        mantissa, exponent = re.split("[eE]", value)
        return f"; YAML takes that for text, write {mantissa}.0e{exponent if exponent[0] in '+-' else '+' + exponent}"
    return ""
