"""Augmentation policies: which operation changes an image, and how strongly. Nothing here changes an image.

TrivialAugment (Müller & Hutter 2021) draws one operation of 14 and one strength of 31. AutoAugment (Cubuk et al. 2019)
draws one of 25 pairs; each operation of the pair has its strength, and a probability of being applied. Names, strengths
and probabilities are torchvision's (`TrivialAugmentWide`, and `AutoAugment` with the policy for CIFAR-10).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

PolicyName = Literal["trivial", "autoaugment"]

_MOVING = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_TONAL = ("Brightness", "Posterize", "Solarize", "Invert")
_SIGNED = (*_MOVING, "Brightness", "Color", "Contrast", "Sharpness")
_WITHOUT_STRENGTH = ("Identity", "AutoContrast", "Equalize", "Invert")
_TRIVIAL_STRENGTHS, _AUTOAUGMENT_STRENGTHS = 31, 10

_AUTOAUGMENT = """
Invert 0.1 -, Contrast 0.2 6
Rotate 0.7 2, TranslateX 0.3 9
Sharpness 0.8 1, Sharpness 0.9 3
ShearY 0.5 8, TranslateY 0.7 9
AutoContrast 0.5 -, Equalize 0.9 -
ShearY 0.2 7, Posterize 0.3 7
Color 0.4 3, Brightness 0.6 7
Sharpness 0.3 9, Brightness 0.7 9
Equalize 0.6 -, Equalize 0.5 -
Contrast 0.6 7, Sharpness 0.6 5
Color 0.7 7, TranslateX 0.5 8
Equalize 0.3 -, AutoContrast 0.4 -
TranslateY 0.4 3, Sharpness 0.2 6
Brightness 0.9 6, Color 0.2 8
Solarize 0.5 2, Invert 0.0 -
Equalize 0.2 -, AutoContrast 0.6 -
Equalize 0.2 -, Equalize 0.6 -
Color 0.9 9, Equalize 0.6 -
AutoContrast 0.8 -, Solarize 0.2 8
Brightness 0.1 3, Color 0.7 0
Solarize 0.4 5, AutoContrast 0.9 -
TranslateY 0.9 9, TranslateY 0.7 9
AutoContrast 0.9 -, Solarize 0.8 3
Equalize 0.8 -, Invert 0.1 -
TranslateY 0.7 9, AutoContrast 0.9 -
"""
"""The pairs for CIFAR-10: of each operation its name, its probability and the number of its strength."""


@dataclass(frozen=True)
class Operation:
    """An operation on an image.

    Args:
        name: as torchvision calls it.
        magnitude: its strength, in torchvision's unit of this operation.
    """

    name: str
    magnitude: float = 0.0

    @property
    def kind(self) -> Literal["moving", "tonal", "other"]:
        """moving: it takes pixels from elsewhere. tonal: it changes each value by itself. other: all others."""
        return "moving" if self.name in _MOVING else "tonal" if self.name in _TONAL else "other"


IDENTITY = Operation("Identity")


class Policy:
    """A policy as tables. An operation is known by its code, its index in `operations`.

    Args:
        choices: equally likely rows. Each names the operations that are applied one after the other, with their
            probabilities.
    """

    def __init__(self, choices: list[list[tuple[Operation, float]]]) -> None:
        with_signs = [[(_with_signs(operation), probability) for operation, probability in row] for row in choices]
        found = {operation for row in with_signs for pair, _ in row for operation in pair} - {IDENTITY}
        self.operations = (IDENTITY, *sorted(found, key=lambda each: (each.kind, each.name, each.magnitude)))
        """All operations, those of a kind together. The first one, of code 0, leaves the image as it is."""
        codes = {operation: code for code, operation in enumerate(self.operations)}
        self._codes = np.array([[[codes[operation] for operation in pair] for pair, _ in row] for row in with_signs])
        self._probabilities = np.array([[probability for _, probability in row] for row in with_signs])
        self.stages = self._codes.shape[1]
        """Number of operations that an image undergoes one after the other."""

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Random codes for this number of images: int64, stages x count."""
        rows = generator.integers(len(self._codes), size=count)
        codes = np.empty((self.stages, count), np.int64)
        for stage in range(self.stages):
            applied = generator.random(count) < self._probabilities[rows, stage]
            negative = generator.integers(2, size=count)
            codes[stage] = np.where(applied, self._codes[rows, stage, negative], 0)
        return codes


@lru_cache(maxsize=8)
def make_policy(name: PolicyName, size: int) -> Policy:
    """The policy of this name for images of `size` x `size` pixels."""
    if name == "trivial":
        # torchvision shifts by up to 32 pixels, the whole side of CIFAR's images. Smaller images move by their side.
        strengths = _strengths(_TRIVIAL_STRENGTHS, 0.99, float(min(32, size)), 135.0, 0.99, 6)
        names = [name for name in strengths if name != "Invert"]
        return Policy([[(Operation(name, value), 1.0)] for name in names for value in strengths[name]])
    strengths = _strengths(_AUTOAUGMENT_STRENGTHS, 0.3, 150 / 331 * size, 30.0, 0.9, 4)
    rows = [[cell.split() for cell in line.split(", ")] for line in _AUTOAUGMENT.strip().splitlines()]
    return Policy(
        [
            [
                (Operation(name, strengths[name][0 if number == "-" else int(number)]), float(probability))
                for name, probability, number in row
            ]
            for row in rows
        ]
    )


def _strengths(
    count: int, shear: float, shift: float, angle: float, change: float, lost_bits: int
) -> dict[str, list[float]]:
    """Operation -> its strengths, from the weakest to the strongest, `count` of each operation.

    Args:
        count: of strengths.
        shear: tangent of the strongest shear.
        shift: pixels of the farthest shift.
        angle: of the strongest rotation, in degrees.
        change: of brightness, colour, contrast and sharpness, as a share.
        lost_bits: of the strongest posterization, of 8.
    """
    most = {"Shear": shear, "Translate": shift, "Rotate": angle, "": change}
    strengths = {name: [0.0] * count for name in _WITHOUT_STRENGTH}
    for name in _SIGNED:
        kind = next(kind for kind in most if name.startswith(kind))
        strengths[name] = [float(value) for value in torch.linspace(0.0, most[kind], count)]
    bits = (8 - torch.arange(count) / ((count - 1) / lost_bits)).round()
    strengths["Posterize"] = [float(value) for value in bits]
    strengths["Solarize"] = [float(value) for value in torch.linspace(1.0, 0.0, count)]
    return strengths


def _with_signs(operation: Operation) -> tuple[Operation, Operation]:
    """The operation, and its opposite if it has one. Both are equally likely."""
    opposite = Operation(operation.name, -operation.magnitude) if operation.name in _SIGNED else operation
    return operation, opposite
