"""Stratified subsets: how many images of each class, and which."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.data.split import stratified


def labels_of(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def class_counts(sizes: list[int], count: int, **minima: int) -> list[int]:
    labels = labels_of(sizes)
    return np.bincount(labels[stratified(labels, count, seed=0, **minima)], minlength=len(sizes)).tolist()


@pytest.mark.parametrize(
    ("sizes", "count", "minima", "expected"),
    [
        pytest.param([60, 30, 10], 20, {}, [12, 6, 2], id="whole quotas"),
        pytest.param([5, 3, 2], 5, {}, [3, 1, 1], id="quotas 2.5, 1.5, 1: of equal remainders the first class's"),
        pytest.param([4, 7], 3, {}, [1, 2], id="quotas 1.09, 1.91"),
        pytest.param([97, 3], 10, {}, [10, 0], id="quotas 9.7, 0.3"),
        pytest.param([97, 3], 10, {"min_per_class": 1}, [9, 1], id="one of the small class"),
        pytest.param([97, 3], 10, {"min_per_class": 2}, [8, 2], id="two of the small class, at the large one's cost"),
        pytest.param([9, 1], 9, {}, [8, 1], id="quotas 8.1, 0.9"),
        pytest.param([9, 1], 8, {"min_remaining": 1}, [8, 0], id="the only image of a class remains"),
        pytest.param([2, 2, 2], 3, {"min_per_class": 1, "min_remaining": 1}, [1, 1, 1], id="both minima met exactly"),
        pytest.param([3, 0, 3], 4, {}, [2, 0, 2], id="a class without images"),
        pytest.param([3, 2], 5, {}, [3, 2], id="all images"),
        pytest.param([3, 2], 0, {}, [0, 0], id="no image"),
    ],
)
def test_class_counts_worked_out_by_hand(sizes, count, minima, expected):
    assert class_counts(sizes, count, **minima) == expected


@st.composite
def splits(draw) -> tuple[list[int], int]:
    """Class sizes from 2, and a count that leaves and takes at least one image of each class."""
    sizes = draw(st.lists(st.integers(2, 40), min_size=1, max_size=6))
    return sizes, draw(st.integers(len(sizes), sum(sizes) - len(sizes)))


@given(split=splits(), seed=st.integers(0, 2**32 - 1))
def test_every_class_is_on_both_sides_and_no_image_is_chosen_twice(split, seed):
    sizes, count = split
    labels = labels_of(sizes)
    chosen = stratified(labels, count, seed, min_per_class=1, min_remaining=1)
    assert len(chosen) == len(set(chosen.tolist())) == count
    counts = np.bincount(labels[chosen], minlength=len(sizes))
    assert (counts >= 1).all()
    assert (np.array(sizes) - counts >= 1).all()


@given(split=splits())
def test_without_minima_every_class_is_within_one_image_of_its_quota(split):
    sizes, count = split
    quotas = count * np.array(sizes) / sum(sizes)
    assert (np.abs(np.array(class_counts(sizes, count)) - quotas) < 1).all()


@given(split=splits(), order=st.randoms(use_true_random=False))
def test_class_counts_do_not_depend_on_the_order_of_the_images(split, order):
    sizes, count = split
    labels = labels_of(sizes).tolist()
    order.shuffle(labels)
    shuffled = np.array(labels)
    assert np.bincount(shuffled[stratified(shuffled, count, seed=0)], minlength=len(sizes)).tolist() == class_counts(
        sizes, count
    )


def test_the_seed_decides_which_images_are_chosen():
    labels = labels_of([50, 50])
    first, again, other = (stratified(labels, 20, seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert sorted(first) != sorted(other)


def test_every_image_of_a_class_is_chosen_equally_often():
    """3 of 6 images, 4,000 times: each about 2,000 times, with a standard deviation of 32."""
    labels = labels_of([6])
    times = sum(np.bincount(stratified(labels, 3, seed), minlength=6) for seed in range(4000))
    assert times.sum() == 12_000
    assert np.abs(times - 2000).max() < 5 * 32
