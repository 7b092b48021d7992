"""mgnas search: one line for a config, an option or a folder that cannot be used."""

import pytest

from .conftest import CONFIGS


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
def test_bad_config_is_one_line_naming_file_and_key(command, edited, tmp_path, name, changes, parts, refused):
    path = edited(**changes)
    arguments = ["--runs", tmp_path / "runs"] if name == "search" else []
    refused(command(name, path, *arguments), path, *parts)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["CONFIG"]),
        ([CONFIGS / "digits.yaml", "--trials", "many"], ["--trials"]),
        ([CONFIGS / "digits.yaml", "--trials", "0"], ["--trials"]),
        ([CONFIGS / "digits.yaml", "--gpus-per-trial", "many"], ["--gpus-per-trial", "expected auto or a number"]),
        ([CONFIGS / "digits.yaml", "--gpus-per-trial", "1.5"], ["resources.gpus_per_trial: 1.5 is neither"]),
        ([CONFIGS / "digits.yaml", "--gpus-per-trial", "-1"], ["resources.gpus_per_trial: expected auto or a number"]),
        ([CONFIGS / "digits.yaml", "--gpus-per-trial", "nan"], ["resources.gpus_per_trial: expected auto or a number"]),
        ([CONFIGS / "digits.yaml", "--sampler", "best"], ["search.sampler", "'tpe'"]),
        ([CONFIGS / "digits.yaml", "--stopping", "asha"], ["search.stopping", "'pareto'"]),
        ([CONFIGS / "digits.yaml", "--prior", "mnist"], ["prior mnist", "shipped table", "cifar10"]),
        (
            [CONFIGS / "digits.yaml", "--prior", CONFIGS / "digits.yaml"],
            ["digits.yaml: not a readable table"],
        ),
        ([CONFIGS / "digits.yaml", "--name", "a/b"], ["--name", "plain folder name"]),
        ([CONFIGS / "digits.yaml", "--data", "x.npz"], ["data.path", "digits"]),
        ([CONFIGS / "cifar10.yaml", "--data", "none.npz"], ["none.npz: no such file"]),
        ([CONFIGS / "digits.yaml", "--unknown"], ["--unknown"]),
        ([CONFIGS / "digits.yaml", "--address", "127.0.0.1:1"], ["--address 127.0.0.1:1: no Ray cluster"]),
        ([CONFIGS / "digits.yaml", "--address", "nowhere"], ["--address nowhere: expected auto, HOST:PORT"]),
    ],
    ids=lambda value: " ".join(map(str, value))[-40:],
)
def test_bad_options(command, arguments, parts, refused):
    refused(command("search", *arguments), *parts)


def test_name_that_is_taken(command, run, config_file, refused):
    result = command("search", config_file, "--runs", run.path.parent, "--name", run.path.name)
    refused(result, "exists already", f"mgnas resume {run.path}")
    assert [path.name for path in run.path.parent.iterdir()] == [run.path.name]


def test_more_cores_a_trial_than_the_machine_has_are_refused_before_a_run_is_made(command, tmp_path, refused):
    result = command("search", CONFIGS / "digits.yaml", "--runs", tmp_path / "runs", "--cpus-per-trial", 1024)
    refused(result, "resources.cpus_per_trial: a trial wants 1024 cores", "--cpus-per-trial")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("{sharing: X}", ["network 1 to try: sharing: expected one of "]),
        ("networks: [{group_size: 4}, {group_size: 7}]", ["network 2 to try: group_size: expected one of "]),
        ("networks: []", ["first.yaml: networks: expected a list of mappings"]),
        ("networks: 3", ["first.yaml: networks: expected a list of mappings"]),
        ("{networks: [{group_size: 4}], other: 1}", ["first.yaml: networks: expected a list of mappings"]),
        ("networks: [4]", ["network 1 to try: expected a mapping of parameters, got 4"]),
        ("{learning_rate: 0.1}", ["network 1 to try: learning_rate: unknown key"]),
        ("[1", ["first.yaml, line 1: not valid YAML"]),
        ("networks: [{group_size: 4}, {group_size: 4}]", ["search.trials: 1 is less than the 2 networks to try"]),
    ],
)
def test_networks_to_try_that_cannot_be_are_refused_before_a_run_is_made(command, tmp_path, refused, content, parts):
    (tmp_path / "first.yaml").write_text(content)
    trials = 1 if "less than" in parts[0] else 5
    arguments = ("--try", tmp_path / "first.yaml", "--trials", trials, "--runs", tmp_path / "runs")
    refused(command("search", CONFIGS / "digits.yaml", *arguments), *parts)
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_of_networks_to_try_is_named(command, tmp_path, refused):
    refused(command("search", CONFIGS / "digits.yaml", "--try", tmp_path / "none.yaml"), "none.yaml: no such file")
