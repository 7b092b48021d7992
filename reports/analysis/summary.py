"""What a search took and what became of its trials, in numbers and words."""

from __future__ import annotations

from dataclasses import dataclass

from mgnas.errors import UserError

from ...search.data.dataset import DataSettings, load_dataset
from ...search.trial_record import TrialRecord, TrialState
from .run_data import RunData

# Training images of the data sets that have a name, so that a report never downloads one.
_TRAINING_IMAGES = {
    "digits": 1_437,
    "cifar10": 50_000,
    "cifar100": 50_000,
    "fashion_mnist": 60_000,
    "tinyimagenet": 100_000,
}


@dataclass(frozen=True)
class ComputeCost:
    """What a search took.

    Args:
        epochs: trained in all trials.
        wasted_epochs: of these, in trials that failed or are paused.
        device_hours: training time summed over all trials, times the CPU cores, or GPUs, of a trial.
        device: what `device_hours` counts.
        images_per_second: that a trial trains on, evaluation included in the time; None if nothing was timed, or the
            number of images is not known.
    """

    epochs: int
    wasted_epochs: int
    device_hours: float
    device: str
    images_per_second: float | None


def compute_cost(run: RunData) -> ComputeCost:
    """What the search took: time, and what its energy can be estimated from."""
    resources = run.config.resources
    epochs = sum(len(record.curve) for record in run.records)
    unfinished = [r for r in run.records if r.state in (TrialState.FAILED, TrialState.PAUSED)]
    seconds = sum(record.seconds for record in run.records)
    on_gpu = resources.gpus > 0
    images = training_images(run.config.data)
    timed = sum(len(record.curve) for record in run.records if record.seconds > 0)
    return ComputeCost(
        epochs,
        sum(len(record.curve) for record in unfinished),
        seconds / 3600 * (resources.gpus if on_gpu else resources.cpus_per_trial),
        "GPU" if on_gpu else "CPU core",
        timed * images / seconds if images and seconds > 0 else None,
    )


def training_images(data: DataSettings) -> int | None:
    """Images of one epoch of a trial; None if the data set cannot be read here."""
    if data.name in _TRAINING_IMAGES:
        total = _TRAINING_IMAGES[data.name]
        kept = total if data.train_images is None else min(data.train_images, total)
        return kept - round(data.validation_fraction * kept)
    try:
        return len(load_dataset(data).train)
    except UserError:  # The images have moved; the report is still worth having.
        return None


def states_in_words(records: list[TrialRecord]) -> str:
    """`60 trials, 57 complete, 2 failed, 1 running`."""
    counts = {state: sum(record.state is state for record in records) for state in TrialState}
    shown = [f"{count} {state}" for state, count in counts.items() if count and state is not TrialState.COMPLETE]
    return ", ".join([f"{len(records)} trials", f"{counts[TrialState.COMPLETE]} complete", *reversed(shown)])


def ever_paused(records: list[TrialRecord]) -> list[TrialRecord]:
    """Trials that were paused at least once, now or before."""
    return [record for record in records if record.decisions]


def failed(records: list[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.state is TrialState.FAILED]
