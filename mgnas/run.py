"""A search and its results, for Python programs and notebooks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mgnas.reports.analysis.constraints import Constraints
from mgnas.reports.analysis.front_confidence import FrontConfidence, front_confidence
from mgnas.reports.analysis.int8 import Int8Choice, int8_networks, select_int8
from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.analysis.select import Choice, Preference, select
from mgnas.reports.analysis.trial_table import trial_table
from mgnas.reports.deploy.export import require_onnx
from mgnas.reports.deploy.latency.device import device_latencies
from mgnas.reports.deploy.latency.meter import LatencyMeter
from mgnas.reports.deploy.retraining import Outcome, Retrained, Unfinished, load_retrained, load_unfinished, retrain
from mgnas.reports.deploy.verified_export import quantise_retrained
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import load_dataset
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import CompletedTrial, TrialRecord, TrialState, completed_trials

from .errors import ConfigError, UserError
from .launch import is_finished, resumed_run, search_to_the_end, undisturbed
from .progress import PlainDisplay, RetrainingLines

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


class Run:
    """A search and what it has found so far.

    `run_search` and `open_run` return one. Its results are read from the run directory whenever they are asked for, so
    they also show what another process has added meanwhile.

    Args:
        directory: where everything about the search is stored.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory

    def __repr__(self) -> str:
        trials = self.trials
        n_complete = sum(trial.state is TrialState.COMPLETE for trial in trials)
        n_wanted = self.config.search.trials
        return (
            f"<Run {self.path}: {n_complete} of {n_wanted} trials complete, {len(pareto_front(trials))} on the front>"
        )

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._directory.path

    @property
    def config(self) -> SearchConfig:
        """The search, complete with defaults."""
        return self._directory.config

    @property
    def elapsed(self) -> float:
        """Seconds of searching, interruptions left out."""
        return self._directory.elapsed

    @property
    def largest_class(self) -> tuple[str, float] | None:
        """Name of the class with the most validation images, and its share; None if no search of this run knows it.

        The share is the accuracy of a network that always gives that class.
        """
        return self._directory.largest_class

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials by their numbers: running, paused, complete and failed ones."""
        return self._directory.load()

    @property
    def front(self) -> list[CompletedTrial]:
        """The completed trials that no other beats in accuracy and weights at once, by ascending weights.

        Each has `architecture`, `weights`, `macs`, `accuracy` and `curve`; accuracies are on validation images.
        """
        return pareto_front(self.trials)

    @property
    def retrained(self) -> list[Retrained]:
        """What `retrain` has found, by the trials' numbers.

        Raises:
            UserError: a damaged file.
        """
        return load_retrained(self._directory)

    @property
    def unfinished(self) -> list[Unfinished]:
        """The trainings that `retrain` has begun and not ended, by the trials' numbers, and how far each is.

        Raises:
            UserError: a damaged file.
        """
        return load_unfinished(self._directory)

    def front_confidence(self) -> FrontConfidence | None:
        """How sure the front is, by samples of what the model holds possible; None if too few trials are complete.

        `expected` has for each complete trial's number the probability `on_front`, and the `accuracy` expected of
        another training; `within(weights)` is the interval of the best accuracy within a budget.
        """
        try:
            return front_confidence(completed_trials(self.trials), self._directory.validation_images)
        except UserError:
            return None

    def doubtful(self, count: int = 3) -> list[CompletedTrial]:
        """The trials whose retraining decides most about which networks belong to the front; for `retrain`.

        Args:
            count: of trials, at most; fewer if the front is sure without more.

        Raises:
            UserError: too few trials are complete.
        """
        trials = completed_trials(self.trials)
        return front_confidence(trials, self._directory.validation_images, "doubtful").doubtful(trials, count)

    def to_dataframe(self) -> pd.DataFrame:
        """All trials as a pandas table, one row each, with a column for each searched setting.

        `accuracy` and `balanced_accuracy` are NaN unless the trial is complete. `seconds` is the training time, and
        `finished` is counted in seconds from the beginning of the search. Searched settings that do not belong to the
        network's family have their default.
        """
        return trial_table(self.trials, self._directory.space.parameters)

    def resume(
        self,
        *,
        trials: int | None = None,
        until: float | str | Mapping[str, Any] | None = None,
        workers: int | None = None,
        time_limit: float | None = None,
        gpus_per_trial: float | Literal["auto"] | None = None,
        address: str | None = None,
        storage: str | os.PathLike[str] | None = None,
        study: str | None = None,
        progress: bool = False,
    ) -> None:
        """Continue the search after an interruption or a crash, or for more trials.

        Nothing happens if the run has all its trials already. A search on GPUs continues on CPUs, or the reverse,
        only if `gpus_per_trial` forces it.

        Args:
            trials: candidates to train in all; default: the run's.
            until: as for `run_search`; "none" goes on with a search that has found enough.
            workers: trials at the same time, at most.
            time_limit: seconds that a trial may take.
            gpus_per_trial: GPUs of a trial, in place of the run's: a number, or `auto`.
            address: Ray cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; default: Ray is started on this machine.
            storage: folder or address that all nodes reach, for checkpoints.
            study: address of a database server with the study, in place of the one that the run knows.
            progress: print a line for each trial that ends.

        Raises:
            UserError: another process searches there, the run cannot be continued, or a value cannot be used.
            SearchStoppedError: something cannot be stored; the search can continue when that has been mended.
            KeyboardInterrupt: Ctrl-C; the run can be resumed.
        """
        changes = {
            "trials": trials,
            "until": until,
            "workers": workers,
            "time_limit": time_limit,
            "gpus_per_trial": gpus_per_trial,
            "storage": storage,
        }
        with undisturbed(), resumed_run(self.path, study=study, **changes) as self._directory:
            if is_finished(self._directory):
                self._directory.store_config()
                return
            self._directory.check_data(load_dataset(self.config.data))
            search_to_the_end(self._directory, PlainDisplay if progress else None, address)

    def report(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        latency_seconds: float = 8.0,
        latency: Sequence[str | os.PathLike[str]] = (),
    ) -> Path:
        """Write the front as an HTML page, figures and tables.

        Args:
            folder: where to; default: `report/` in the run directory.
            latency_seconds: how long to measure latencies that are not known yet.
            latency: files that measure.py has written on other devices. The run keeps them.

        Returns:
            the page.

        Raises:
            UserError: the folder cannot be written, or a file of the run is damaged.
        """
        from mgnas.reports.report import write_report

        files = [Path(file) for file in latency]
        return write_report(self._directory, None if folder is None else Path(folder), latency_seconds, files)

    def select(
        self,
        *,
        max_weights: int | str | None = None,
        max_macs: int | str | None = None,
        max_memory: int | str | None = None,
        max_memory_int8: int | str | None = None,
        min_accuracy: float | None = None,
        max_size: int | str | None = None,
        max_latency: float | None = None,
        max_latency_32: float | None = None,
        device: str | None = None,
        prefer: Preference = "knee",
    ) -> Choice:
        """Choose one of the completed trials.

        Args:
            max_weights: largest number of weights, such as 20000 or "20k".
            max_macs: largest number of multiply-accumulates per image, such as "5M".
            max_memory, max_memory_int8: peak bytes of the activations for one image in float32 and int8, such as
                "256kB".
            min_accuracy: smallest validation accuracy, as a fraction.
            max_size: largest number of bytes when exported as float32, such as "100kB".
            max_latency: milliseconds for 1 image, measured on one CPU thread of this machine and kept in the run.
            max_latency_32: milliseconds for 32 images.
            device: where latencies are limited, in place of this machine; `report(latency=...)` has read them. Networks
                that were not measured there are predicted.
            prefer: `knee`: where more weights stop paying. `accuracy`: the most accurate. `weights`: the lightest.
                `expected`: the best to expect of another training, with the luck of this one left out.

        Returns:
            the choice: `record` is the trial, `why` the reason in words, `neighbours()` what the next lighter and the
            next heavier network of the front would cost or give.

        Raises:
            UserError: no trial is complete, or none keeps the limits.
        """
        if prefer not in get_args(Preference):
            raise UserError(f"prefer: expected one of {', '.join(get_args(Preference))}, got {prefer!r}")
        constraints = Constraints.parse(
            max_weights=max_weights,
            max_macs=max_macs,
            max_memory=max_memory,
            max_memory_int8=max_memory_int8,
            min_accuracy=min_accuracy,
            max_size=max_size,
            max_latency=max_latency,
            max_latency_32=max_latency_32,
        )
        meter = self.latency_meter(device)
        return select(self.trials, constraints, prefer, meter, self._directory.validation_images)

    def latency_meter(self, device: str | None = None) -> LatencyMeter:
        """Latencies and sizes of networks: on this machine, where they are measured, or on a device.

        Raises:
            UserError: the run has no latencies of that device, or a file is damaged.
        """
        if device is None:
            return LatencyMeter(self.path / "latency.json")
        return device_latencies(self.path, device, [record.candidate for record in self.trials])

    def select_int8(
        self,
        *,
        max_weights: int | str | None = None,
        max_macs: int | str | None = None,
        max_memory: int | str | None = None,
        max_memory_int8: int | str | None = None,
        min_accuracy: float | None = None,
        max_size: int | str | None = None,
        max_latency: float | None = None,
        max_latency_32: float | None = None,
        device: str | None = None,
        prefer: Preference = "knee",
    ) -> Int8Choice:
        """Choose one of the retrained networks that were quantised, by int8 accuracy and int8 size.

        Accuracies are on the test images, or on the validation images if there are no test images.

        Args:
            max_weights, max_macs, max_memory, max_memory_int8: as for `select`.
            min_accuracy: smallest accuracy of the int8 network, as a fraction.
            max_size: largest number of bytes of the int8 network, such as "100k".
            max_latency, max_latency_32, device: as for `select`, but of the int8 network.
            prefer: `knee`: where more bytes stop paying. `accuracy`: the most accurate. `weights`: the smallest.

        Returns:
            the choice: `network` has `trial`, `accuracy`, `size` and the `folder` with the file; `why` the reason.

        Raises:
            UserError: no network was quantised, or none keeps the limits.
        """
        constraints = Constraints.parse(
            max_weights=max_weights,
            max_macs=max_macs,
            max_memory=max_memory,
            max_memory_int8=max_memory_int8,
            min_accuracy=min_accuracy,
            max_size=max_size,
            max_latency=max_latency,
            max_latency_32=max_latency_32,
        )
        networks = int8_networks(completed_trials(self.trials), {full.trial: full for full in self.retrained})
        if not networks:
            remedy = f"`mgnas retrain {self.path} --front --int8` trains and quantises those of the front"
            raise UserError(f"{self.path}: no int8 network is measured; {remedy}")
        return select_int8(networks, constraints, prefer, self.latency_meter(device))

    def retrain(
        self,
        networks: Choice | CompletedTrial | Iterable[Choice | CompletedTrial],
        *,
        seeds: int = 3,
        epochs: int | None = None,
        address: str | None = None,
        gpus_per_trial: float | Literal["auto"] | None = None,
        workers: int | None = None,
        precision: str | None = None,
        execution: str | None = None,
        int8: bool = False,
        progress: bool | Callable[[Outcome], None] = False,
        on_epoch: Callable[[Unfinished], None] | None = None,
    ) -> list[Retrained]:
        """Train chosen networks fully, each with several seeds, on all training images.

        Each training is measured once on the test images. A training that is finished is not repeated, so the same
        call continues what was interrupted.

        Args:
            networks: what `select` returned, a trial of `front`, or several of these.
            seeds: trainings of each network.
            epochs: of each training; default: those of the run's `final_training`.
            address: Ray cluster; default: Ray is started on this machine.
            gpus_per_trial: GPUs of a training: a number, or `auto`; default: the run's, or `auto` if there are not that
                many.
            workers: trainings at the same time, at most; default: the run's, or as many as the machine has room for.
            precision: the type in which convolutions compute; default: the run's.
            execution: how training steps are executed; default: the run's.
            int8: export each trained network as ONNX, too, quantise it, and measure it, as `select_int8` needs it.
            progress: print a line for each training that ends, and how far long ones are; or a function that is called
                with the outcome of each training, which has `record`, `seed`, `accuracy` and `reason`.
            on_epoch: called with each training that has finished an epoch and has not ended: it has `trial`, `seed` and
                `progress`, and the latter `epoch`, `epochs` and `seconds_left`.

        Returns:
            one entry for each network, by the trials' numbers: `mean` and `accuracies` on the test images, and
            `folder`, in which `seed-0`, `seed-1`, ... hold the models for `load` and `export`. A training that
            failed is missing; `progress` tells why, and the same call tries it again.

        Raises:
            UserError: no network was given, a folder holds another training, or every training failed.
        """
        chosen = [networks] if isinstance(networks, Choice | CompletedTrial) else list(networks)
        trials = [network.record if isinstance(network, Choice) else network for network in chosen]
        if not trials:
            raise UserError("retrain: no network was given; `front` is empty until a trial is complete")
        if not isinstance(seeds, int) or seeds < 1:
            raise ConfigError("seeds", f"expected a whole number from 1, got {seeds!r}")
        load_dataset(self.config.data)
        if int8:
            require_onnx()
        on_end = progress if callable(progress) else _log_failure
        if progress is True:
            lines = RetrainingLines(len(trials), seeds)
            on_end, on_epoch = lines.show, on_epoch or lines.show_progress
        with undisturbed():
            results = retrain(
                self._directory,
                trials,
                seeds,
                epochs=epochs,
                address=address,
                gpus_per_trial=gpus_per_trial,
                workers=workers,
                precision=precision,
                execution=execution,
                on_end=on_end,
                on_epoch=on_epoch or (lambda unfinished: None),
            )
        numbers = {trial.number for trial in trials}
        finished = [retrained for retrained in results if retrained.trial in numbers]
        for retrained in finished if int8 else ():
            quantise_retrained(retrained)
        return finished


def _log_failure(outcome: Outcome) -> None:
    if outcome.accuracy is None:
        logger.warning("trial %d, seed %d failed: %s", outcome.record.number, outcome.seed, outcome.reason)
