"""The command line in-process: what is printed, exit codes, and one line for every kind of bad input."""

import re
from pathlib import Path

import pytest
import yaml

from mgnas.models.config import ArchitectureConfig
from mgnas.models.cost import count_weights
from mgnas.space.published import PUBLISHED

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def edited(tmp_path):
    """The digits search with some of its keys changed, as a file."""

    def write(**changes):
        content = yaml.safe_load((CONFIGS / "digits.yaml").read_text())
        for dotted, value in changes.items():
            *path, last = dotted.split("__")
            section = content
            for key in path:
                section = section[key]
            if value is None:
                section.pop(last)
            else:
                section[last] = value
        path = tmp_path / "edited.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def assert_one_line(result, *parts):
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("mgnas: error: ")
    for part in parts:
        assert str(part) in err


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.name)
def test_weights_of_a_preset(command, row):
    code, out, _ = command("weights", "--preset", row.name)
    assert code == 0
    total = next(line for line in out.splitlines() if line.startswith("total"))
    assert f"{count_weights(row.config):,}" in total
    assert row.weights in out
    assert row.note in out


def test_weights_of_each_part_add_up(command):
    _, out, _ = command("weights", "--preset", "mgiad-lambda3-cifar10")
    rows = [line.split() for line in out.splitlines()[2:] if re.search(r"\d +$", line)]
    numbers = [int(row[-2].replace(",", "")) for row in rows]
    assert sum(numbers[:-1]) == numbers[-1] == 1_270_474


def test_weights_of_a_file(command, tmp_path):
    config = ArchitectureConfig(family="mgiad", base_channels=(16, 32), num_classes=7)
    path = tmp_path / "net.yaml"
    for content in (config.to_dict(), {"architecture": config.to_dict(), "data": {"name": "digits"}}):
        path.write_text(yaml.safe_dump(content))
        code, out, _ = command("weights", "--config", path)
        assert code == 0
        assert f"{count_weights(config):,}" in out


def test_presets_are_listed(command):
    code, out, _ = command("weights", "--preset", "list")
    assert code == 0
    assert len(out.splitlines()) == len(PUBLISHED)


def test_space_counts_points_and_networks(command, edited):
    fixed = {"family": "mgnet", "sharing": "AB"}
    parameters = {"base_channels": [[4], [8]], "channel_scaling": [1, 2], "smoothing_steps": [1, 2]}
    path = edited(space={"fixed": fixed, "parameters": parameters})
    code, out, _ = command("space", path)
    assert code == 0
    assert re.search(r"points +8\b", out)
    # 4 x 2 and 8 x 1 channels are the same network, for each number of steps.
    assert re.search(r"distinct and valid 6\b", out)


def test_continuous_space_is_described_from_a_sample(command, edited):
    parameters = {"base_channels": [[4], [8]], "learning_rate": {"low": 0.01, "high": 0.1}}
    code, out, _ = command("space", edited(space={"fixed": {"family": "mgnet"}, "parameters": parameters}))
    assert code == 0
    assert "found in a sample of 20,000 points" in out


def test_status_select_report_of_a_run(command, run, tmp_path):
    code, out, _ = command("status", run.path)
    assert code == 0
    assert "5 of 8 trials complete, 1 running, 0 paused, 1 failed, 1:15 searched" in out
    assert "trial 5 failed: <b>& loss became nan" in out
    assert f"mgnas resume {run.path}" in out
    output = tmp_path / "chosen.yaml"
    code, out, _ = command("select", run.path, "--min-accuracy", "95%", "--prefer", "weights", "--output", output)
    assert code == 0
    assert yaml.safe_load(output.read_text())["architecture"]["base_channels"] == [16]
    assert re.search(r"^-> .* 95.00 %", out, re.MULTILINE)
    code, out, _ = command("report", run.path, "--output", tmp_path / "report")
    assert code == 0
    assert (tmp_path / "report" / "report.html").exists()


def test_select_then_train(command, run, tmp_path):
    output, folder = tmp_path / "chosen.yaml", tmp_path / "model"
    assert command("select", run.path, "--output", output)[0] == 0
    code, out, _ = command("train", output, "--output", folder, "--device", "cpu", "--threads", 1)
    assert code == 0
    assert re.search(r"test accuracy \d+\.\d\d % on 360 images", out)
    assert (folder / "model.pt").exists()
    code, _, err = command("train", output, "--output", folder)
    assert code == 2
    assert err == f"mgnas: error: {folder}: holds a trained model already; choose another folder with --output\n"


def test_resume_of_a_finished_run_says_so(command, run):
    from mgnas.search.trial_record import TrialState

    for record in run.load():
        if record.state is TrialState.RUNNING:
            record.state, record.reason = TrialState.FAILED, "given up"
            run.record_end(record)
    line = f"{run.path} has all its 7 trials; add some with --trials."
    page = run.path / "report" / "report.html"
    first, second = (command("resume", run.path, "--trials", 7)[1].splitlines() for _ in range(2))
    assert first == [line, f"Report: {page}"], "a driver killed at its end has not written it"
    assert page.exists()
    assert second == [line]
    assert_one_line(command("resume", run.path, "--trials", 3), "--trials: 3 is less than the 7 trials")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"trainin": {}}, ["trainin: unknown key; did you mean training?"]),
        ({"training__learning_rte": 0.1}, ["training.learning_rte: unknown key; did you mean learning_rate?"]),
        ({"training__epochs": "ten"}, ["training.epochs: ", "integer", "'ten'"]),
        ({"training__epochs": 0}, ["training.epochs: "]),
        ({"training__warmup_epochs": 50}, ["training.warmup_epochs: 50 is more than epochs, 20"]),
        ({"data__name": "imagenet"}, ["data.name: "]),
        ({"data": None}, ["data: is required and missing"]),
        ({"space": None}, ["space: is required and missing"]),
        ({"search__sampler": "best"}, ["search.sampler: ", "'tpe'"]),
        ({"search__trials": 0}, ["search.trials: "]),
        ({"resources__workers": 1.5}, ["resources.workers: "]),
        ({"space__parameters": {}}, ["space.parameters: names nothing to search"]),
        ({"space__parameters__group_size": [7]}, ["space.parameters.group_size: 7 does not divide"]),
        ({"space__parameters__group_size": [4, "x"]}, ["space.parameters.group_size: ", "'x'"]),
        (
            {"space__parameters__group_sizes": [4]},
            ["space.parameters.group_sizes: unknown key; did you mean group_size"],
        ),
        ({"space__parameters__smoothing_steps": {"low": 3, "high": 1}}, ["space.parameters.smoothing_steps.low: "]),
        ({"space__limits__max_weights": 100}, ["space.limits.max_weights: leaves no candidate", "1,0"]),
        ({"space__limits__max_weights": "lots"}, ["space.limits.max_weights: expected a whole number", "'lots'"]),
        ({"space__limits__min_weights": "1M"}, ["space.limits.m", "leaves no candidate"]),
        ({"name": "../escape"}, ["name: expected letters"]),
        ({"final_training": 3}, ["final_training: expected a mapping"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("name", ["search", "space"])
def test_bad_config_is_one_line_naming_file_and_key(command, edited, tmp_path, name, changes, parts):
    path = edited(**changes)
    arguments = ["--runs", tmp_path / "runs"] if name == "search" else []
    assert_one_line(command(name, path, *arguments), path, *parts)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"a: [1, 2", "not valid YAML"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"", "expected a mapping"),
        (b"- 1\n- 2\n", "expected a mapping"),
        (b"just words", "expected a mapping"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
        (b"a: 1\n\tb: 2\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_config(command, tmp_path, content, part):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    for name in (["search"], ["space"], ["train"], ["weights", "--config"]):
        assert_one_line(command(*name, path), path, part)


def test_missing_files_and_folders(command, tmp_path):
    for name in (["search"], ["space"], ["train"], ["weights", "--config"]):
        assert_one_line(command(*name, tmp_path / "none.yaml"), "none.yaml: no such file")
        assert_one_line(command(*name, tmp_path), tmp_path, "cannot be read")
    for name in ("status", "resume", "report", "select"):
        assert_one_line(command(name, tmp_path / "none"), "none: no such run directory")
        assert_one_line(command(name, tmp_path), "config.yaml is missing")


def test_half_written_run_directory(command, run):
    (run.path / "journal.jsonl").unlink()
    (run.path / "study.db").write_bytes(b"SQLite format 3\0 cut short")
    for name in ("status", "resume", "report", "select"):
        assert_one_line(command(name, run.path), "study.db")
    (run.path / "study.db").unlink()
    for name in ("status", "resume", "report", "select"):
        assert_one_line(command(name, run.path), "study.db is missing")


def test_unwritable_places(command, run, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    digits = CONFIGS / "digits.yaml"
    assert_one_line(command("search", digits, "--runs", blocker / "runs"), "cannot be written", "--runs")
    assert_one_line(command("select", run.path, "--output", blocker / "x.yaml"), "x.yaml: cannot be written")
    assert_one_line(command("report", run.path, "--output", blocker / "r"), "cannot be written", "--output")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["weights"], ["one of --preset NAME and --config FILE"]),
        (["weights", "--preset", "mgnet"], ["unknown name 'mgnet'", "mgnet-cifar10"]),
        (["weights", "--preset", "mgnet-cifar10", "--image-size", "4"], ["--image-size"]),
        (["search"], ["CONFIG"]),
        (["serch"], ["No such command 'serch'"]),
        (["search", CONFIGS / "digits.yaml", "--trials", "many"], ["--trials"]),
        (["search", CONFIGS / "digits.yaml", "--trials", "0"], ["--trials"]),
        (["search", CONFIGS / "digits.yaml", "--sampler", "best"], ["search.sampler", "'tpe'"]),
        (["search", CONFIGS / "digits.yaml", "--stopping", "asha"], ["search.stopping", "'pareto'"]),
        (["search", CONFIGS / "digits.yaml", "--prior", "mnist"], ["prior mnist", "shipped table", "cifar10"]),
        (
            ["search", CONFIGS / "digits.yaml", "--prior", CONFIGS / "digits.yaml"],
            ["digits.yaml: not a readable table"],
        ),
        (["search", CONFIGS / "digits.yaml", "--name", "a/b"], ["--name", "plain folder name"]),
        (["search", CONFIGS / "digits.yaml", "--data", "x.npz"], ["data.path", "digits"]),
        (["search", CONFIGS / "cifar10.yaml", "--data", "none.npz"], ["none.npz: no such file"]),
        (["search", CONFIGS / "digits.yaml", "--unknown"], ["--unknown"]),
        (["search", CONFIGS / "digits.yaml", "--address", "127.0.0.1:1"], ["--address 127.0.0.1:1: no Ray cluster"]),
        (["search", CONFIGS / "digits.yaml", "--address", "nowhere"], ["--address nowhere: expected auto, HOST:PORT"]),
        (["select", "runs", "--prefer", "best"], ["--prefer", "'knee'"]),
        (["select", "runs", "--max-weights", "few"], ["--max-weights", "20k"]),
        (["select", "runs", "--min-accuracy", "97"], ["--min-accuracy", "0.97"]),
    ],
    ids=lambda value: " ".join(map(str, value))[-40:],
)
def test_bad_command_lines(command, arguments, parts):
    assert_one_line(command(*arguments), *parts)


def test_name_that_is_taken(command, run, config_file):
    result = command("search", config_file, "--runs", run.path.parent, "--name", run.path.name)
    assert_one_line(result, "exists already", f"mgnas resume {run.path}")
    assert [path.name for path in run.path.parent.iterdir()] == [run.path.name]


def test_help_teaches_the_way(command):
    code, out, _ = command("--help")
    assert code == 0
    assert all(name in out for name in ("search", "resume", "select", "train", "weights", "space"))
