"""What a prior can be made of: a shipped table, a table's file, a run directory."""

from dataclasses import replace

import pytest

from mgnas.models import count_weights
from mgnas.search.history.past_trainings import TaskEvaluations, shipped_tables
from mgnas.search.history.table import TableRow, TabularBenchmark


@pytest.fixture
def table_file(tmp_path, wide_space):
    """A table of ten architectures without a space of its own."""
    rows = []
    for size in range(1, 6):
        for steps in (1, 2):
            values = {"base_channels": "8-16", "channel_scaling": size, "smoothing_steps": steps, "sharing": "AB"}
            candidate = wide_space.candidate(values)
            rows.append(TableRow(candidate.architecture, candidate.weights, 0, (0.1 * size, 0.1 * size + 0.1), 1.0))
    TabularBenchmark({"name": "ten"}, tuple(rows)).save(tmp_path / "ten.json")
    return tmp_path / "ten.json"


def test_a_table_by_its_file(table_file):
    trainings = TaskEvaluations.load(str(table_file))
    assert len(trainings.configs) == len(trainings.curves) == 10
    means = trainings.prior().mean([trainings.configs[0], trainings.configs[-1]])
    assert means[1] > means[0] + 0.2


def test_what_was_added_to_a_table_belongs_to_the_prior(table_file):
    """A stem of stride 2 costs half of the accuracy in the added trainings."""
    table = TabularBenchmark.load(table_file)
    rows = []
    for row in table.rows:
        config = replace(row.config, stem_stride=2)
        rows.append(TableRow(config, count_weights(config), 0, tuple(value / 2 for value in row.curve), 1.0))
    replace(table, added=TabularBenchmark({"space": {}}, tuple(rows))).save(table_file)
    trainings = TaskEvaluations.load(str(table_file))
    assert len(trainings.configs) == len(trainings.curves) == 20
    large = table.rows[-1].config
    stride_1, stride_2 = trainings.prior().mean([large, replace(large, stem_stride=2)])
    assert stride_2 == pytest.approx(stride_1 / 2, abs=0.05)


def test_a_run_gives_its_complete_trials(run, refusal, monkeypatch):
    message = refusal(lambda: TaskEvaluations.load(str(run.path)))
    assert message == f"prior {run.path}: a prior needs at least 8 finished trainings; this one has 5"
    monkeypatch.setattr("mgnas.search.history.past_trainings.LEAST_TRAININGS", 5)
    trainings = TaskEvaluations.load(str(run.path))
    assert sorted(curve[-1] for curve in trainings.curves) == [0.80, 0.88, 0.90, 0.95, 0.96]


@pytest.mark.parametrize("name", shipped_tables())
def test_shipped_tables_by_name(name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(TaskEvaluations.load(name).configs) >= 300, "a folder of that name does not hide it"


def test_neither_of_these(tmp_path, refusal):
    message = refusal(lambda: TaskEvaluations.load(str(tmp_path / "nothing")))
    assert "no such run directory, table file or shipped table" in message
    assert all(name in message for name in shipped_tables())
