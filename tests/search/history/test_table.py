"""Tables of trained architectures: the file, what it refuses, and the space that it can be searched in."""

import gzip
import json
from dataclasses import replace

import pytest

from mgnas.errors import ConfigError, UserError
from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.history.table import SHIPPED, TableRow, TabularBenchmark

META = {
    "name": "toy",
    "space": {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": [[4], [8], [16]], "sharing": ["A", "AB"], "smoothing_steps": [1, 2]},
    },
    "training": {"epochs": 3},
    "shape": [10, 1, 8],
}


def row(channels: int, *curve: float, seed: int = 0) -> TableRow:
    config = ArchitectureConfig(family="mgnet", base_channels=(channels,), smoothing_steps=2, in_channels=1)
    return TableRow(config, count_weights(config), seed, curve, 1.5)


@pytest.fixture
def table() -> TabularBenchmark:
    return TabularBenchmark(META, (row(4, 0.1, 0.2, 0.5), row(8, 0.2, 0.3, 0.6), row(8, 0.2, 0.3, 0.8, seed=1)))


@pytest.mark.parametrize("name", ["table.json", "table.json.gz"])
def test_a_saved_table_is_the_same(table, tmp_path, name):
    table.save(tmp_path / name)
    loaded = TabularBenchmark.load(tmp_path / name)
    assert loaded.rows == table.rows
    assert loaded.meta == table.meta
    first = (tmp_path / name).read_bytes()
    loaded.save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def test_the_file_is_plain_json_as_documented(table, tmp_path):
    table.save(tmp_path / "table.json")
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["meta"]["name"] == "toy"
    assert set(content["rows"][0]) == {"config", "weights", "seed", "curve", "seconds"}
    assert content["rows"][0]["config"]["base_channels"] == [4]


def test_the_truth_is_the_mean_over_seeds(table):
    small, large = table.rows[0].config.id, table.rows[1].config.id
    assert table.mean_accuracies() == {small: 0.5, large: pytest.approx(0.7)}
    assert [one.seed for one in table.by_id[large]] == [0, 1]
    assert table.epochs == 3


def test_its_space_holds_its_architectures_and_no_other(table):
    space = table.space()
    assert {candidate.id for candidate in space.enumerate()} == set(table.by_id)
    assert [candidate.id for candidate in space.enumerate()] == [candidate.id for candidate in space.enumerate()]
    values = {"base_channels": "8", "sharing": "AB", "smoothing_steps": 2}
    assert space.candidate(values).weights == table.rows[1].weights
    assert space.candidate(dict(reversed(values.items()))) is space.candidate(values)
    with pytest.raises(ConfigError, match="not in the table"):
        space.candidate(values | {"base_channels": "16"})
    assert space.training.epochs == 3


def test_a_table_without_a_space_is_a_prior_only(table):
    with pytest.raises(UserError, match="toy: meta needs space, training and shape"):
        TabularBenchmark({"name": "toy"}, table.rows).space()


WIDE = {"space": {"parameters": META["space"]["parameters"] | {"family": ["mgnet"], "stem_stride": [1, 2]}}}


@pytest.fixture
def extended_table(table) -> TabularBenchmark:
    """With a network whose stem has stride 2."""
    config = replace(row(4).config, stem_stride=2)
    added = TabularBenchmark(META | WIDE, (TableRow(config, count_weights(config), 0, (0.1, 0.2, 0.4), 1.0),))
    return replace(table, added=added)


def test_what_was_added_is_kept_apart_from_the_table(table, extended_table, tmp_path):
    extended_table.save(tmp_path / "table.json")
    loaded = TabularBenchmark.load(tmp_path / "table.json")
    assert loaded == extended_table
    assert (loaded.by_id, loaded.mean_accuracies()) == (table.by_id, table.mean_accuracies())
    assert {candidate.id for candidate in loaded.space().enumerate()} == set(table.by_id)


def test_a_table_with_what_was_added_is_searched_in_the_wider_space(table, extended_table):
    whole = extended_table.extended()
    assert whole.name == "toy+added"
    assert whole.rows == extended_table.rows + extended_table.added.rows
    assert {candidate.id for candidate in whole.space().enumerate()} == set(whole.by_id)
    assert len(whole.by_id) == len(table.by_id) + 1
    assert whole.extended() is whole
    assert table.extended() is table


def test_a_space_that_is_too_large_to_be_enumerated_gives_the_networks_of_its_table(extended_table, monkeypatch):
    whole = extended_table.extended()
    candidates = list(whole.space().enumerate())
    monkeypatch.setattr("mgnas.space.search_space.ENUMERABLE", 1)
    space = whole.space()
    assert not space.enumerable
    assert {c.id: c.params for c in space.enumerate()} == {c.id: c.params for c in candidates}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(lambda raw: raw["rows"].clear(), "rows: is empty", id="no-rows"),
        pytest.param(lambda raw: raw.pop("meta"), "expected a mapping with meta and rows", id="no-meta"),
        pytest.param(lambda raw: raw["rows"][1].pop("curve"), "rows[1].curve: is required", id="no-curve"),
        pytest.param(lambda raw: raw["rows"][1].update(curve=[]), "rows[1].curve", id="empty-curve"),
        pytest.param(lambda raw: raw["rows"][1].update(curve=[97.5]), "rows[1].curve.0", id="percent"),
        pytest.param(lambda raw: raw["rows"][0].update(weights=5), "says 5, but the config has", id="weights"),
        pytest.param(lambda raw: raw["rows"][0]["config"].update(family="vgg"), "rows[0].config.family", id="family"),
        pytest.param(lambda raw: raw["rows"][0].update(extra=1), "rows[0].extra: unknown key", id="unknown-key"),
        pytest.param(lambda raw: raw.update(added=[]), "expected a mapping with added.meta and added.rows", id="added"),
        pytest.param(
            lambda raw: raw.update(added={"meta": {}, "rows": [{"seed": 0}]}), "added.rows[0].config", id="added-row"
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_named(table, tmp_path, refusal, change, problem):
    path = tmp_path / "table.json"
    table.save(path)
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))
    message = refusal(lambda: TabularBenchmark.load(path))
    assert str(path) in message
    assert problem in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        gzip.compress(b'{"meta": {}}')[:-9],
        gzip.compress(b'{"meta": {}}')[:10] + b"garbled",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"meta": {}, "rows": [{"config": ' + b"1" * 5000 + b"}]}",
        bytes(64_000_001),
    ],
    ids=["empty", "text", "truncated", "garbled", "binary", "list", "deep", "huge number", "large"],
)
def test_a_file_that_is_no_table(tmp_path, refusal, content):
    path = tmp_path / "table.json.gz"
    path.write_bytes(content if content[:2] == b"\x1f\x8b" else gzip.compress(content))
    assert refusal(lambda: TabularBenchmark.load(path)).startswith(f"{path}: not a")
    assert "no such table" in refusal(lambda: TabularBenchmark.load(tmp_path / "none.json"))


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json.gz")), ids=lambda path: path.name)
def test_the_shipped_tables_can_be_searched(path):
    table = TabularBenchmark.load(path)
    assert len(table.by_id) >= 300
    assert table.meta["distinct architectures in the space"] >= 1000
    assert path.stat().st_size < 1_000_000
    assert {len(one.curve) for one in table.rows} == {table.epochs} == {table.space().training.epochs}
    assert {candidate.id for candidate in table.space().enumerate()} == set(table.by_id)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json.gz")), ids=lambda path: path.name)
def test_the_shipped_tables_know_the_added_settings(path):
    added = TabularBenchmark.load(path).added
    if added is None:
        pytest.skip("nothing was added yet")
    wanted = {"smoother": ["polynomial"], "polynomial_degree": [0, 1, 2, 3], "residual_activation": [True]}
    wanted |= {"kernel_size": [5, 7], "group_size": [1], "stem_stride": [2]}
    configs = [row.config.canonical() for row in added.rows]
    for name, values in wanted.items():
        in_effect = [getattr(config, name) for config in configs if config.has_effect(name)]
        assert min(map(in_effect.count, values)) >= 60, name


def test_a_narrower_space_holds_the_networks_within_its_weights(table):
    whole = table.space()
    weights = sorted({candidate.weights for candidate in whole.enumerate()})
    narrower = whole.within(weights[0] + 1, None)
    assert {candidate.weights for candidate in narrower.enumerate()} == set(weights[1:])
    assert {candidate.weights for candidate in whole.enumerate()} == set(weights)
