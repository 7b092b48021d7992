"""The full training of one selected network: all training images, test accuracy once at the end, a saved model."""

from __future__ import annotations

import json
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from mgnas.errors import ConfigError, UserError
from mgnas.files import read_yaml, write_text, write_yaml
from mgnas.settings import build, unknown_key

from ...models.config import ArchitectureConfig
from ...models.cost import count_macs, count_weights
from ...models.inference_memory import activation_memory, flash_memory
from ...search.data.dataset import Dataset, DataSettings, ImageDataset, check_learnable, load_dataset
from ...search.data.digest import dataset_digest
from ...search.data.image_files import parse_colour
from ...search.training.execution import Execution
from ...search.training.precision import Precision
from ...search.training.trainer import (
    DamagedCheckpointError,
    EpochResult,
    Trainer,
    TrainingDivergedError,
    balanced_accuracy,
)
from ...search.trial_record import CompletedTrial
from ...space.candidate import TrainingSettings
from .classifier import MODEL_FILE, save_model
from .model_card import DIGEST, RESULT_FILE, write_card
from .portable_paths import portable_path
from .training_progress import TrainingProgress, forget_progress, write_progress

_CHECKPOINT, _TASK, _LOCK = "checkpoint.pt", "task.yaml", "train.lock"
_OF_THE_OPTIMIZER = ("learning_rate", "momentum", "weight_decay")


@dataclass(frozen=True)
class FinalTraining:
    """What to train, and how.

    Args:
        architecture: the network.
        training: the recipe.
        data: which images.
        seed: of the training.
    """

    architecture: ArchitectureConfig
    training: TrainingSettings
    data: DataSettings
    seed: int = 0

    @classmethod
    def load(cls, path: str | Path, seed: int = 0, epochs: int | None = None) -> FinalTraining:
        """Read the YAML file that `mgnas select` wrote, or one written by hand with the same keys.

        Raises:
            UserError: no such file, not YAML, an unknown or missing key, or a wrong value.
        """
        file, content = str(path), read_yaml(path)
        if "space" in content:
            problem = "is the config of a search; train takes what `mgnas select` writes of a search's result"
            raise ConfigError("", problem, file)
        for key in content:
            if key not in ("architecture", "training", "data", "origin"):
                raise unknown_key(str(key), ["architecture", "training", "data", "origin"]).inside(file=file)
        for key in ("architecture", "data"):
            if content.get(key) is None:
                raise ConfigError(key, "is required and missing", file)
        recipe = content.get("training") or {}
        if epochs is not None and isinstance(recipe, dict):
            recipe = recipe | {"epochs": epochs}
        return cls(
            ArchitectureConfig.from_dict(content["architecture"], "architecture", file),
            build(TrainingSettings, recipe, "training", file),
            build(DataSettings, content["data"], "data", file),
            seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "architecture": self.architecture.to_dict(),
            "training": asdict(self.training),
            "data": asdict(self.data),
            "seed": self.seed,
        }


def train_fully(
    task: FinalTraining,
    folder: Path,
    device: str,
    on_epoch: Callable[[EpochResult], None] = lambda result: None,
    precision: Precision = "auto",
    execution: Execution = "auto",
) -> dict[str, Any]:
    """Train, measure on the test images once, and save the model; an interrupted training is continued.

    If there are test images, the validation images are trained on, too.

    Args:
        task: what to train.
        folder: for checkpoint, model and result.
        device: `cpu` or `cuda`.
        on_epoch: called after each epoch.
        precision: the type to compute convolutions in.
        execution: how training steps are executed.

    Returns:
        what `result.json` holds.

    Raises:
        UserError: the folder holds another training, one with other images, or one that another process trains now; it
            cannot be written; the data cannot be used or do not fit the network; or the loss diverged.
    """
    dataset = load_dataset(task.data)
    check_learnable(task.data, dataset)
    architecture = task.architecture
    if (architecture.num_classes, architecture.in_channels) != (dataset.num_classes, dataset.in_channels):
        fits = f"num_classes: {dataset.num_classes}, in_channels: {dataset.in_channels}"
        raise UserError(f"architecture: does not fit the data, which need {fits}")
    try:
        architecture.check_image_size(dataset.image_size)
    except ConfigError as error:
        raise error.inside("architecture") from None
    with _alone(folder):
        facts = _claim(folder, task, dataset)
        return _train(task, facts, dataset, folder, device, on_epoch, precision, execution)


def _train(
    task: FinalTraining,
    facts: dict[str, Any],
    dataset: Dataset,
    folder: Path,
    device: str,
    on_epoch: Callable[[EpochResult], None],
    precision: Precision,
    execution: Execution,
) -> dict[str, Any]:
    """Train in a folder that is claimed; `facts` say what is trained, for `result.json`."""
    checkpoint = folder / _CHECKPOINT
    train = dataset.final_train
    run = _continued(task, train, checkpoint, device, precision, execution)
    try:
        while not run.finished:
            on_epoch(run.run_epoch())
            run.save(checkpoint)
            write_progress(folder, _progress(run))
    except TrainingDivergedError as error:
        raise UserError(f"training: {error}; lower learning_rate") from None
    unseen, part = dataset.unseen, "validation" if dataset.test is None else "test"
    result = {
        **_accuracies(run, unseen, part, dataset.class_names),
        f"{part}_images": len(unseen),
        "training_images": len(train),
        "weights": count_weights(task.architecture),
        "macs": count_macs(task.architecture, dataset.image_size),
        "memory": {
            kind: {
                "activations": activation_memory(task.architecture, dataset.image_size, kind == "int8"),
                "flash": flash_memory(task.architecture, kind == "int8"),
            }
            for kind in ("float32", "int8")
        },
        "seconds": _progress(run).seconds,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        **facts,
    }
    save_model(run, folder, dataset.class_names, dataset.image_size, parse_colour(task.data.background))
    write_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    write_card(folder)
    checkpoint.unlink(missing_ok=True)
    forget_progress(folder)
    return result


def _progress(run: Trainer) -> TrainingProgress:
    seconds = sum(epoch.seconds for epoch in run.history)
    return TrainingProgress(epoch=len(run.history), epochs=run.settings.epochs, seconds=round(seconds, 3))


def _accuracies(run: Trainer, unseen: ImageDataset, part: str, class_names: tuple[str, ...]) -> dict[str, Any]:
    """What `result.json` says of the accuracy, measured once.

    Classes of very different sizes make a high accuracy easy. So the share of the largest class, and the balanced
    accuracy, are there to compare with.
    """
    correct = run.evaluate_by_class(unseen)
    label, share = unseen.largest_class()
    return {
        f"{part}_accuracy": int(correct.sum()) / len(unseen),
        f"{part}_balanced_accuracy": balanced_accuracy(correct, unseen.labels),
        "largest_class": {"name": class_names[label], "share": share},
    }


def _continued(
    task: FinalTraining, train: ImageDataset, checkpoint: Path, device: str, precision: Precision, execution: Execution
) -> Trainer:
    """The training from its checkpoint on; from the beginning if there is no checkpoint, or a damaged one."""

    def fresh() -> Trainer:
        return Trainer(task.architecture, task.training, train, None, task.seed, device, precision, execution)

    run = fresh()
    if not checkpoint.exists():
        return run
    try:
        run.load(checkpoint)
    except DamagedCheckpointError:
        return fresh()
    return run


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """A context in which no other process trains in this folder, which is made if it is missing.

    Raises:
        UserError: another process trains there, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        with warnings.catch_warnings():  # On a disk without file locks filelock warns that it uses another kind.
            warnings.simplefilter("ignore")
            lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder}: another process is training here already; wait for it, or choose another folder with --output"
        ) from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another with --output") from None
    try:
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        lock.release()


def _claim(folder: Path, task: FinalTraining, dataset: Dataset) -> dict[str, Any]:
    """Make the folder this task's. Nothing is overwritten: a folder of another task, or of other images, is refused.

    The images may have moved, because they are compared by their digest.

    Returns:
        the task as the folder's files hold it.

    Raises:
        UserError: the folder holds a trained model or another training, or cannot be written.
    """
    # A process that was killed between model and result has left its checkpoint.
    if (folder / MODEL_FILE).exists() and ((folder / RESULT_FILE).exists() or not (folder / _CHECKPOINT).exists()):
        raise UserError(f"{folder}: holds a trained model already; choose another folder with --output")
    path = portable_path(task.data.path, folder)
    facts = replace(task, data=replace(task.data, path=path)).to_dict() | {DIGEST: dataset_digest(dataset)}
    if not (folder / _TASK).exists():
        write_yaml(folder / _TASK, facts)
        return facts
    before = read_yaml(folder / _TASK)
    if without_path(before) != without_path(json.loads(json.dumps(task.to_dict()))):
        raise UserError(f"{folder}: holds another, unfinished training; choose another folder with --output")
    if before.get(DIGEST, facts[DIGEST]) != facts[DIGEST]:  # Version 0.1.0 wrote no digest.
        problem = "the images are not those that the training here began with, or their classes have other names"
        raise UserError(f"{folder}: {problem}; restore them, or choose another folder with --output")
    for file in folder.glob(f".{_CHECKPOINT}.*"):  # Of a process that was killed while it wrote.
        file.unlink(missing_ok=True)
    return facts


def without_path(task: dict[str, Any]) -> dict[str, Any]:
    """What a training is, wherever its images are: a task as plain values, without their path and digest.

    Earlier versions do not have all settings. So data settings that are null are left out, and training settings that
    are missing are added with their defaults.
    """
    data, training = task.get("data"), task.get("training")
    kept = {key: value for key, value in task.items() if key != DIGEST}
    if isinstance(training, dict):
        kept["training"] = asdict(TrainingSettings()) | training
    if isinstance(data, dict):
        kept["data"] = {key: value for key, value in data.items() if key != "path" and value is not None}
    return kept


def selection(trial: CompletedTrial, run: str, data: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    """What `mgnas train` takes: the chosen network with its data, recipe and origin.

    Args:
        trial: the chosen one.
        run: path of the run that it comes from.
        data: the data settings.
        training: the recipe of the full training. The trial's own values replace those of searched settings, but not
            those of another optimizer.
    """
    candidate = trial.candidate
    searched = {name: getattr(candidate.training, name) for name in candidate.searched_training_settings}
    if "optimizer" not in searched and training["optimizer"] != candidate.training.optimizer:
        # What was found for one optimizer says nothing of another: their rates differ by a factor of 30.
        searched = {name: value for name, value in searched.items() if name not in _OF_THE_OPTIMIZER}
    return {
        "architecture": candidate.architecture.to_dict(),
        "training": training | searched,
        "data": data,
        "origin": {
            "run": run,
            "trial": trial.number,
            "validation_accuracy": round(trial.accuracy, 6),
            "weights": candidate.weights,
            "macs": candidate.macs,
        },
    }
