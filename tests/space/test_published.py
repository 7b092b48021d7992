"""The published rows: their networks, counted by us, against the figures as printed."""

import re

import pytest

from mgnas.errors import UserError
from mgnas.models import count_weights
from mgnas.space import PUBLISHED, preset
from mgnas.space.published import PRESETS, UNUSED_TRANSFERS, published_model

ROWS = {
    # name: (our weights, published weights, published test accuracy)
    "resnet18-cifar10": (11_173_962, "11,174k", 0.9558),
    "mgnet-cifar10": (2_749_514, "2,751k", 0.9528),
    "mgiad-lambda1-cifar10": (139_338, "139k", 0.9082),
    "mgiad-lambda3-cifar10": (1_270_474, "1,269k", 0.9595),
    "mgnet256-cifar10": (8_278_794, "8.2M", 0.96),
    "mgnet256-cifar100": (8_301_924, "8.2M", 0.7994),
    "resnet18-tinyimagenet": (11_271_432, "11,271k", 0.5967),
    "mgnet-tinyimagenet": (6_395_144, "6,396k", 0.5948),
    "mgiad-g8-tinyimagenet": (644_872, "646k", 0.5739),
    "mgiad-g64-tinyimagenet": (2_064_136, "2,065k", 0.6017),
}
WITH_UNUSED_TRANSFERS = ("mgnet-cifar10", "mgnet-tinyimagenet", "mgiad-g8-tinyimagenet", "mgiad-g64-tinyimagenet")


POLYNOMIAL = {
    "poly-mgnet-d0-cifar10": 1_385_546,
    "poly-mgnet-d1-cifar10": 1_385_554,
    "poly-mgnet-d2-cifar10": 1_385_562,
    "poly-mgnet-d1-tinyimagenet": 3_261_712,
}


def printed(text: str) -> tuple[float, float]:
    """The figure and one unit of its last digit."""
    digits, unit = re.fullmatch(r"([\d.,]+)([kM])", text).groups()
    scale = {"k": 1e3, "M": 1e6}[unit]
    decimals = len(digits.partition(".")[2])
    return float(digits.replace(",", "")) * scale, scale / 10**decimals


def test_names_are_unique_and_complete():
    assert sorted(model.name for model in PUBLISHED) == sorted(ROWS)
    assert sorted(row.name for row in PRESETS) == sorted([*ROWS, *POLYNOMIAL])


@pytest.mark.parametrize("name", POLYNOMIAL)
def test_polynomial_presets_have_weights_and_no_figures(name):
    assert count_weights(preset(name).config) == POLYNOMIAL[name]
    with pytest.raises(UserError, match=f"{name} has no published accuracy"):
        published_model(name)


@pytest.mark.parametrize("name", ROWS)
def test_published_rows_are_presets(name):
    assert published_model(name) is preset(name)


@pytest.mark.parametrize("name", ROWS)
def test_rows_hold_what_was_published_and_what_we_count(name):
    model = preset(name)
    assert (count_weights(model.config), model.weights, model.accuracy) == ROWS[name]


@pytest.mark.parametrize("name", WITH_UNUSED_TRANSFERS)
def test_unused_transfers_explain_the_difference_to_the_thousand(name):
    model = preset(name)
    assert model.note == UNUSED_TRANSFERS
    assert round((count_weights(model.config) + 1152) / 1000) * 1000 == printed(model.weights)[0]


def test_no_other_row_blames_the_unused_transfers():
    assert {model.name for model in PUBLISHED if model.note == UNUSED_TRANSFERS} == {*WITH_UNUSED_TRANSFERS}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_a_note_agrees_with_its_paper_to_the_last_printed_digit(name):
    model = preset(name)
    figure, unit = printed(model.weights)
    assert model.note or abs(count_weights(model.config) - figure) < unit


def test_the_note_on_lambda_1_names_the_count_of_its_row():
    # The row's own settings, g_s=8 with 8 fully coupled channels, have 236,106 weights.
    assert "236,106" in preset("mgiad-lambda1-cifar10").note


@pytest.mark.parametrize("model", PUBLISHED, ids=lambda model: model.name)
def test_classes_are_those_of_the_data_set(model):
    assert model.config.num_classes == {"cifar10": 10, "cifar100": 100, "tinyimagenet": 200}[model.dataset]


def test_an_unknown_preset_is_answered_with_all_names():
    with pytest.raises(UserError) as caught:
        preset("resnet50")
    assert len(str(caught.value).splitlines()) == 1
    assert all(row.name in str(caught.value) for row in PRESETS)
