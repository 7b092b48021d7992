"""mgnas select: what it prints and writes, and one line for what cannot be done."""

import json
import re

import pytest
import yaml

from mgnas.api import open_run


def test_select_says_why_and_what_the_neighbours_cost(command, run, tmp_path, remember_latencies):
    remember_latencies(run)
    output = tmp_path / "chosen.yaml"
    code, out, _ = command("select", run.path, "--max-macs", "10M", "--max-latency", "1000", "--output", output)
    assert code == 0
    lines = out.splitlines()
    assert [line[:2] for line in lines[:3]] == ["  ", "->", "  "]
    assert lines[3].startswith("Chosen for knee: of the 5 trials that keep the limits")
    assert lines[4].startswith("The next lighter one, trial 0: -")
    assert lines[4].endswith("-10.00 points of accuracy")
    assert lines[5].startswith("The next heavier one, trial 3: +")
    # Latencies are kept in the run, so that asking again gives the same answer.
    assert lines[6].startswith("Latency: 3 ms for 1 image on one thread of ")
    assert yaml.safe_load(output.read_text())["origin"]["trial"] == 2


def test_select_says_how_sure_it_is(command, lucky_run, tmp_path):
    for prefer in ("expected", "accuracy"):
        options = ("--prefer", prefer, "--output", tmp_path / f"{prefer}.yaml")
        code, out, _ = command("select", lucky_run.path, *options)
        assert code == 0
        (line,) = (line for line in out.splitlines() if line.startswith("How sure: "))
        assert re.fullmatch(r"How sure: on the front with \d+ %; the best of at most .* % \(with 90 %\)", line)


def test_a_percentage_is_an_accuracy(command, run, tmp_path):
    output = tmp_path / "chosen.yaml"
    code, out, _ = command("select", run.path, "--min-accuracy", "95%", "--prefer", "weights", "--output", output)
    assert code == 0
    assert yaml.safe_load(output.read_text())["architecture"]["base_channels"] == [16]
    assert re.search(r"^-> .* 95.00 %", out, re.MULTILINE)


def test_select_tells_of_full_trainings(command, run, tmp_path):
    record = run.load()[2]
    folder = run.path / "retrained" / record.candidate.id
    (folder / "seed-0").mkdir(parents=True)
    (folder / "seed-0" / "result.json").write_text('{"test_accuracy": 0.93}')
    (folder / "choice.json").write_text(json.dumps({"trial": 2, "validation_accuracy": 0.9}))
    _, out, _ = command("select", run.path, "--output", tmp_path / "chosen.yaml")
    assert "Retrained: test accuracy 93.00 % over 1 seed, +3.00 points" in out


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--max-macs", "10"], "--max-macs: no network has at most 10 MACs; the least is"),
        (["--max-size", "10"], "--max-size: no network keeps 10 bytes; the least of those"),
        (["--max-latency", "0.000001"], "keeps 1e-06 ms; the least of those that keep the other limits is 1"),
        (["--max-latency", "0"], "'--max-latency'"),
        (["--prefer", "expected"], "--prefer expected: how noisy accuracies are is learned from at least 8"),
        (["--prefer", "luck"], "'--prefer'"),
    ],
)
def test_impossible_selections(command, run, tmp_path, options, part, refused, remember_latencies):
    remember_latencies(run)
    output = tmp_path / "chosen.yaml"
    refused(command("select", run.path, *options, "--output", output), part)
    assert not output.exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--prefer", "best"], ["--prefer", "'knee'"]),
        (["--max-weights", "few"], ["--max-weights", "20k"]),
        (["--max-memory", "small"], ["--max-memory", "256kB"]),
        (["--min-accuracy", "97"], ["--min-accuracy", "0.97"]),
    ],
)
def test_bad_options(command, options, parts, refused):
    refused(command("select", "runs", *options), *parts)


def test_an_existing_file_is_overwritten_by_force_alone(command, run, tmp_path, refused):
    output = tmp_path / "chosen.yaml"
    output.write_text("mine: 1\n")
    refused(
        command("select", run.path, "--output", output), f"{output}: exists already; --force overwrites it, --output"
    )
    assert output.read_text() == "mine: 1\n"
    assert command("select", run.path, "--output", output, "--force")[0] == 0
    assert yaml.safe_load(output.read_text())["origin"]["trial"] == 2


@pytest.mark.parametrize("target", ["elsewhere.yaml", "nowhere.yaml"])
def test_a_link_counts_as_an_existing_file(command, run, tmp_path, refused, target):
    (tmp_path / "elsewhere.yaml").write_text("mine: 1\n")
    (tmp_path / "chosen.yaml").symlink_to(target)
    refused(command("select", run.path, "--output", tmp_path / "chosen.yaml"), "exists already")
    assert (tmp_path / "chosen.yaml").is_symlink()


def test_a_folder_is_no_file_to_write(command, run, tmp_path, refused):
    refused(command("select", run.path, "--output", tmp_path), "exists already")
    refused(command("select", run.path, "--output", tmp_path, "--force"), "cannot be written")


@pytest.fixture
def quantised_trial(run):
    """Trial 2 of the run, retrained and quantised."""
    folder = run.path / "retrained" / run.load()[2].candidate.id
    (folder / "seed-0").mkdir(parents=True)
    (folder / "seed-0" / "result.json").write_text('{"test_accuracy": 0.93}')
    facts = {"accuracy": 0.925, "float_accuracy": 0.93, "size": 20_000, "float_size": 50_000, "kept": True}
    (folder / "seed-0" / "exports.json").write_text(json.dumps({"int8": facts}))
    (folder / "choice.json").write_text(json.dumps({"trial": 2, "validation_accuracy": 0.9}))
    return folder / "seed-0"


def test_int8_networks_are_chosen_by_int8_accuracy_and_size(command, run, quantised_trial, tmp_path):
    output = tmp_path / "chosen.yaml"
    code, out, _ = command("select", run.path, "--int8", "--max-size", "20k", "--output", output)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("->    20,000 bytes   92.50 %  (float: 50,000 bytes, 93.00 %)")
    assert lines[1] == "Chosen for knee: the only one within the limits."
    assert lines[3] == f"Its most accurate one: {quantised_trial}"
    assert yaml.safe_load(output.read_text())["origin"]["trial"] == 2


def test_the_size_of_int8_networks_may_have_a_unit(run, quantised_trial):
    assert open_run(run.path).select_int8(max_size="20kB").network.folder == quantised_trial


def test_impossible_int8_choices(command, run, refused, tmp_path):
    output = tmp_path / "chosen.yaml"
    remedy = f"`mgnas retrain {run.path} --front --int8` trains and quantises"
    refused(command("select", run.path, "--int8", "--output", output), "no int8 network is measured", remedy)
    assert not output.exists()
