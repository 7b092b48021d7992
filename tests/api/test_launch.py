"""What a search is started with: files, mappings and keywords, and one line for what cannot be used."""

import json
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml

import mgnas
from mgnas.errors import SearchStoppedError, UserError
from mgnas.launch import configured, is_finished, new_run, resumed_run, undisturbed
from mgnas.search.config import SearchConfig
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.storage.run_metadata import RunMetadata
from mgnas.search.trial_record import TrialRecord

CONFIG = {
    "data": {"name": "digits"},
    "space": {"fixed": {"family": "mgnet"}, "parameters": {"base_channels": [[4], [8]], "smoothing_steps": [1, 2]}},
    "search": {"trials": 4},
}


def test_a_file_a_mapping_and_a_config_are_the_same_search(tmp_path):
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    configs = [configured(CONFIG), configured(path), configured(str(path)), configured(SearchConfig.load(path))]
    assert all(config.to_dict() == configs[0].to_dict() for config in configs)
    assert configs[0].name == "search"


def test_a_mapping_may_hold_what_python_has(tmp_path):
    parameters = {"base_channels": ((4,), [8]), "smoothing_steps": range(1, 3)}
    python = {
        "data": {"name": "npz", "path": Path("images.npz"), "validation_fraction": np.float64(0.25)},
        "space": {"fixed": {"family": "mgnet"}, "parameters": parameters},
        "search": {"trials": np.int64(4)},
    }
    config = configured(python)
    assert (config.data.path, config.data.validation_fraction, config.search.trials) == ("images.npz", 0.25, 4)
    assert dict(config.space) == CONFIG["space"]
    assert yaml.safe_load(yaml.safe_dump(config.to_dict())) == json.loads(json.dumps(config.to_dict()))
    parameters["smoothing_steps"] = [7]
    assert dict(config.space) == CONFIG["space"], "a later change of the user's mapping changes nothing"


def test_keywords_change_single_settings_and_none_changes_nothing():
    config = configured(CONFIG, trials=9, sampler="tpe", gpus_per_trial=0.5, workers=None, seed=None)
    assert (config.search.trials, config.search.sampler, config.resources.gpus_per_trial) == (9, "tpe", 0.5)
    assert (config.search.seed, config.resources.workers) == (0, None)


def test_files_and_folders_are_found_from_everywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "earlier").mkdir()
    npz = CONFIG | {"data": {"name": "npz", "path": "there.npz"}}
    config = configured(npz, path=Path("images.npz"), storage="kept", prior="earlier")
    assert config.data.path == str(tmp_path / "images.npz")
    assert config.resources.storage == str(tmp_path / "kept")
    assert config.search.prior == str(tmp_path / "earlier")
    config = configured(npz, storage="s3://bucket/runs", prior="digits")
    assert (config.resources.storage, config.search.prior) == ("s3://bucket/runs", "digits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainin": {}}, "<config>: trainin: unknown key; did you mean training?"),
        ({"data": None}, "<config>: data: is required and missing"),
        ({"name": "../escape"}, "<config>: name: expected letters, digits, '-', '_' and '.', got '../escape'"),
        ({"training": {"epochs": 0}}, "<config>: training.epochs: should be greater than or equal to 1, got 0"),
        ({"training": {"flip": {1}}}, "<config>: training.flip: expected numbers, text, lists and mappings, got {1}"),
        ({"space": {"parameters": {}}}, "<config>: space.parameters: names nothing to search"),
        ({"space": {"parameters": {"group_sizes": [4]}}}, "<config>: space.parameters.group_sizes: unknown key"),
    ],
)
def test_errors_of_a_mapping_name_the_key(refusal, tmp_path, changes, message):
    config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    assert refusal(lambda: mgnas.run_search(config, runs=tmp_path / "runs")).startswith(message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"trials": 0}, "search.trials: "),
        ({"trials": "many"}, "search.trials: "),
        ({"workers": 1.5}, "resources.workers: "),
        ({"gpus_per_trial": "many"}, "resources.gpus_per_trial: expected auto or a number from 0 to 64, got 'many'"),
        ({"sampler": "best"}, "search.sampler: "),
        ({"prior": "mnist"}, "prior mnist: no such run directory, table file or shipped table"),
        ({"data": "x.npz"}, "data.path: has no effect for digits"),
        ({"address": "nowhere"}, "--address nowhere: expected auto, HOST:PORT or ray://HOST:PORT"),
        ({"address": "127.0.0.1:1"}, "--address 127.0.0.1:1: no Ray cluster answers there"),
        ({"name": "a/b"}, "--name: expected a plain folder name, got 'a/b'"),
    ],
)
def test_errors_of_keywords_are_one_line_and_leave_nothing_behind(refusal, tmp_path, keywords, message):
    assert refusal(lambda: mgnas.run_search(CONFIG, runs=tmp_path / "runs", **keywords)).startswith(message)
    assert not list(tmp_path.glob("runs/*"))


def test_a_missing_file_is_named(refusal, tmp_path):
    path = tmp_path / "none.yaml"
    assert refusal(lambda: mgnas.run_search(path)) == f"{path}: no such file"


def test_a_run_is_finished_when_no_trial_is_left_to_start_or_to_continue(run, ended_run):
    assert not is_finished(ended_run), "7 of 8 trials"
    with resumed_run(ended_run.path, trials=7, workers=3) as resumed:
        assert is_finished(resumed)


def test_a_run_with_a_running_trial_is_not_finished(run):
    with resumed_run(run.path, trials=7) as resumed:
        assert not is_finished(resumed)


def test_a_run_is_not_resumed_to_fewer_trials(refusal, run):
    def resume():
        with resumed_run(run.path, trials=3):
            pass

    assert refusal(resume) == f"--trials: 3 is less than the 7 trials that {run.path} has started already"
    assert RunDirectory(run.path).config.search.trials == 8


def test_what_libraries_change_in_the_process_is_undone():
    logger, level = logging.getLogger("ray"), logging.getLogger("ray").level
    verbosity, handler = optuna.logging.get_verbosity(), signal.getsignal(signal.SIGINT)
    with undisturbed():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert logger.level == logging.CRITICAL
    assert signal.getsignal(signal.SIGINT) is handler
    assert (logger.level, optuna.logging.get_verbosity()) == (level, verbosity)


def test_a_thread_leaves_signals_alone():
    def enter():
        with undisturbed():
            return "no error"

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(enter).result() == "no error"


# ----------------------------------------------------------------------------------- between a run and its first trial


def started(tmp_path, error):
    with new_run(configured(CONFIG), tmp_path / "runs"):
        raise error


@pytest.mark.parametrize("error", [UserError("no GPU"), RuntimeError("Ray"), OSError(28, "full")])
def test_a_search_that_fails_before_its_first_trial_leaves_no_run(tmp_path, error):
    with pytest.raises(type(error)):
        started(tmp_path, error)
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_interrupted_one_can_be_resumed_and_says_so(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        started(tmp_path, KeyboardInterrupt())
    path = tmp_path / "runs" / "search-1"
    assert str(caught.value) == f"{path}: interrupted; continue with mgnas.open_run({str(path)!r}).resume()"
    with resumed_run(path) as directory:
        assert directory.load() == []


def test_ctrl_c_while_the_run_is_made_leaves_none(tmp_path, monkeypatch):
    write = RunMetadata.write

    def interrupted(self, folder):
        signal.raise_signal(signal.SIGINT)
        write(self, folder)

    monkeypatch.setattr(RunMetadata, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        started(tmp_path, AssertionError("the search began"))
    assert list((tmp_path / "runs").iterdir()) == []


def test_one_that_had_to_stop_stays_as_its_message_says(tmp_path):
    with pytest.raises(SearchStoppedError):
        started(tmp_path, SearchStoppedError("full; continue with: mgnas resume"))
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["search-1"]


def test_a_run_with_a_trial_stays_after_a_failure(tmp_path):
    def search():
        with new_run(configured(CONFIG), tmp_path / "runs") as directory:
            directory.record_start(TrialRecord(0, next(directory.space.enumerate()), 0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        search()
    assert len(RunDirectory(tmp_path / "runs" / "search-1").load()) == 1


def test_networks_to_try_wait_in_the_new_run(tmp_path):
    with new_run(configured(CONFIG), tmp_path / "runs", enqueue=[{"smoothing_steps": 2}]) as directory:
        assert [queued.params for queued in directory.queue.waiting()] == [{"smoothing_steps": 2}]


# ------------------------------------------------------------------------------------------------------------ silence


def test_optuna_prints_nothing_and_its_warnings_reach_the_programs_handlers(capfd, caplog):
    optuna_logger = logging.getLogger("optuna")
    before = list(optuna_logger.handlers), optuna_logger.propagate
    with undisturbed():
        optuna.create_study()
        optuna_logger.warning("odd")
    assert capfd.readouterr() == ("", "")
    assert "odd" in caplog.text
    assert "created in memory" not in caplog.text
    assert (list(optuna_logger.handlers), optuna_logger.propagate) == before
