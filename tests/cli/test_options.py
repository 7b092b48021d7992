"""Option types: what they accept, and what they say of anything else."""

from typing import get_args

import click
import pytest

from mgnas.cli.options import _EXECUTIONS, _PRECISIONS, Accuracy, Count, Gpus
from mgnas.search.training.execution import Execution
from mgnas.search.training.precision import Precision


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


@pytest.mark.parametrize(("text", "gpus"), [("auto", "auto"), ("0", 0.0), ("0.25", 0.25), ("2", 2.0)])
def test_gpus(text, gpus):
    assert Gpus().convert(text, None, None) == gpus


@pytest.mark.parametrize("text", ["many", "Auto", ""])
def test_no_gpus(text):
    with pytest.raises(click.BadParameter, match="expected auto or a number of GPUs"):
        Gpus().convert(text, None, None)


def test_the_choices_are_those_of_the_trainer():
    assert (get_args(Precision), get_args(Execution)) == (_PRECISIONS, _EXECUTIONS)
