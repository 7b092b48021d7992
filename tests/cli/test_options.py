"""Option types: what they accept, and what they say of anything else."""

import click
import pytest

from mgnas.cli.options import Accuracy, Count


@pytest.mark.parametrize(("text", "count"), [("20000", 20_000), ("20k", 20_000), ("1.5M", 1_500_000), (7, 7)])
def test_counts(text, count):
    assert Count().convert(text, None, None) == count


@pytest.mark.parametrize(("text", "accuracy"), [("0.97", 0.97), ("97%", 0.97), (" 0 ", 0.0), ("100%", 1.0)])
def test_accuracies(text, accuracy):
    assert Accuracy().convert(text, None, None) == pytest.approx(accuracy)


@pytest.mark.parametrize("text", ["97", "-1%", "101%", "nan", "much", ""])
def test_no_accuracies(text):
    with pytest.raises(click.BadParameter, match=r"expected a fraction such as 0\.97, or 97%"):
        Accuracy().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "few", "1.5", "-20k", ""])
def test_no_counts(text):
    with pytest.raises(click.BadParameter, match="20k"):
        Count().convert(text, None, None)
