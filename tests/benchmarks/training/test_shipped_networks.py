"""The networks of zoo/: each loads and computes what it computed when it was put there, and their page is theirs."""

import json

import numpy as np
import pytest

import mgnas
import zoo
from mgnas.reports.deploy.model_card import read_result

FOLDERS = zoo.networks(zoo.ZOO)


def test_there_are_networks():
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_network_computes_what_it_did(folder):
    model = mgnas.load(folder)
    recorded = json.loads((folder / zoo.LOGITS).read_text())
    assert np.ptp(recorded) > 1
    # Processors and versions round differently; logits of another network differ by far more.
    np.testing.assert_allclose(zoo.generated_logits(model), recorded, rtol=0, atol=1e-3)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_network_has_the_weights_and_the_accuracy_that_its_card_says(folder):
    result, (first, *_) = read_result(folder), json.loads((folder / zoo.TRAINING).read_text())["trainings"]
    assert result["weights"] == sum(parameter.numel() for parameter in mgnas.load(folder).parameters())
    assert (result["seed"], result["test_accuracy"]) == (first["seed"], first["accuracy"])
    assert f"{result['weights']:,}" in (folder / "model_card.md").read_text()


def test_the_page_has_these_networks():
    assert zoo.TABLE.read_text() == zoo.page(FOLDERS)
