"""Counts as users write them, and the budgets of a candidate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgnas.errors import ConfigError
from mgnas.models import ArchitectureConfig
from mgnas.settings import build
from mgnas.space import Candidate, Limits, TrainingSettings, parse_bytes, parse_count
from mgnas.space.limits import LimitError

# Stem 108 + 8, two convolutions of 144 with batch norms of 8, linear 50; MACs 64 * (108 + 2 * 144) + 40. The block's
# second convolution runs beside the shortcut: 3 tensors of 256 values. The batch norms store as many statistics as
# weights, 24; in int8 the 436 weights of matrices take a byte each, and 58 other values and 22 scales 4 bytes.
CANDIDATE = Candidate(ArchitectureConfig(family="resnet", base_channels=(4,), blocks=1), TrainingSettings(), 8, {})


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1),
        (20_000, 20_000),
        (20_000.0, 20_000),
        ("20000", 20_000),
        (" 20 k ", 20_000),
        ("20K", 20_000),
        ("1.5M", 1_500_000),
        ("2g", 2_000_000_000),
        ("0.001k", 1),
        # Decimals that binary fractions do not hit.
        ("8.2M", 8_200_000),
        ("1.001k", 1_001),
        ("16.1M", 16_100_000),
        (2**53 + 1, 2**53 + 1),
    ],
)
def test_counts_are_read_exactly(value, number):
    assert parse_count(value) == number


@given(number=st.integers(1, 10**9))
def test_a_count_of_thousands_is_read_back(number):
    assert parse_count(f"{number // 1000}.{number % 1000:03}k") == number


@pytest.mark.parametrize(
    "value", [0, -3, 1.5, True, None, "", "k", "many", "1.2345k", "1,000", "1e6", "nan", [1], "5T"]
)
def test_other_counts_are_refused(value):
    with pytest.raises(ConfigError, match="expected a whole number such as"):
        parse_count(value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (262_144, 262_144),
        ("100k", 100_000),
        ("256kB", 256_000),
        (" 256 KB ", 256_000),
        ("1.5MB", 1_500_000),
        ("256KiB", 262_144),
        ("0.5Mi", 524_288),
        ("1GiB", 2**30),
        ("300B", 300),
    ],
)
def test_bytes_are_read_with_their_unit(value, number):
    assert parse_bytes(value) == number


@pytest.mark.parametrize("value", [0, -1, 1.5, True, None, "", "B", "kB", "0.3KiB", "5TB", "1,000", "256 bytes", [1]])
def test_other_bytes_are_refused(value):
    with pytest.raises(ConfigError, match="expected bytes such as 262144, 256kB or 256KiB, got"):
        parse_bytes(value)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(max_weights=470, min_weights=470, max_macs=25_384),
        Limits(max_weights="1k", min_weights=1, max_macs="1M"),
        Limits(max_activation_memory=3072, max_activation_memory_int8=768, max_flash=1976, max_flash_int8=756),
    ],
)
def test_a_candidate_at_or_within_its_limits_is_accepted(limits):
    limits.check(CANDIDATE)


def test_a_latency_is_limited_by_a_model_of_the_device():
    # Four calls: the stem, two convolutions, and the linear layer.
    model = {"network": 0.5, "calls": 0.25}
    Limits(max_latency=1.5, latency_model=model).check(CANDIDATE)
    with pytest.raises(LimitError, match=r"^limits\.max_latency: 1\.5 milliseconds are more than 1\.4$"):
        Limits(max_latency=1.4, latency_model=model).check(CANDIDATE)
    Limits(latency_model=model).check(CANDIDATE)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"max_latency": 5},
            r"^limits\.max_latency: needs latency_model, which `mgnas latency RUN` measures and prints$",
        ),
        ({"max_latency": 0.0}, r"^limits\.max_latency: should be greater than 0"),
        ({"max_latency": 5, "latency_model": {"call": 1.0}}, r"^limits\.latency_model\.call: unknown key; .* calls\?$"),
        (
            {"max_latency": 5, "latency_model": {"calls": -1.0}},
            r"^limits\.latency_model\.calls: should be greater than",
        ),
        ({"max_latency": 5, "latency_model": {"calls": float("nan")}}, r"^limits\.latency_model\.calls: should be"),
        ({"max_latency": 5, "latency_model": "raspberry"}, r"^limits\.latency_model: "),
    ],
)
def test_wrong_limits_of_latency_are_one_line(limits, message):
    with pytest.raises(ConfigError, match=message):
        build(Limits, limits, "limits")


@pytest.mark.parametrize(
    ("limits", "limit", "amount", "message"),
    [
        ({"max_weights": 469}, "max_weights", 470, "limits.max_weights: 470 weights are more than 469"),
        ({"min_weights": 471}, "min_weights", 470, "limits.min_weights: 470 weights are fewer than 471"),
        ({"max_macs": "25383"}, "max_macs", 25_384, "limits.max_macs: 25,384 MACs are more than 25,383"),
        (
            {"max_activation_memory": "3kB"},
            "max_activation_memory",
            3072,
            "limits.max_activation_memory: 3,072 bytes of activations are more than 3,000",
        ),
        (
            {"max_activation_memory_int8": 767},
            "max_activation_memory_int8",
            768,
            "limits.max_activation_memory_int8: 768 bytes of activations are more than 767",
        ),
        ({"max_flash": 1975}, "max_flash", 1976, "limits.max_flash: 1,976 bytes of flash memory are more than 1,975"),
        (
            {"max_flash_int8": 755},
            "max_flash_int8",
            756,
            "limits.max_flash_int8: 756 bytes of flash memory are more than 755",
        ),
    ],
)
def test_a_broken_limit_is_named_with_the_amount(limits, limit, amount, message):
    with pytest.raises(LimitError) as caught:
        Limits(**limits).check(CANDIDATE)
    assert (caught.value.limit, caught.value.amount, str(caught.value)) == (limit, amount, message)
