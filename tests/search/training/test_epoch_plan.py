"""The random numbers and learning rates of an epoch."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgnas.search.training.epoch_plan import crop_padding, draw_epoch, learning_rate, steps_and_batch
from mgnas.space import TrainingSettings


def settings(**changes) -> TrainingSettings:
    return TrainingSettings(**({"epochs": 4, "batch_size": 16, "crop_padding": 1, "flip": True} | changes))


def coins(count: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(1)) < 0.5


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (0, 0),
        (0.5, 0.05),
        (1, 0.1),
        (3.5, 0.1 * (1 + math.sqrt(0.5)) / 2),
        (6, 0.05),
        (8.5, 0.1 * (1 - math.sqrt(0.5)) / 2),
        (11, 0),
    ],
)
def test_the_rate_rises_linearly_and_falls_as_half_a_cosine(progress, expected):
    recipe = settings(epochs=11, learning_rate=0.1, warmup_epochs=1.0)
    assert learning_rate(recipe, progress) == pytest.approx(expected, abs=1e-15)


def test_without_warm_up_the_rate_starts_at_its_peak():
    assert learning_rate(settings(learning_rate=0.3, warmup_epochs=0.0), 0) == 0.3


def test_a_warm_up_over_all_epochs_ends_at_the_peak():
    recipe = settings(epochs=4, learning_rate=0.3, warmup_epochs=4.0)
    assert [learning_rate(recipe, progress) for progress in (0, 2, 4)] == [0, 0.15, 0.3]


def test_each_step_has_the_rate_of_its_end():
    recipe = settings(epochs=3, learning_rate=0.2, warmup_epochs=1.0)
    rates = draw_epoch(recipe, coins(40), 8, seed=0, epoch=1).rates
    assert rates.tolist() == [learning_rate(recipe, progress) for progress in (1.5, 2.0)]


@given(count=st.integers(2, 60), batch=st.integers(2, 70), seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_takes_images_at_most_once_in_whole_batches(count, batch, seed, epoch):
    recipe = settings(batch_size=batch)
    steps, size = steps_and_batch(recipe, count)
    indices = draw_epoch(recipe, coins(count), 8, seed, epoch).choices[:, 0]
    assert indices.shape == (steps, size) == (count // min(batch, count), min(batch, count))
    assert len(set(indices.flatten().tolist())) == steps * size
    assert set(indices.flatten().tolist()) <= set(range(count))


@given(padding=st.integers(0, 12), size=st.integers(2, 9), flip=st.booleans(), cutout=st.integers(0, 3))
def test_choices_stay_within_the_tables(padding, size, flip, cutout):
    recipe = settings(crop_padding=padding, flip=flip, cutout=cutout, batch_size=40)
    choices = draw_epoch(recipe, coins(40), size, seed=0, epoch=0).choices
    shifts = 2 * crop_padding(recipe, size) + 1
    assert 0 <= choices[:, 1].min() <= choices[:, 1].max() < shifts
    assert 0 <= choices[:, 2].min() <= choices[:, 2].max() < shifts * (1 + flip)
    assert 0 <= choices[:, 3:].min() <= choices[:, 3:].max() < (size if cutout else 1)


def test_every_shift_and_every_centre_occurs():
    recipe = settings(crop_padding=2, flip=False, cutout=3, batch_size=400)
    choices = draw_epoch(recipe, coins(2000), 8, seed=0, epoch=0).choices
    occurring = [set(choices[:, row].flatten().tolist()) for row in range(1, 5)]
    assert occurring == [set(range(5)), set(range(5)), set(range(8)), set(range(8))]


def test_the_two_views_of_an_image_take_turns():
    recipe, tossed = settings(crop_padding=1, batch_size=50), coins(50)
    for epoch in range(3):
        choices = draw_epoch(recipe, tossed, 8, seed=0, epoch=epoch).choices
        mirrored = choices[:, 2] >= 3
        assert torch.equal(mirrored, tossed[choices[:, 0]] ^ (epoch % 2 == 1))


def test_a_plan_depends_on_seed_and_epoch_and_on_nothing_else():
    recipe = settings(cutout=2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = draw_epoch(recipe, coins(40), 8, seed=1, epoch=2)
    assert torch.equal(torch.get_rng_state(), before)
    again = draw_epoch(recipe, coins(40), 8, seed=1, epoch=2)
    assert torch.equal(first.choices, again.choices)
    for seed, epoch in ((2, 2), (1, 3)):
        assert not torch.equal(first.choices, draw_epoch(recipe, coins(40), 8, seed, epoch).choices)
