"""Writes the pages that follow from the code: docs/space.md, docs/api.md, and the pictures of docs/architectures.md.

    python docs/generate.py

The tests compare the files with what this would write, so that they cannot go stale.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
import types
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from api_page import api_page

from mgnas.models.config import _COMMON, _EFFECTIVE, ArchitectureConfig
from mgnas.reports.figures.architecture import draw_architecture
from mgnas.reports.figures.svg import to_svg
from mgnas.search.config import Resources, SearchSettings
from mgnas.search.data.dataset import DataSettings
from mgnas.space.candidate import TrainingSettings
from mgnas.space.latency import LatencyModel
from mgnas.space.limits import Limits

DOCS = Path(__file__).parent

PICTURES = {
    "mgnet": ArchitectureConfig(family="mgnet", base_channels=(16, 32, 64), smoothing_steps=2),
    "polynomial": ArchitectureConfig(
        family="mgnet", base_channels=(16, 32), smoothing_steps=2, smoother="polynomial", polynomial_degree=2
    ),
    "mgiad": ArchitectureConfig(
        family="mgiad", base_channels=(32, 64), smoothing_steps=2, group_size=8, fully_coupled_channels=8
    ),
    "mgic": ArchitectureConfig(family="mgic", base_channels=(16, 32), group_size=4, fully_coupled_channels=8),
    "resnet": ArchitectureConfig(family="resnet", base_channels=(64, 128, 256, 512)),
}
"""Name -> the network that docs/images/NAME.svg shows, on images of 32 x 32 pixels."""

_HEAD = """\
# Every key of a search file

This page is written by `python docs/generate.py` from the code that reads the file. A key that is not listed here is an
error that names the nearest one; a value of the wrong type or range is an error that names the key.

```yaml
name: digits                # of the run directories: letters, digits, '-', '_' and '.'; default: the file's name
data: {name: digits}        # which images; required
space:                      # what is searched; required
  fixed: {family: mgiad}
  parameters:
    base_channels: [[16, 32], [16, 32, 64]]
    smoothing_steps: {low: 1, high: 4}
    learning_rate: {low: 0.02, high: 0.3, log: true}
  limits: {max_weights: 200k}
training: {epochs: 20}      # of each candidate
search: {trials: 100}       # how to search
resources: {workers: 2}     # what to run on
final_training: {epochs: 60} # of what was selected; what it does not name is taken from training
```

`mgnas init DATA` writes such a file for images found on disk ([how it chooses](data.md#folder-image-files)).
`mgnas space FILE` shows what its space holds.
YAML reads `5e-4` as text: write `5.0e-4`.

"""

_SPACE = """\
## space

| key | what it means |
|---|---|
| `fixed` | architecture settings that are the same for all candidates |
| `parameters` | what is searched: architecture and training settings, each a list or a range |
| `limits` | budgets that every candidate keeps; see below |

A **list** gives choices: numbers, words, or lists of numbers such as channels. A **range** is `{low: 1, high: 8}`, with
`step: 2` if wanted; whole numbers if `low`, `high` and `step` are, else floats. `log: true` draws it on a log scale.
Combinations that contradict themselves are never trained, and those that build the same network count once.

`num_classes` and `in_channels` come from the data. A training setting belongs into `training`, or into `parameters` if
it is searched.

### limits

"""


def space_page() -> str:
    """The text of docs/space.md."""
    return "".join(
        [
            _HEAD,
            "## data\n\nLayouts of files and folders are in [data.md](data.md).\n\n",
            _table(DataSettings),
            "\n",
            _SPACE,
            _table(Limits),
            "\n### architecture settings\n\nFor `fixed` and `parameters`. How they build a network, with pictures, "
            "is in [architectures.md](architectures.md).\n\n",
            _table(ArchitectureConfig, families=True),
            "\n## training and final_training\n\nWhy the recipe is as it is stands in [training.md](training.md).\n\n",
            _table(TrainingSettings),
            "\n## search\n\nHow a search decides is in [search.md](search.md).\n\n",
            _table(SearchSettings),
            "\n## resources\n\n",
            _table(Resources),
        ]
    )


def _table(cls: type, families: bool = False) -> str:
    hints, texts = get_type_hints(cls, include_extras=True), _docstrings(cls)
    head = "| key | value | default |" + (" for |" if families else "") + " what it means |"
    lines = [head, "|---" * (5 if families else 4) + "|"]
    for field in dataclasses.fields(cls):
        cells = [f"`{field.name}`", _values(hints[field.name]), _default(field)]
        if families:
            users = [family for family, names in _EFFECTIVE.items() if field.name in names | _COMMON]
            cells.append("all" if len(users) == len(_EFFECTIVE) else ", ".join(users))
        lines.append(f"| {' | '.join([*cells, texts[field.name]])} |")
    return "\n".join(lines) + "\n"


def _docstrings(cls: type) -> dict[str, str]:
    """Field -> the text that stands below it in the source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for field, text in pairwise(definition.body):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)):
            continue
        if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            texts[field.target.id] = " ".join(text.value.value.split()).replace("|", "\\|")
    return texts


def _default(field: dataclasses.Field) -> str:
    default = field.default
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return f"`{made}`".replace("'", "")
    if default is dataclasses.MISSING:
        return "required"
    default = getattr(default, "default", default)  # pydantic keeps some in a FieldInfo.
    if default is None:
        return "not given"
    return str(default).lower() if isinstance(default, bool) else f"{default}"


_OWN_FORMS = {
    "_until": "a mapping of `gain` (a share) and `trials`, a share, or `none`",
    "_share": "a share",
    "_focus": "a mapping of `max_weights`, `min_weights` and `min_accuracy`, or `none`",
}
"""Functions that read a setting of several forms -> these forms in words."""


def _values(hint: Any, bounds: str = "") -> str:
    """A type as a reader of YAML would call it."""
    if get_origin(hint) is Annotated:
        inner, *notes = get_args(hint)
        ranges = "".join(filter(None, (_bounds(note) for note in notes)))
        if any(getattr(getattr(note, "func", None), "__name__", "") in _OWN_FORMS for note in notes):
            return _OWN_FORMS[next(note.func.__name__ for note in notes)]
        if inner == (int | None) and not ranges and any("parse_count" in inspect.getsource(n.func) for n in notes):
            return "a count"
        if inner == (int | None) and not ranges and any("parse_bytes" in inspect.getsource(n.func) for n in notes):
            return "bytes"
        return _values(inner, ranges)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [_values(each, bounds) for each in get_args(hint) if each is not types.NoneType]
        return " or ".join(kinds)
    if get_origin(hint) is list:
        return f"list of {_values(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        key, value = (_values(each) for each in get_args(hint))
        return f"mapping of {key} to {value}"
    if get_origin(hint) is tuple:
        inner = get_args(hint)[0]
        return f"a list of: {_values(inner)}"
    if hint is LatencyModel:
        return "mapping of " + ", ".join(f"`{field.name}`" for field in dataclasses.fields(LatencyModel))
    return {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}[hint] + bounds


def _bounds(note: Any) -> str:
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    found = []
    for part in getattr(note, "metadata", []):
        for name, word in words.items():
            value = getattr(part, name, None)
            if value is not None:
                found.append(f" {word} {value:,}" if isinstance(value, int) else f" {word} {value:g}")
    return "".join(found)


def pictures() -> dict[Path, str]:
    """File -> its text."""
    return {
        DOCS / "images" / f"{name}.svg": to_svg(draw_architecture(config, 32)) + "\n"
        for name, config in PICTURES.items()
    }


def main() -> None:
    (DOCS / "space.md").write_text(space_page(), encoding="utf-8")
    (DOCS / "api.md").write_text(api_page(), encoding="utf-8")
    for file, text in pictures().items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
