"""docs/api.md: the public names of `mgnas` with their signatures and docstrings as Markdown."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import mgnas

_HEAD = """\
# The Python API

This page is written by `python docs/generate.py` from the docstrings. Everything below is an attribute of
`mgnas`, and is imported when it is first used. [example.md](example.md) shows it at work.
"""

SECTIONS: dict[str, dict[str, tuple[str, ...] | None]] = {
    "Search": {
        "run_search": None,
        "open_run": None,
        "SearchConfig": ("load", "from_mapping", "override", "to_dict"),
    },
    "Results": {
        "Run": None,
        "CompletedTrial": None,
        "TrialRecord": None,
        "TrialState": (),
        "Choice": None,
        "Retrained": None,
    },
    "Networks": {
        "ArchitectureConfig": ("from_dict", "to_dict", "canonical", "id", "describe"),
        "build_model": None,
        "count_weights": None,
        "count_macs": None,
        "load": None,
        "Classifier": ("forward", "predict"),
        "export": None,
    },
    "Sampler": {"EHVISampler": (), "LogErrorTransform": ()},
    "Errors": {"UserError": (), "ConfigError": (), "SearchStoppedError": ()},
}
"""Section -> public name -> the members of the class that are shown; None: all that are defined there."""

_WITH_CONSTRUCTOR = ("EHVISampler", "LogErrorTransform")
"""Classes that users make themselves; the other objects come from functions and methods."""

_WIDTH = 100


def api_page() -> str:
    """The text of docs/api.md."""
    lines = _HEAD.splitlines()
    for section, names in SECTIONS.items():
        lines += ["", f"## {section}"]
        for name, members in names.items():
            value = getattr(mgnas, name)
            lines += ["", f"### {name}"]
            lines += _class(name, value, members) if inspect.isclass(value) else _function(name, value)
    return "\n".join(lines) + "\n"


def _function(name: str, value: Any) -> Iterator[str]:
    yield from ("", *_signature(name, value))
    yield from _docstring(value, "Arguments")


def _class(name: str, cls: type, members: Iterable[str] | None) -> Iterator[str]:
    """A class with its constructor, properties and methods, as far as users need them."""
    constructed = name in _WITH_CONSTRUCTOR
    if constructed:
        yield from ("", *_signature(name, cls))
    has_fields = dataclasses.is_dataclass(cls) or issubclass(cls, Exception)
    yield from _docstring(cls, "Arguments" if constructed else "Attributes" if has_fields else None)
    if members is None:
        members = [member for member in vars(cls) if not member.startswith("_")]
    values = {member: inspect.getattr_static(cls, member) for member in members}
    getters = {
        member: value.fget if isinstance(value, property) else value.func
        for member, value in values.items()
        if isinstance(value, property | cached_property)
    }
    if getters:
        yield from ("", "**Properties**", "")
    for member, getter in getters.items():
        assert getter is not None
        text = re.split(r"^Raises:", inspect.getdoc(getter) or "", flags=re.MULTILINE)[0]
        kind = _annotation(inspect.signature(getter).return_annotation)
        yield from _wrapped(f"- `{member}` (`{kind}`): {' '.join(text.split())}".rstrip(": "))
    for member in values:
        method = getattr(cls, member)
        if member not in getters and callable(method):
            yield from ("", f"#### {name}.{member}", *_function(f"{name}.{member}", method))


def _signature(name: str, value: Any) -> Iterator[str]:
    """A call as Python code, with a line for each parameter if it is long."""
    signature = inspect.signature(value)
    shown: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        annotation = "" if parameter.annotation is parameter.empty else f": {_annotation(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}".replace("'", '"')
        shown.append(f"{stars}{parameter.name}{annotation}{default}")
    returned = "None" if signature.return_annotation is signature.empty else _annotation(signature.return_annotation)
    arrow = "" if returned == "None" else f" -> {returned}"
    line = f"{name}({', '.join(shown)}){arrow}"
    lines = [line] if len(line) <= _WIDTH else [f"{name}(", *(f"    {part}," for part in shown), f"){arrow}"]
    yield from ("```python", *lines, "```")


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"os\.PathLike(\[str\])?", "PathLike", text).replace("pd.DataFrame", "pandas.DataFrame")


def _docstring(value: Any, arguments: str | None) -> Iterator[str]:
    """A docstring of Google's style as Markdown, with an empty line before each part.

    Args:
        value: has the docstring.
        arguments: heading of its `Args`; None: they are left out.
    """
    headings = {"Args:": arguments, "Returns:": "Returns", "Raises:": "Raises"}
    text, *sections = re.split(r"^(Args:|Returns:|Raises:)\n", inspect.getdoc(value) or "", flags=re.MULTILINE)
    # Text and code take turns; code may hold empty lines.
    for index, part in enumerate(re.split(r"^((?:    .*\n*)+)", text.strip() + "\n", flags=re.MULTILINE)):
        if index % 2:
            yield from ("", "```python", *textwrap.dedent(part).strip().splitlines(), "```")
            continue
        for paragraph in re.split(r"\n\n+", part.strip()):
            if paragraph:
                yield from ("", *_wrapped(paragraph))
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        heading, body = headings[title], textwrap.dedent(body).strip()
        if title == "Returns:":
            yield from ("", *_wrapped(f"**{heading}** {body}"))
        elif heading is not None:
            yield from ("", f"**{heading}**", "")
            for entry in re.split(r"\n(?! )", body):
                names, _, meaning = entry.partition(":")
                quoted = ", ".join(f"`{name}`" for name in names.split(", "))
                yield from _wrapped(f"- {quoted}: {meaning}")


def _wrapped(text: str) -> list[str]:
    """A paragraph or a list entry in lines, with names of pages as links."""
    text = re.sub(r"\bdocs/(\w+\.md)", r"[\1](\1)", " ".join(text.split()))
    indent = "  " if text.startswith("- ") else ""
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
