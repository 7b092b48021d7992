"""The public table NAS-Bench-Macro (Su et al., CVPR 2021), read from the file that its repository has.

The file is a JSON mapping from 6,561 strings to {"test_acc": [three accuracies in per cent], "params": weights, ..}. A
string names the operation of each of 8 layers: 0 is the identity, 1 a MobileNetV2 block with 3x3 kernels and expansion
3, 2 one with 5x5 kernels and expansion 6. Layers 1, 3 and 6 halve the resolution. Between two of them an identity
before a block is the same network as one after it, so the strings describe 3,969 distinct networks.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mgnas.errors import UserError
from mgnas.files import read_json
from mgnas.models.config import ArchitectureConfig
from mgnas.search.history.table import TableRow, TabularBenchmark

OPERATIONS = "012"
LAYERS = 8
_MOVABLE = (3, 6)
"""Layers, counted from 0, whose identity may change places with a block of the next layer."""


def canonical(code: str) -> str:
    """The string with blocks before identities where their order does not matter; the same for equal networks."""
    for layer in _MOVABLE:
        first, second = code[layer : layer + 2]
        if first == "0":
            code = code[:layer] + second + first + code[layer + 2 :]
    return code


@dataclass(frozen=True)
class _Network:
    id: str


@dataclass(frozen=True)
class MacroTable(TabularBenchmark):
    """The distinct networks with their trainings, as a table whose trainings have one epoch each.

    Rows of seed 0 are the first trainings, on which searches are replayed. Scores are means of all others.
    """

    @classmethod
    def load(cls, path: str | os.PathLike) -> MacroTable:
        """Read the file.

        Raises:
            UserError: no such file, not JSON, another form, or strings of one network that differ.
        """
        try:
            raw = read_json(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: not a readable file of NAS-Bench-Macro ({error})") from None
        if not isinstance(raw, Mapping) or not raw:
            raise UserError(f"{path}: expected a mapping from strings such as 01201210 to trainings")
        networks: dict[str, tuple[list[float], int]] = {}
        for code, entry in raw.items():
            trained = _read(code, entry, path)
            if networks.setdefault(canonical(code), trained) != trained:
                raise UserError(f"{path}: {code}: another string of the same network has other trainings")
        # A search on the table asks a row's config for nothing but its id.
        rows = (
            TableRow(cast(ArchitectureConfig, _Network(code)), weights, seed, (accuracy / 100,), 0.0)
            for code, (accuracies, weights) in networks.items()
            for seed, accuracy in enumerate(accuracies)
        )
        return cls({"name": Path(path).stem}, tuple(rows))

    def mean_accuracies(self) -> dict[str, float]:
        """Network -> the mean accuracy of all its trainings but the first."""
        others = {code: [row.curve[-1] for row in rows[1:]] for code, rows in self.by_id.items()}
        return {code: sum(accuracies) / len(accuracies) for code, accuracies in others.items()}

    def first_accuracies(self) -> dict[str, float]:
        """Network -> the accuracy of its first training."""
        return {code: rows[0].curve[-1] for code, rows in self.by_id.items()}

    def weights(self) -> dict[str, int]:
        return {code: rows[0].weights for code, rows in self.by_id.items()}

    def codes(self) -> list[str]:
        """All strings whose network is in the table, several of one network too, in ascending order."""
        strings = map("".join, itertools.product(OPERATIONS, repeat=LAYERS))
        return [code for code in strings if canonical(code) in self.by_id]


def _read(code: str, entry: Any, path: str | os.PathLike) -> tuple[list[float], int]:
    """Accuracies in per cent, and weights."""
    if len(code) != LAYERS or not set(code) <= set(OPERATIONS):
        raise UserError(f"{path}: {code}: expected a string of {LAYERS} digits from {OPERATIONS}")
    try:
        accuracies, weights = [float(accuracy) for accuracy in entry["test_acc"]], int(entry["params"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}: {code}: expected test_acc, a list of accuracies, and params, a number") from None
    if len(accuracies) < 2 or not all(0 <= accuracy <= 100 for accuracy in accuracies) or weights < 1:
        raise UserError(f"{path}: {code}: expected at least 2 accuracies of 0 to 100 and a positive number of weights")
    return accuracies, weights
