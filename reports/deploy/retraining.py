"""Chosen networks of a run are trained fully through Ray, each with several seeds.

    RUN/retrained/<network id>/seed-0/      what `mgnas train` writes; a checkpoint while it is not finished
    RUN/retrained/<network id>/choice.json  the trial that it comes from, and the accuracy that the search saw

A finished training is never repeated, so the same command given again continues what was interrupted. The test images
are looked at once per training, at its end. On a cluster all machines must share the run directory.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgnas.errors import UserError, first_line
from mgnas.files import read_json, write_text
from mgnas.settings import build

from ...search.config import Resources
from ...search.data.dataset import DataSettings, load_dataset
from ...search.storage.run_directory import RunDirectory, refuse_links
from ...search.trial_record import CompletedTrial
from ...space.candidate import TrainingSettings
from .final_training import FinalTraining, selection, train_fully, without_path
from .model_card import RESULT_FILE, read_result, write_card
from .training_progress import TrainingProgress, read_progress

FOLDER = "retrained"
_CHOICE = "choice.json"


@dataclass(frozen=True)
class Retrained:
    """The results of one trial's network that was trained fully.

    Args:
        trial: its number.
        estimate: the validation accuracy that the search saw.
        part: the images that `accuracies` were measured on: `test`, or `validation` if there are no test images.
        accuracies: one for each seed.
        folder: of the trainings.
    """

    trial: int
    estimate: float
    part: str
    accuracies: tuple[float, ...]
    folder: Path

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Standard deviation between seeds (of a sample, n - 1); None for a single seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def shift(self) -> float:
        """The mean minus the search's estimate."""
        return self.mean - self.estimate

    def in_words(self) -> str:
        std = "" if self.std is None else f" +- {100 * self.std:.2f}"
        seeds = f"{len(self.accuracies)} seed{'s' * (len(self.accuracies) > 1)}"
        shift = f"{100 * self.shift:+.2f} points against the search's {100 * self.estimate:.2f} %"
        return f"{self.part} accuracy {100 * self.mean:.2f} %{std} over {seeds}, {shift}"


@dataclass(frozen=True)
class Outcome:
    """One training that has ended.

    Args:
        record: the trial whose network was trained.
        seed: of the training.
        accuracy: on the unseen images; None if it failed.
        reason: why it failed; empty if it did not.
        finished_before: by an earlier call.
    """

    record: CompletedTrial
    seed: int
    accuracy: float | None
    reason: str = ""
    finished_before: bool = False


@dataclass(frozen=True)
class Unfinished:
    """One training that has finished an epoch and has not ended.

    Args:
        trial: number of the trial whose network is trained.
        seed: of the training.
        progress: how far it is.
    """

    trial: int
    seed: int
    progress: TrainingProgress

    def in_words(self) -> str:
        return f"trial {self.trial}, seed {self.seed}: {self.progress.in_words()}"


def retrain(
    run: RunDirectory,
    trials: Sequence[CompletedTrial],
    seeds: int,
    *,
    epochs: int | None = None,
    address: str | None = None,
    gpus_per_trial: float | str | None = None,
    workers: int | None = None,
    precision: str | None = None,
    execution: str | None = None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
    on_epoch: Callable[[Unfinished], None] = lambda unfinished: None,
) -> list[Retrained]:
    """Train these trials' networks fully; continue where an earlier call was interrupted.

    Args:
        run: the search that the trials belong to. Its `final_training` is the recipe. Its `resources` are used; if the
            cluster does not have their GPUs, the GPUs that there are, or else CPUs.
        trials: whose networks to train.
        seeds: trainings of each network, with the seeds 0 .. seeds - 1.
        epochs: of each training; default: those of `final_training`.
        address: of a Ray cluster; default: Ray is started on this machine.
        gpus_per_trial: GPUs of a training: a number, or `auto`; default: the run's.
        workers: trainings at the same time, at most; default: the run's, or as many as the cluster has room for.
        precision: the type in which convolutions compute; default: the run's.
        execution: how training steps are executed; default: the run's.
        on_end: called with each training that ends.
        on_epoch: called with each training that has finished an epoch and has not ended. Epochs of less than a second
            may be passed over. What an earlier call has left comes first.

    Returns:
        the results of all networks of this run that were ever retrained, in the order of their trials.

    Raises:
        UserError: the images are not those that the trials learned from, a folder holds another training, there is no
            cluster, a setting cannot be used, or every training failed.
    """
    config = run.config.override(
        gpus_per_trial=gpus_per_trial, workers=workers, precision=precision, execution=execution
    )
    run.check_data(load_dataset(config.data))
    for trial in trials:
        folder = run.path / FOLDER / trial.candidate.id
        refuse_links([folder, *folder.glob("seed-*")])
    waiting, last = [], None
    for trial in trials:
        folder = (run.path / FOLDER / trial.candidate.id).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        choice = {"trial": trial.number, "validation_accuracy": trial.accuracy}
        write_text(folder / _CHOICE, json.dumps(choice) + "\n")
        for seed in range(seeds):
            task, own = _task(run, trial, seed, epochs), folder / f"seed-{seed}"
            if (own / RESULT_FILE).exists():
                _check_same(task, own)
                on_end(Outcome(trial, seed, _accuracy(read_result(own)), finished_before=True))
            else:
                waiting.append((trial, task, own))
    for outcome in _run_all(config.resources, waiting, address, on_epoch) if waiting else ():
        last = outcome
        on_end(outcome)
    results = load_retrained(run)
    numbers = {trial.number for trial in trials}
    if last is not None and not any(retrained.trial in numbers for retrained in results):
        raise UserError(f"retrain: every training failed; the last one: {last.reason}")
    for retrained in results:
        _write_cards(retrained)
    return results


def load_retrained(run: RunDirectory) -> list[Retrained]:
    """The results of all networks of a run that were retrained, in the order of their trials.

    Unfinished trainings do not count.

    Raises:
        UserError: a damaged file, or a link.
    """
    retrained = []
    for choice in sorted((run.path / FOLDER).glob(f"*/{_CHOICE}")):
        refuse_links([choice.parent, *choice.parent.glob("seed-*")])
        files = sorted(choice.parent.glob(f"seed-*/{RESULT_FILE}"))
        results = [read_result(file.parent) for file in files]
        for file, result in zip(files, results, strict=True):
            if not 0 <= _accuracy(result) <= 1:
                raise UserError(f"{file}: is damaged; delete its folder and retrain the network again")
        if not results:
            continue
        trial, estimate = _origin(choice)
        part = "test" if "test_accuracy" in results[0] else "validation"
        retrained.append(Retrained(trial, estimate, part, tuple(map(_accuracy, results)), choice.parent))
    return sorted(retrained, key=lambda network: network.trial)


def load_unfinished(run: RunDirectory) -> list[Unfinished]:
    """The trainings of a run that have finished an epoch and have not ended, in the order of their trials.

    Raises:
        UserError: a damaged file, or a link.
    """
    unfinished = []
    for choice in sorted((run.path / FOLDER).glob(f"*/{_CHOICE}")):
        folders = sorted(choice.parent.glob("seed-*"))
        refuse_links([choice.parent, *folders])
        for folder in folders:
            progress, seed = read_progress(folder), folder.name.removeprefix("seed-")
            if progress is not None and seed.isdecimal() and not (folder / RESULT_FILE).exists():
                unfinished.append(Unfinished(_origin(choice)[0], int(seed), progress))
    return sorted(unfinished, key=lambda training: (training.trial, training.seed))


def _origin(choice: Path) -> tuple[int, float]:
    """The trial that a network comes from, and the accuracy that the search saw.

    Raises:
        UserError: the file is damaged.
    """
    try:
        origin = read_json(choice)
        return int(origin["trial"]), float(origin["validation_accuracy"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        raise UserError(f"{choice}: is damaged; delete it and retrain the network again") from None


def _task(run: RunDirectory, trial: CompletedTrial, seed: int, epochs: int | None) -> FinalTraining:
    config = run.config
    plain = selection(trial, str(run.path), asdict(config.data), asdict(config.final_training))
    recipe = plain["training"] if epochs is None else plain["training"] | {"epochs": epochs}
    training = build(TrainingSettings, recipe, "final_training", config.file)
    return FinalTraining(trial.architecture, training, build(DataSettings, plain["data"], "data"), seed)


def _check_same(task: FinalTraining, folder: Path) -> None:
    """Refuse a finished training that is not this task's.

    Raises:
        UserError: it names the section that differs.
    """
    result = without_path(read_result(folder))
    for key, section in without_path(json.loads(json.dumps(task.to_dict()))).items():
        if result.get(key) != section:
            raise UserError(f"{folder}: was trained with another {key} section; move it away to train it anew")


def _accuracy(result: dict[str, Any]) -> float:
    """As a fraction; NaN if there is none."""
    accuracy = result.get("test_accuracy", result.get("validation_accuracy"))
    return float(accuracy) if isinstance(accuracy, int | float) else math.nan


def _train(task: FinalTraining, folder: str, resources: Resources) -> tuple[float | None, str]:
    """Train in a worker; returns the accuracy, or None and the reason why there is none."""
    import torch

    from ...search.tuner.worker import prepare_device

    torch.set_num_threads(resources.cpus_per_trial)
    try:
        prepare_device(resources.gpus)
        device = "cuda" if resources.gpus else "cpu"
        result = train_fully(task, Path(folder), device, precision=resources.precision, execution=resources.execution)
        return _accuracy(result), ""
    except UserError as error:
        return None, str(error)
    except Exception as error:  # One training's failure must not end the others; its reason becomes part of the result.
        return None, f"{type(error).__name__}: {first_line(str(error))}"


def _run_all(
    resources: Resources,
    waiting: list[tuple[CompletedTrial, FinalTraining, Path]],
    address: str | None,
    on_epoch: Callable[[Unfinished], None],
) -> Iterator[Outcome]:
    """Run the trainings, as many at a time as the cluster has room for; yields each outcome when it is there."""
    from ...search.tuner.gpu_share import MemoryNeed, training_need
    from ...search.tuner.task_pool import run_tasks

    def need() -> MemoryNeed:
        needs = (
            training_need(task.architecture, task.training, load_dataset(task.data), resources)
            for _, task, _ in waiting
        )
        return max(needs, key=lambda need: need.allocated)

    seen: dict[Path, TrainingProgress] = {}

    def look(running: Collection[int]) -> None:
        for trial, task, folder in map(waiting.__getitem__, running):
            progress = read_progress(folder)
            if progress is not None and progress != seen.get(folder):
                seen[folder] = progress
                on_epoch(Unfinished(trial.number, task.seed, progress))

    arguments = [(task, str(folder)) for _, task, folder in waiting]
    for index, result, problem in run_tasks(_train, arguments, resources, address, need, on_look=look):
        trial, task, _ = waiting[index]
        accuracy, reason = result or (None, problem)
        yield Outcome(trial, task.seed, accuracy, reason)


def _write_cards(retrained: Retrained) -> None:
    """Every training's model card tells what all seeds gave."""
    if retrained.std is None:
        return
    seeds = {"seeds": len(retrained.accuracies), "mean": retrained.mean, "spread": retrained.std}
    for file in retrained.folder.glob(f"seed-*/{RESULT_FILE}"):
        write_card(file.parent, seeds)
