"""Augmentation policies: what they draw and how often, against torchvision's own tables."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from mgnas.search.training.policy import IDENTITY, Operation, make_policy


def drawn(name: str, count: int, size: int = 32) -> list[list[Operation]]:
    """For each stage the operations of `count` images."""
    policy = make_policy(name, size)
    codes = policy.draw(np.random.default_rng(0), count)
    assert codes.shape == (policy.stages, count)
    return [[policy.operations[code] for code in stage] for stage in codes]


def shares(operations: list[Operation]) -> dict[str, float]:
    names = [operation.name for operation in operations]
    return {name: names.count(name) / len(names) for name in set(names)}


def strengths(space, name: str, bins: int) -> list[float]:
    """torchvision's strengths of an operation, with those of the opposite sign, ascending and different."""
    values, signed = space[name]
    values = values(bins, 32, 32)
    if values is None:
        return [0.0]
    values = [float(value) for value in values]
    return sorted({value * sign for value in values for sign in ((1, -1) if signed else (1,))})


# The attributes are private, because torchvision has no public way to its tables.


@pytest.mark.parametrize("name", ["trivial", "autoaugment"])
def test_operations_and_strengths_are_torchvisions(name):
    space, bins = {
        "trivial": (v2.TrivialAugmentWide._AUGMENTATION_SPACE, 31),
        "autoaugment": (v2.AutoAugment._AUGMENTATION_SPACE, 10),
    }[name]
    operations = make_policy(name, 32).operations
    assert operations[0] == IDENTITY
    for operation in operations[1:]:
        assert operation.magnitude in strengths(space, operation.name, bins)
    if name == "trivial":
        for kind in space:
            found = sorted(operation.magnitude for operation in operations if operation.name == kind)
            assert found == strengths(space, kind, bins), kind


def test_the_pairs_of_autoaugment_are_torchvisions():
    transform = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)
    policy = make_policy("autoaugment", 32)
    assert len(policy._codes) == len(transform._policies) == 25
    for codes, probabilities, pair in zip(policy._codes, policy._probabilities, transform._policies, strict=True):
        for both_signs, probability, (name, expected, strength) in zip(codes, probabilities, pair, strict=True):
            values, signed = transform._AUGMENTATION_SPACE[name]
            values = values(10, 32, 32)
            magnitude = 0.0 if values is None else float(values[strength])
            operations = [policy.operations[code] for code in both_signs]
            assert operations == [Operation(name, magnitude), Operation(name, -magnitude if signed else magnitude)]
            assert probability == expected


def test_trivialaugment_draws_every_operation_equally_often():
    (operations,) = drawn("trivial", 56_000)
    found = shares(operations)
    assert len(found) == 14
    # Of 56,000 images 4,000 each, with a standard deviation of 61.
    assert all(share == pytest.approx(1 / 14, abs=0.005) for share in found.values())


def test_trivialaugment_draws_every_strength_and_both_signs_equally_often():
    (operations,) = drawn("trivial", 217_000)
    angles = [operation.magnitude for operation in operations if operation.name == "Rotate"]
    assert len(set(angles)) == 61
    assert np.mean(np.array(angles) < 0) == pytest.approx(15 / 31, abs=0.015)
    assert np.mean(np.array(angles) == 0) == pytest.approx(1 / 31, abs=0.006)
    bits = [operation.magnitude for operation in operations if operation.name == "Posterize"]
    assert set(bits) == {2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0}


def test_autoaugment_applies_operations_with_their_probabilities():
    first, second = map(shares, drawn("autoaugment", 100_000))
    pairs = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies
    for stage, found in enumerate((first, second)):
        for name in {pair[stage][0] for pair in pairs}:
            expected = sum(pair[stage][1] for pair in pairs if pair[stage][0] == name) / 25
            assert found.get(name, 0) == pytest.approx(expected, abs=0.006), name
    # The two operations of an image belong to one pair: Rotate comes before TranslateX or alone.
    stages = drawn("autoaugment", 20_000)
    after = {second.name for first, second in zip(*stages, strict=True) if first.name == "Rotate"}
    assert after == {"TranslateX", "Identity"}


def test_small_images_are_shifted_by_at_most_their_side():
    for size, farthest in ((8, 8), (16, 16), (32, 32), (224, 32)):
        operations = make_policy("trivial", size).operations
        assert max(o.magnitude for o in operations if o.name == "TranslateX") == farthest


def test_operations_of_a_kind_stand_together():
    for name in ("trivial", "autoaugment"):
        kinds = [operation.kind for operation in make_policy(name, 32).operations[1:]]
        changes = sum(kind != following for kind, following in pairwise(kinds))
        assert changes == 2


def test_global_generators_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    drawn("autoaugment", 100)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
