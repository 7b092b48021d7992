"""mgnas simulate: what is printed and written, and one line for bad input."""

import json

import pytest

from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.history.table import TableRow, TabularBenchmark

META = {
    "name": "toy",
    "space": {
        "fixed": {"family": "mgnet"},
        "parameters": {"base_channels": [[4], [6], [8]], "sharing": ["A", "AB"], "smoothing_steps": [2, 3]},
    },
    "training": {"epochs": 2},
    "shape": [10, 1, 8],
}


@pytest.fixture
def table_file(tmp_path) -> str:
    """Nine networks; accuracy grows with weights."""
    rows = []
    for channels in (4, 6, 8):
        for sharing, steps in (("AB", 2), ("A", 2), ("A", 3)):
            config = ArchitectureConfig(
                family="mgnet", base_channels=(channels,), sharing=sharing, smoothing_steps=steps, in_channels=1
            )
            weights = count_weights(config)
            accuracy = round(0.5 + weights / 10_000, 6)
            rows.append(TableRow(config, weights, 0, (accuracy / 2, accuracy), 1.0))
    TabularBenchmark(META, tuple(rows)).save(tmp_path / "toy.json")
    return str(tmp_path / "toy.json")


def test_searches_are_replayed_printed_and_written(command, table_file, tmp_path):
    """Twice, with another number of processes: everything is the same."""
    outputs = []
    for jobs in (1, 2):
        folder = tmp_path / f"jobs-{jobs}"
        options = ("--strategy", "tpe, random", "--seeds", 3, "--workers", 2, "--out", folder, "--jobs", jobs)
        code, out, _ = command("simulate", table_file, *options)
        assert code == 0
        outputs.append((out.replace(str(folder), "OUT"), *(path.read_bytes() for path in sorted(folder.iterdir()))))
    assert outputs[0] == outputs[1]
    assert sorted(path.name for path in folder.iterdir()) == ["hypervolume.png", "hypervolume.svg", "simulation.json"]
    lines = out.splitlines()
    assert lines[0].startswith("toy: 9 architectures, reference ")
    assert [line.split()[0] for line in lines[1:5]] == ["strategy", "tpe", "random", "oracle"]
    assert all(line.split().count("3") >= 3 and line.endswith("100.0 %") for line in lines[2:4])
    content = json.loads((folder / "simulation.json").read_text())
    assert content["settings"] == {"strategies": ["tpe", "random"], "seeds": 3, "workers": 2, "epochs": None}
    searches = content["tables"][0]["strategies"]["random"]["searches"]
    assert [search["epochs"] for search in searches] == [18, 18, 18]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("TABLE", "--strategy", "random,clever"), ("'clever'", "random, tpe, nsga2, gp")),
        (("missing.json",), ("missing.json", "no such file", "comes with mgnas")),
        (("TABLE", "--seeds", "0"), ("--seeds",)),
        (("TABLE", "--epochs", "0"), ("--epochs",)),
        ((), ("TABLE",)),
    ],
)
def test_bad_input_is_one_line(command, table_file, arguments, parts):
    arguments = [table_file if argument == "TABLE" else argument for argument in arguments]
    code, out, err = command("simulate", *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("mgnas: error: ")
    for part in parts:
        assert part in err


def test_a_table_with_nothing_to_find_is_refused(command, table_file, tmp_path):
    first = TabularBenchmark.load(table_file).rows[:1]
    TabularBenchmark(META, first).save(tmp_path / "one.json")
    code, _, err = command("simulate", tmp_path / "one.json")
    assert code == 2
    assert "toy: one network dominates all others" in err
