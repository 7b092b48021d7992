"""What a node must have: the same versions, and the images in its cache."""

import platform

import pytest
import ray

from mgnas.search.data.cache import cache_directory, entry_files
from mgnas.search.data.dataset import DataSettings, cache_entry_of, load_dataset
from mgnas.search.tuner.node import NodeRequirements, difference, installed_versions

HERE = {"python": "3.12.1", "mgnas": "1.0", "torch": "2.9"}


def test_the_versions_that_decide_a_training_are_compared():
    versions = installed_versions()
    assert versions.keys() == {"python", "mgnas", "torch"}
    assert versions["python"] == platform.python_version()
    assert "missing" not in versions.values()


@pytest.mark.parametrize(
    ("installed", "words"),
    [
        (HERE, None),
        (HERE | {"numpy": "2.0"}, None),
        (HERE | {"torch": "2.8"}, "has torch 2.8 instead of 2.9; install the same versions on all nodes"),
        (
            {"python": "3.11.0", "torch": "2.9"},
            "has python 3.11.0 instead of 3.12.1, mgnas missing instead of 1.0; install the same versions on all nodes",
        ),
    ],
)
def test_a_difference_is_said_in_words(installed, words):
    assert difference(HERE, installed) == words


def test_a_node_with_the_same_versions_and_images_of_its_own_is_ready():
    assert NodeRequirements(installed_versions()).ensure() is None


def test_a_node_with_other_versions_copies_nothing():
    needs = NodeRequirements(installed_versions() | {"torch": "1.0"}, "digits-none", (("meta.json", "no reference"),))
    assert "instead of 1.0; install the same versions" in (needs.ensure() or "")
    assert not (cache_directory() / "digits-none").exists()


def test_missing_images_are_copied_from_their_blocks(monkeypatch, tmp_path):
    """The blocks are plain bytes here; in a search they are references into Ray's object store."""
    data = DataSettings(name="digits")
    load_dataset(data)
    entry = cache_entry_of(data)
    files = {file.name: file.read_bytes() for file in (cache_directory() / entry).iterdir()}
    blocks = tuple(entry_files(entry, 1000))
    assert len(blocks) > len(files), "some files take several blocks"
    monkeypatch.setenv("MGNAS_CACHE", str(tmp_path / "another node"))
    monkeypatch.setattr(ray, "get", lambda block: block)
    needs = NodeRequirements(installed_versions(), entry, blocks)
    assert needs.ensure() is None
    assert {file.name: file.read_bytes() for file in (cache_directory() / entry).iterdir()} == files
    assert len(load_dataset(data, entry).train) == 1150


def test_a_cache_that_cannot_be_written_is_the_reason(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MGNAS_CACHE", str(tmp_path / "file" / "cache"))
    trouble = NodeRequirements(installed_versions(), "digits-none", ()).ensure()
    assert trouble is not None
    assert str(tmp_path / "file" / "cache") in trouble
