"""The random numbers and learning rates of an epoch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from mgnas.search.training.epoch_plan import (
    crop_padding,
    draw_crops,
    draw_epoch,
    draw_mixing,
    flips,
    layout_of,
    learning_rate,
    steps_and_batch,
)
from mgnas.search.training.policy import make_policy
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


# ------------------------------------------------------------------------------------------------- further augmentation


MODERN = {"crop_padding": 0, "random_resized_crop": 0.2, "augmentation": "autoaugment", "mixup": 0.2, "cutmix": 1.0}


def test_the_standard_augmentation_is_crops_of_an_eighth_and_flips():
    standard = settings(augmentation="standard", crop_padding=0, flip=False)
    spelled_out = settings(crop_padding=4, flip=True)
    assert crop_padding(standard, 32) == 4
    assert flips(standard)
    plans = [draw_epoch(recipe, coins(40), 32, seed=0, epoch=1) for recipe in (standard, spelled_out)]
    assert torch.equal(plans[0].choices, plans[1].choices)


@pytest.mark.parametrize(("changes", "padding"), [({"crop_padding": 2}, 2), ({"random_resized_crop": 0.3}, 0)])
def test_the_standard_augmentation_leaves_crops_that_are_given(changes, padding):
    assert crop_padding(settings(**{"augmentation": "standard", "crop_padding": 0} | changes), 32) == padding


@pytest.mark.parametrize("name", MODERN)
def test_what_is_switched_on_leaves_all_other_random_numbers_as_they_were(name):
    """So two recipes that differ in one thing differ in nothing else, and old recipes train as before."""
    plain = settings(crop_padding=0, cutout=2)
    one = settings(**{"crop_padding": 0, "cutout": 2, name: MODERN[name]})
    all_of_them = settings(**MODERN, cutout=2)
    plans = [draw_epoch(recipe, coins(40), 16, seed=3, epoch=2) for recipe in (plain, one, all_of_them)]
    assert all(torch.equal(plan.choices[:, :5], plans[0].choices) for plan in plans)
    rows = {"random_resized_crop": "crop", "augmentation": "operations"}
    if name in rows:
        mine, theirs = (getattr(layout_of(recipe, 16), rows[name]) for recipe in (one, all_of_them))
        assert torch.equal(plans[1].choices[:, mine], plans[2].choices[:, theirs])


def test_a_plan_of_everything_depends_on_seed_and_epoch_and_on_nothing_else():
    recipe = settings(**MODERN)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, again = (draw_epoch(recipe, coins(40), 16, seed=1, epoch=2) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(first.choices, again.choices)
    assert torch.equal(first.shares, again.shares)
    for seed, epoch in ((2, 2), (1, 3)):
        other = draw_epoch(recipe, coins(40), 16, seed, epoch)
        layout = layout_of(recipe, 16)
        for rows in (layout.crop, layout.patch, layout.operations):
            assert not torch.equal(first.choices[:, rows], other.choices[:, rows])
        assert not torch.equal(first.shares, other.shares)


def test_images_stand_in_the_order_of_their_operations():
    recipe = settings(**MODERN)
    choices = draw_epoch(recipe, coins(64), 16, seed=0, epoch=0).choices
    operations = choices[:, layout_of(recipe, 16).operations]
    policy = make_policy("autoaugment", 16)
    expected = torch.from_numpy(policy.draw(np.random.default_rng([0, 0, 2]), 64)).view(2, 4, 16)
    for stage in range(2):
        order, codes = operations[:, 2 * stage], operations[:, 2 * stage + 1]
        assert torch.equal(codes.sort(dim=1).values, codes)
        assert torch.equal(codes, expected[stage].gather(1, order))
        assert torch.equal(order.sort(dim=1).values, torch.arange(16).expand(4, 16))


def test_rows_of_choices_do_not_overlap():
    layout = layout_of(settings(**MODERN), 16)
    assert (layout.crop, layout.patch, layout.operations) == (slice(5, 9), slice(9, 13), slice(13, 17))
    assert layout.rows == 17
    assert layout_of(settings(), 16).rows == 5


@pytest.mark.parametrize("smallest", [0.08, 0.5, 1.0])
def test_resized_crops_have_their_share_of_the_area_and_their_shape(smallest):
    top, left, height, width = draw_crops(np.random.default_rng(0), 20_000, 64, smallest)
    assert min(top.min(), left.min()) == 0
    assert max((top + height).max(), (left + width).max()) == 64
    area = height * width / 64**2
    # Sides are rounded to whole pixels.
    assert smallest - 0.03 <= area.min() <= area.max() <= 1
    assert 0.7 < (width / height).min() <= (width / height).max() < 1.43
    if smallest == 1.0:
        assert (area > 0.97).all(), "only the whole image fits"
    else:
        assert set(top[height == 60]) == set(left[width == 60]) == set(range(5)), "every place occurs"


def quantiles(values) -> list[float]:
    return np.quantile(np.array(values, dtype=float), [0.1, 0.25, 0.5, 0.75, 0.9]).tolist()


@pytest.mark.parametrize("smallest", [0.08, 0.5])
def test_resized_crops_are_distributed_as_torchvisions(smallest):
    transform, image = v2.RandomResizedCrop(64, scale=(smallest, 1.0)), torch.zeros(1, 64, 64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # torchvision 0.19 calls it by another name.
        draw = getattr(transform, "make_params", None) or transform._get_params
        boxes = [draw([image]) for _ in range(3000)]
    theirs = {name: [box[name] for box in boxes] for name in ("top", "left", "height", "width")}
    ours = dict(zip(theirs, draw_crops(np.random.default_rng(0), 30_000, 64, smallest), strict=True))
    for name in theirs:
        assert quantiles(ours[name]) == pytest.approx(quantiles(theirs[name]), abs=2.5), name


def test_patches_are_distributed_as_torchvisions():
    transform, images = v2.CutMix(num_classes=2, alpha=1.0), torch.zeros(2, 1, 32, 32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draw = getattr(transform, "make_params", None) or transform._get_params
        theirs = [draw([images])["lam_adjusted"] for _ in range(3000)]
    ours = draw_mixing(np.random.default_rng(0), 30_000, 32, 0.0, 1.0)[1][1]
    assert quantiles(ours) == pytest.approx(quantiles(theirs), abs=0.03)


def test_mixup_draws_shares_of_its_distribution_for_pixels_and_labels():
    patch, (pixels, label) = draw_mixing(np.random.default_rng(0), 50_000, 8, mixup=0.4, cutmix=0.0)
    assert (patch == np.array([[0], [8], [0], [8]])).all()
    assert (pixels == label).all()
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1)).
    assert label.mean() == pytest.approx(0.5, abs=0.01)
    assert label.var() == pytest.approx(1 / 7.2, abs=0.005)


def test_cutmix_mixes_labels_by_the_area_that_an_image_keeps():
    (top, bottom, left, right), (pixels, label) = draw_mixing(np.random.default_rng(0), 20_000, 16, 0.0, cutmix=1.0)
    assert min(top.min(), left.min(), (bottom - top).min(), (right - left).min()) == 0
    assert max(bottom.max(), right.max()) == 16
    assert (pixels == 0).all()
    assert label == pytest.approx(1 - (bottom - top) * (right - left) / 256)
    assert label.max() == 1


def test_with_both_a_coin_decides_for_each_image():
    _, (pixels, _) = draw_mixing(np.random.default_rng(0), 10_000, 16, mixup=5.0, cutmix=1.0)
    assert np.mean(pixels == 0) == pytest.approx(0.5, abs=0.02)


def test_without_mixing_there_are_no_shares():
    assert draw_epoch(settings(), coins(40), 8, seed=0, epoch=0).shares is None
    assert draw_epoch(settings(mixup=0.2), coins(40), 8, seed=0, epoch=0).shares.shape == (2, 2, 16)
