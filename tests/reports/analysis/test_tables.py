import csv
import io
import json
from dataclasses import replace

from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.analysis.tables import as_csv, as_json, as_markdown, front_rows
from mgnas.reports.deploy.retraining import load_retrained


def test_rows_are_the_front_by_ascending_weights(run):
    front = pareto_front(run.load())
    rows = list(csv.DictReader(io.StringIO(as_csv(front_rows(front)))))
    assert [float(row["accuracy"]) for row in rows] == [0.80, 0.90, 0.95, 0.96]
    assert [int(row["weights"]) for row in rows] == [trial.weights for trial in front]
    assert [(row["seeds"], row["retrained_accuracy"], row["retrained_sd"]) for row in rows] == [("", "", "")] * 4


def test_rows_have_the_memory_of_an_inference(run):
    trial = pareto_front(run.load())[0]
    row = next(csv.DictReader(io.StringIO(as_csv(front_rows([trial])))))
    assert int(row["activation_memory"]) == trial.candidate.activation_memory()
    assert int(row["activation_memory_int8"]) == trial.candidate.activation_memory(int8=True)
    assert int(row["flash_memory"]) == trial.candidate.flash_memory()
    assert int(row["flash_memory_int8"]) == trial.candidate.flash_memory(int8=True)


def test_json_has_configs_and_curves(run):
    front = pareto_front(run.load())
    entries = json.loads(as_json(front))
    assert [entry["weights"] for entry in entries] == [trial.weights for trial in front]
    assert entries[0]["architecture"]["base_channels"] == [4]
    assert entries[0]["curve"][-1] == 0.80


def test_full_trainings_have_columns_of_their_own(run, retrained_trial):
    retrained = {network.trial: network for network in load_retrained(run)}
    rows = front_rows(pareto_front(run.load()), retrained)
    row = next(row for row in csv.DictReader(io.StringIO(as_csv(rows))) if int(row["trial"]) == retrained_trial.number)
    assert (row["seeds"], row["retrained_accuracy"], row["retrained_sd"]) == ("2", "0.92", "0.014142")
    assert "| 92.00 % +- 1.41 (2 seeds) |" in as_markdown(rows).splitlines()[3]


def test_markdown_is_one_line_for_each_network(run):
    lines = as_markdown(front_rows(pareto_front(run.load()))).splitlines()
    assert len(lines) == 2 + 4
    assert "| 96.00 % |  |" in lines[-1]


def test_the_balanced_accuracy_has_a_column(run):
    front = [replace(trial, balanced_accuracy=0.5) for trial in pareto_front(run.load())]
    rows = front_rows(front[:1])
    assert next(csv.DictReader(io.StringIO(as_csv(rows))))["balanced_accuracy"] == "0.5"
    assert as_markdown(rows).splitlines()[2].startswith(f"| {front[0].weights:,} | 80.00 % | 50.00 % |")
