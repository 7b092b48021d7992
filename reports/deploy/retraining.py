"""Chosen networks of a run trained fully, each with several seeds, through Ray.

    RUN/retrained/<network id>/seed-0/      what `mgnas train` writes; a checkpoint while it is not finished
    RUN/retrained/<network id>/choice.json  the trial it comes from, and the accuracy that the search saw

A training that is finished is never repeated, so giving the same command again continues what was interrupted; the test
images are looked at once per training, at its end. On a cluster the run directory must be one that all machines share.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mgnas.errors import UserError
from mgnas.files import write_text
from mgnas.settings import build

from ...search.data.dataset import DataSettings
from ...search.storage.run_directory import RunDirectory
from ...search.trial_record import TrialRecord
from ...space.candidate import TrainingSettings
from .final_training import FinalTraining, selection, train_fully
from .model_card import RESULT_FILE, read_result, write_card

FOLDER = "retrained"
_CHOICE = "choice.json"


@dataclass(frozen=True)
class Retrained:
    """What the full trainings of one trial's network gave.

    Args:
        trial: its number.
        estimate: the validation accuracy that the search saw.
        part: `test`, or `validation` where there are no test images.
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
    def spread(self) -> float | None:
        """Standard deviation between seeds (of a sample, n - 1); None of a single one."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def shift(self) -> float:
        """The mean less the search's estimate."""
        return self.mean - self.estimate

    def in_words(self) -> str:
        spread = "" if self.spread is None else f" +- {100 * self.spread:.2f}"
        seeds = f"{len(self.accuracies)} seed{'s' * (len(self.accuracies) > 1)}"
        shift = f"{100 * self.shift:+.2f} points against the search's {100 * self.estimate:.2f} %"
        return f"{self.part} accuracy {100 * self.mean:.2f} %{spread} over {seeds}, {shift}"


@dataclass(frozen=True)
class Outcome:
    """One training that has ended.

    Args:
        record: of the trial.
        seed: of the training.
        accuracy: on the unseen images; None if it failed.
        reason: why it failed; empty if it did not.
        known: it was finished before.
    """

    record: TrialRecord
    seed: int
    accuracy: float | None
    reason: str = ""
    known: bool = False


def retrain(
    run: RunDirectory,
    records: Sequence[TrialRecord],
    seeds: int,
    *,
    epochs: int | None = None,
    address: str | None = None,
    on_end: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Retrained]:
    """Train these trials' networks fully; continue where an earlier call was interrupted.

    Args:
        run: where they come from; its `final_training` says how, its `resources` on what.
        records: complete trials.
        seeds: 0 .. seeds - 1 for each.
        epochs: instead of those of `final_training`.
        address: a Ray cluster; default: Ray is started on this machine.
        on_end: told of each training that ends.

    Returns:
        what is known of all networks of this run that were retrained, in the order of their trials.

    Raises:
        UserError: a folder that holds another training, no cluster, or not one training that succeeded.
    """
    waiting, last = [], None
    for record in records:
        folder = _folder(run, record)
        folder.mkdir(parents=True, exist_ok=True)
        choice = {"trial": record.number, "validation_accuracy": record.accuracy}
        write_text(folder / _CHOICE, json.dumps(choice) + "\n")
        for seed in range(seeds):
            task = _task(run, record, seed, epochs)
            if (folder / f"seed-{seed}" / RESULT_FILE).exists():
                _check_same(task, folder / f"seed-{seed}")
                on_end(Outcome(record, seed, _accuracy(read_result(folder / f"seed-{seed}")), known=True))
            else:
                waiting.append((record, task, folder / f"seed-{seed}"))
    for outcome in _run_all(run, waiting, address) if waiting else ():
        last = outcome
        on_end(outcome)
    found = load_retrained(run)
    if last is not None and not any(retrained.trial in {r.number for r in records} for retrained in found):
        raise UserError(f"retrain: every training failed; the last one: {last.reason}")
    for retrained in found:
        _write_cards(retrained)
    return found


def load_retrained(run: RunDirectory) -> list[Retrained]:
    """All networks of a run that were retrained, in the order of their trials; unfinished trainings do not count.

    Raises:
        UserError: a damaged file.
    """
    found = []
    for choice in sorted((run.path / FOLDER).glob(f"*/{_CHOICE}")):
        results = [read_result(file.parent) for file in sorted(choice.parent.glob(f"seed-*/{RESULT_FILE}"))]
        if not results:
            continue
        try:
            origin = json.loads(choice.read_text(encoding="utf-8"))
            trial, estimate = int(origin["trial"]), float(origin["validation_accuracy"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{choice}: is damaged; delete it and retrain the network again") from None
        part = "test" if "test_accuracy" in results[0] else "validation"
        found.append(Retrained(trial, estimate, part, tuple(map(_accuracy, results)), choice.parent))
    return sorted(found, key=lambda retrained: retrained.trial)


def _folder(run: RunDirectory, record: TrialRecord) -> Path:
    return (run.path / FOLDER / record.candidate.id).absolute()


def _task(run: RunDirectory, record: TrialRecord, seed: int, epochs: int | None) -> FinalTraining:
    config = run.config
    plain = selection(record, str(run.path), asdict(config.data), asdict(config.final_training))
    recipe = plain["training"] if epochs is None else plain["training"] | {"epochs": epochs}
    training = build(TrainingSettings, recipe, "final_training", config.file)
    return FinalTraining(record.candidate.architecture, training, build(DataSettings, plain["data"], "data"), seed)


def _check_same(task: FinalTraining, folder: Path) -> None:
    """A finished training is taken for this one only if it was trained in the same way."""
    result = read_result(folder)
    for key, wanted in json.loads(json.dumps(task.to_dict())).items():
        if result.get(key) != wanted:
            raise UserError(f"{folder}: was trained with another {key} section; move it away to train it anew")


def _accuracy(result: dict[str, Any]) -> float:
    return float(result.get("test_accuracy", result.get("validation_accuracy", math.nan)))


def _train(task: FinalTraining, folder: str, resources: dict[str, Any]) -> tuple[float | None, str]:
    """What a worker does: the accuracy, or the reason why there is none."""
    import torch

    torch.set_num_threads(resources["threads"])
    try:
        device = "cuda" if resources["gpu"] else "cpu"
        how = {name: resources[name] for name in ("precision", "execution")}
        return _accuracy(train_fully(task, Path(folder), device, **how)), ""
    except UserError as error:
        return None, str(error)
    except Exception as error:  # One training's failure must not end the others; its reason is told.
        return None, f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason known'])[0]}"[:300]


def _run_all(run: RunDirectory, waiting: list[tuple[TrialRecord, FinalTraining, Path]], address: str | None):
    """Run the trainings as the cluster has room for them; yields an Outcome as each ends."""
    from ...search.tuner.task_pool import run_tasks

    wanted = run.config.resources
    resources = {
        "threads": wanted.cpus_per_trial,
        "gpu": wanted.gpus_per_trial > 0,
        "precision": wanted.precision,
        "execution": wanted.execution,
    }
    arguments = [(task, str(folder), resources) for _, task, folder in waiting]
    for index, result, reason in run_tasks(_train, arguments, wanted, address):
        record, task, _ = waiting[index]
        accuracy, reason = result or (None, reason)
        yield Outcome(record, task.seed, accuracy, reason)


def _write_cards(retrained: Retrained) -> None:
    """Every training's model card tells what the other seeds gave."""
    if retrained.spread is None:
        return
    spread = {"seeds": len(retrained.accuracies), "mean": retrained.mean, "spread": retrained.spread}
    for file in retrained.folder.glob(f"seed-*/{RESULT_FILE}"):
        write_card(file.parent, spread)
