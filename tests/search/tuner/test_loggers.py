"""Loggers: what TensorBoard finds, and what is refused."""

import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest

from mgnas.search.tuner.loggers import TensorBoardLogger, make_loggers


def trial(number: int, epochs_done: int = 0) -> Any:
    """As much of a trial of Ray Tune as a logger reads."""
    task = SimpleNamespace(number=number, epochs_done=epochs_done)
    return SimpleNamespace(trial_id=f"id-{number}", config={"task": task})


def result(*curve: float, loss: float | None = 1.5) -> dict:
    return {"curve": list(curve), "loss": loss}


def test_each_epoch_of_a_trial_is_written_once(tmp_path, logged):
    logger, first, second = TensorBoardLogger(tmp_path), trial(3), trial(4)
    logger.on_trial_result(1, [], first, result(0.25))
    logger.on_trial_result(2, [], second, result(0.125))
    logger.on_trial_result(3, [], first, result(0.25, 0.5, loss=0.5))
    logger.on_trial_result(4, [], first, result(0.25, 0.5, loss=0.5))
    logger.on_trial_complete(5, [], first)
    assert logged(tmp_path / "tensorboard" / "00003") == {
        "accuracy": [(1, 0.25), (2, 0.5)],
        "loss": [(1, 1.5), (2, 0.5)],
    }
    assert logged(tmp_path / "tensorboard" / "00004")["accuracy"] == [(1, 0.125)]


def test_a_resumed_trial_is_logged_from_its_next_epoch_on(tmp_path, logged):
    logger, resumed = TensorBoardLogger(tmp_path), trial(3, epochs_done=2)
    logger.on_trial_result(1, [], resumed, result(0.1, 0.2, 0.5))
    logger.on_trial_error(2, [], resumed)
    assert logged(tmp_path / "tensorboard" / "00003") == {"accuracy": [(3, 0.5)], "loss": [(3, 1.5)]}


def test_a_failure_writes_nothing(tmp_path):
    logger = TensorBoardLogger(tmp_path)
    logger.on_trial_result(1, [], trial(3), result(loss=None))
    assert not (tmp_path / "tensorboard").exists()


def test_a_folder_that_cannot_be_written_is_told_once_and_stops_nothing(tmp_path, caplog):
    (tmp_path / "tensorboard").write_text("")
    logger = TensorBoardLogger(tmp_path)
    for number in (1, 2):
        logger.on_trial_result(number, [], trial(number), result(0.25))
    assert caplog.text.count("cannot be written (Not a directory); no more curves for TensorBoard") == 1


def test_a_run_that_was_moved_away_is_not_made_again(tmp_path, caplog):
    logger = TensorBoardLogger(tmp_path / "run")
    logger.on_trial_result(1, [], trial(1), result(0.25))
    assert "cannot be written (No such file or directory)" in caplog.text
    assert not (tmp_path / "run").exists()


def test_a_logger_that_is_named_twice_is_made_once(tmp_path):
    (logger,) = make_loggers(["tensorboard", "tensorboard"], tmp_path, "small")
    assert isinstance(logger, TensorBoardLogger)
    assert make_loggers([], tmp_path, "small") == []


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_named_with_its_remedy(tmp_path, refusal, name):
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    message = refusal(lambda: make_loggers([name], tmp_path, "small"))
    assert message == f"search.loggers: {name} needs the package {name}; pip install 'mgnas[{name}]'"
