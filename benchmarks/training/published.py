"""Trains the networks of the published table, in slices that continue each other, and compares the accuracies.

Each training uses all training images. It is measured on the test images once, at its end. --work contains one folder
for each row and seed, with a checkpoint and later the result. The table is made from all results in --work.

    python benchmarks/training/published.py --recipe published --seeds 1 --minutes 25 [--rows resnet18-cifar10 ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from published_table import markdown, table_rows

from mgnas import __version__
from mgnas.errors import UserError, first_line
from mgnas.files import write_text
from mgnas.search.data.dataset import DataSettings, data_shape, load_dataset
from mgnas.search.training.execution import Execution
from mgnas.search.training.precision import Precision
from mgnas.search.training.trainer import DamagedCheckpointError, Trainer, TrainingDivergedError
from mgnas.settings import build
from mgnas.space.candidate import TrainingSettings
from mgnas.space.published import PublishedModel, published_model

DEFAULT_ROWS = (
    "mgiad-lambda3-cifar10",
    "resnet18-cifar10",
    "mgiad-lambda1-cifar10",
    "mgnet-cifar10",
    "mgiad-g64-tinyimagenet",
    "resnet18-tinyimagenet",
    "mgiad-g8-tinyimagenet",
    "mgnet-tinyimagenet",
)
"""The rows to train by default, the most valuable first."""
_PLAIN = {"epochs": 400, "batch_size": 128, "learning_rate": 0.1, "weight_decay": 1e-4, "warmup_epochs": 0.0}
RECIPES: dict[str, dict[str, Any]] = {
    "mgnas": {
        "epochs": 200,
        "batch_size": 128,
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "label_smoothing": 0.1,
        "warmup_epochs": 1.0,
    },
    "published": _PLAIN | {"label_smoothing": 0.0, "gradient_clip": 0.0},
    "published-autoaugment": _PLAIN | {"label_smoothing": 0.0, "gradient_clip": 0.0, "augmentation": "autoaugment"},
}
"""Name -> settings, besides crops and flips, which all of them have.

`published` is the recipe of the published rows: SGD, cosine decay, crops and flips. The authors' later code adds
AutoAugment's policy for CIFAR-10, so it may stand behind the rows, too.
"""
_OPTIONS = ("epochs", "batch_size", "learning_rate", "weight_decay", "label_smoothing", "warmup_epochs")
_CHECKPOINT, _PROGRESS, _RESULT = "checkpoint.pt", "progress.json", "result.json"


@dataclass(frozen=True)
class Task:
    """One training: a row of the table with its recipe, the name of the recipe, data and seed."""

    row: PublishedModel
    training: TrainingSettings
    recipe: str
    data: DataSettings
    seed: int

    @classmethod
    def of(cls, row: PublishedModel, options: argparse.Namespace, seed: int) -> Task:
        path = getattr(options, f"data_{row.dataset}")
        mapping = {"name": row.dataset, "path": path, "train_images": options.train_images}
        data = build(DataSettings, mapping | {"image_size": options.image_size}, "data")
        given = {name: getattr(options, name) for name in _OPTIONS}
        recipe = RECIPES[options.recipe] | {name: value for name, value in given.items() if value is not None}
        # 4 of CIFAR-10's 32 pixels, 8 of Tiny ImageNet's 64, and the same share of reduced images.
        recipe |= {"crop_padding": data_shape(data)[2] // 8, "flip": True}
        return cls(row, build(TrainingSettings, recipe, "training"), options.recipe, data, seed)

    @property
    def name(self) -> str:
        return f"{self.row.name}{self._recipe(' ')} seed {self.seed}"

    def folder(self, work: Path) -> Path:
        return work / f"{self.row.name}{self._recipe('-')}-seed{self.seed}"

    def _recipe(self, mark: str) -> str:
        return "" if self.recipe == "mgnas" else f"{mark}{self.recipe}"

    def settings(self) -> dict[str, Any]:
        """Everything but the seed that determines the accuracy, as plain values, without the path of the images."""
        return {
            "image_size": data_shape(self.data)[2],
            "train_images": self.data.train_images,
            **asdict(self.training),
            "architecture": self.row.config.to_dict(),
        }


def check_settings(task: Task, folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The stored state of this training; None if it has not begun.

    Raises:
        UserError: the training was begun with other settings.
    """
    stored = read_state(folder)
    if stored is None:
        return None
    begun = stored["settings"]
    for name, value in json.loads(json.dumps(settings)).items():
        if begun.get(name) != value:
            change = "another architecture" if name == "architecture" else f"{name} {begun.get(name)}, not {value}"
            raise UserError(f"{task.name}: was begun with {change}; give the same settings or another --work")
    return stored


def read_state(folder: Path) -> dict[str, Any] | None:
    """The result in this folder if there is one, else the progress, else None."""
    for name in (_RESULT, _PROGRESS):
        path = folder / name
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError):
            raise UserError(f"{path}: cannot be read; remove its folder to begin that training anew") from None
        if not isinstance(state, dict) or not {"row", "seed", "epoch", "settings"} <= state.keys():
            raise UserError(f"{path}: not written by this command; remove it")
        # Settings that a later version has added are off by default, as they were before.
        state["settings"] = asdict(TrainingSettings()) | state["settings"]
        return state
    return None


def train(
    task: Task,
    folder: Path,
    device: str,
    deadline: float,
    precision: Precision = "auto",
    execution: Execution = "auto",
) -> bool:
    """Train to the end, or to the end of the epoch in which the deadline passes, but at least for one epoch.

    Args:
        task: the training.
        folder: the folder of its checkpoint and result.
        device: the device to train on.
        deadline: a time of time.monotonic.
        precision: the type in which convolutions compute.
        execution: how training steps are executed.

    Returns:
        Whether the training has ended.

    Raises:
        UserError: the images or the checkpoint cannot be used, or differ from those that the training began with.
    """
    dataset = load_dataset(task.data)
    if dataset.test is None:
        raise UserError(
            f"{task.data.path or task.data.name}: holds no test images; the table compares accuracies on them"
        )
    images = dataset.train + dataset.validation
    settings = task.settings() | {"training_images": len(images), "test_images": len(dataset.test)}
    stored = check_settings(task, folder, settings) or {}
    trainer = Trainer(task.row.config, task.training, images, None, task.seed, device, precision, execution)
    if (folder / _CHECKPOINT).exists():
        try:
            trainer.load(folder / _CHECKPOINT)
        except DamagedCheckpointError as error:
            raise UserError(f"{error}; remove its folder to begin that training anew") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); choose another --work") from None
    here = environment(device, precision)
    earlier = [other for other in stored.get("environments", []) if other != here]
    state = {"row": task.row.name, "seed": task.seed, "settings": settings, "environments": [*earlier, here]}

    def write(name: str, **more: Any) -> None:
        progress = {"epoch": len(trainer.history), "seconds": round(sum(epoch.seconds for epoch in trainer.history), 3)}
        write_text(folder / name, json.dumps(state | progress | more, indent=2) + "\n")

    # Written before the first checkpoint, so that every checkpoint has its settings beside it.
    write(_PROGRESS)
    try:
        while not trainer.finished:
            epoch = trainer.run_epoch()
            trainer.save(folder / _CHECKPOINT)
            write(_PROGRESS)
            print(f"{task.name}: epoch {epoch.epoch} of {task.training.epochs}, loss {epoch.loss:.4f}", flush=True)
            if time.monotonic() >= deadline and not trainer.finished:
                return False
        accuracy = trainer.evaluate(dataset.test)
        print(f"{task.name}: {100 * accuracy:.2f} % on {len(dataset.test):,} test images", flush=True)
        write(_RESULT, test_accuracy=accuracy)
    except TrainingDivergedError as error:
        print(f"{task.name}: {error}", flush=True)
        write(_RESULT, test_accuracy=None, failure=str(error))
    for name in (_CHECKPOINT, _PROGRESS):
        (folder / name).unlink(missing_ok=True)
    return True


def environment(device: str, precision: Precision = "auto") -> dict[str, str]:
    """Hardware, with a precision that was asked for, and versions, in words."""
    if device == "cuda":
        hardware = f"{torch.cuda.get_device_name()}, {os.cpu_count()} CPU cores"
    else:
        hardware = f"{_cpu_model()}, {os.cpu_count()} cores, threads: {torch.get_num_threads()}"
    if precision != "auto":
        hardware += f", {precision}"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, mgnas {__version__}"
    return {"hardware": hardware, "versions": versions}


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def table(work: Path) -> list[dict[str, Any]]:
    """The rows of the table, from all results in the work folder (see `table_rows`)."""
    states = (read_state(folder) for folder in sorted(work.glob("*-seed*")))
    return table_rows([state for state in states if state is not None], DEFAULT_ROWS)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    parser.add_argument("--rows", nargs="+", metavar="NAME", default=DEFAULT_ROWS, help="presets, in this order")
    parser.add_argument("--recipe", choices=RECIPES, default="mgnas", help="the options below change it")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=_at_least(int, 1), default=1, metavar="N", help="train from seeds 0 to N - 1")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--label-smoothing", type=float)
    parser.add_argument("--warmup-epochs", type=float)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--precision", choices=get_args(Precision), default="auto", help="in which convolutions compute"
    )
    parser.add_argument("--execution", choices=get_args(Execution), default="auto", help="how steps are executed")
    for name in ("cifar10", "cifar100", "tinyimagenet"):
        parser.add_argument(f"--data-{name}", metavar="PATH", help="an npz file or folder; default: downloaded")
    parser.add_argument("--image-size", type=int, help="pixels per side to which images are averaged")
    parser.add_argument("--train-images", type=int, help="number of training images to use; default: all")
    parser.add_argument("--minutes", type=_at_least(float, 0), metavar="N", help="stop after the epoch they end in")
    parser.add_argument("--work", type=Path, default=Path("runs/published"), metavar="DIR")
    parser.add_argument("--results", type=Path, default=Path(__file__).parents[1] / "results", metavar="DIR")
    return parser.parse_args(arguments)


def _at_least(kind: type, minimum: float):
    def convert(text: str) -> float:
        if not (value := kind(text)) >= minimum:
            raise argparse.ArgumentTypeError(f"should be at least {minimum}, got {text}")
        return value

    return convert


def write_results(work: Path, results: Path) -> None:
    """Write the table of all results in the work folder, as published.json and published.md."""
    rows = table(work)
    try:
        results.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{results}: cannot be written ({error.strerror}); choose another --results") from None
    write_text(results / "published.json", json.dumps(rows, indent=2) + "\n")
    write_text(results / "published.md", markdown(rows))


def run_slice(options: argparse.Namespace) -> list[Task]:
    """Train for --minutes, and keep the table up to date.

    Returns:
        The unfinished trainings.

    Raises:
        UserError: options are wrong, or a training in the work folder was begun with others. Nothing is trained then.
    """
    deadline = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
    if options.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: cuda is not available here; use cpu or auto")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    rows = [published_model(name) for name in dict.fromkeys(options.rows)]
    unfinished = [Task.of(row, options, seed) for row in rows for seed in range(options.seeds)]
    states = [check_settings(task, task.folder(options.work), task.settings()) for task in unfinished]
    unfinished = [
        task for task, state in zip(unfinished, states, strict=True) if state is None or "test_accuracy" not in state
    ]
    write_results(options.work, options.results)
    try:
        how = (device, deadline, options.precision, options.execution)
        while unfinished and train(unfinished[0], unfinished[0].folder(options.work), *how):
            del unfinished[0]
            write_results(options.work, options.results)
            if time.monotonic() >= deadline:
                break
    finally:
        write_results(options.work, options.results)
    return unfinished


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        unfinished = run_slice(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"table: {options.results / 'published.md'}")
    if unfinished:
        given = sys.argv[1:] if arguments is None else arguments
        for task in unfinished:
            state = read_state(task.folder(options.work))
            print(f"left: {task.name}, epoch {state['epoch'] if state else 0} of {task.training.epochs}")
        print(f"continue: python benchmarks/training/published.py {shlex.join(given)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
