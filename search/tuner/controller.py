"""The controller of a search stands between the cluster's events and the strategy, the run and the display.

It does not know Ray.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgnas.errors import ConfigError, UserError

from ..storage.run_directory import RunDirectory
from ..storage.trial_queue import QueuedTrial
from ..strategy.strategy import Decision, Strategy
from ..trial_record import TrialRecord, TrialState
from .error_file import read_error_file
from .progress import SearchProgress
from .worker import TrialTask

logger = logging.getLogger(__name__)

FURTHER_TRIALS = 20
"""What this number of further trials would bring is shown."""
_GAIN_TIME = 0.01
"""Share of the search's time that this may take."""

RETRIES = 1
"""How often a trial may start again after its worker process has died without having finished another epoch."""


@dataclass
class RunningTrial:
    """A trial that was handed to a worker.

    Args:
        record: of the trial.
        started: time.monotonic() when its present worker began; None: no worker has it now.
        seconds_before: training time of the epochs that earlier workers finished.
        reason: why its last worker is gone.
        overdue: it has exceeded its time limit, and its worker is being ended.
        starts_again: its worker was lost before it could begin, and Tune does not retry.
    """

    record: TrialRecord
    started: float | None = None
    seconds_before: float = 0.0
    reason: str = ""
    overdue: bool = False
    starts_again: bool = False


class TrialController:
    """Decides what every event means for the search, and stores it.

    An event that cannot be stored stops the search: `stopped` then gives the reason, and no further trial is handed
    out.

    Args:
        run: stores the trials.
        strategy: proposes and judges them.
        progress: is kept up to date.
        entry: name of the data set in every node's cache; None: nodes find the data set by its settings.
        limit: gives the number of trials that may run at the same time now.
    """

    def __init__(
        self,
        run: RunDirectory,
        strategy: Strategy,
        progress: SearchProgress,
        entry: str | None = None,
        limit: Callable[[], int] = lambda: 1,
    ) -> None:
        self.run, self.strategy, self.progress = run, strategy, progress
        self.on_end: Callable[[TrialRecord], None] = lambda record: None
        """Called with each trial that has ended or is paused."""
        self.stopped: str | None = None
        self.pipe_closed = False
        """Whether the search was stopped because the reader of its output has gone."""
        self._entry, self._limit = entry, limit
        self._running: dict[str, RunningTrial] = {}
        self._restarts: Counter[int] = Counter()
        self._gain_seconds = 0.0

    @property
    def finished(self) -> bool:
        """Whether no trial will be handed out any more. A trial that is running may yet have to start again."""
        return self.stopped is not None or (self.strategy.finished and not self._running)

    def stop(self, reason: str) -> None:
        """End the search as soon as possible; it can be resumed when the reason is gone. The first reason stays."""
        self.stopped = self.stopped or reason

    def ask(self, key: str) -> dict[str, Any] | None:
        """Hand out the next trial.

        Args:
            key: by which the other methods will name the trial.

        Returns:
            its `task`, and its parameters and other properties as plain values for loggers; None: no trial now, see
            `finished`.
        """
        self.progress.workers = max(self._limit(), 1)
        if self.stopped is not None or self.strategy.finished or len(self._running) >= self.progress.workers:
            return None
        with self._storing():
            record, queued = self._next()
            if record is None:
                return None
            self.run.record_start(record)
            if queued is not None:
                self.run.queue.remove(queued, f"runs as trial {record.number}")
            self._running[key] = RunningTrial(record)
            properties = {"trial": record.number, "weights": record.weights, "seed": record.seed}
            return {**record.candidate.params, **properties, "task": self._task(record)}
        return None

    def _next(self) -> tuple[TrialRecord | None, QueuedTrial | None]:
        """The next trial, and its place in the study's queue, if it comes from there. Useless ones are taken out."""
        for queued in self.run.queue.waiting():
            try:
                record = self.strategy.ask_for(queued.params)
            except ConfigError as error:
                logger.warning("enqueued trial %d is ignored: %s", queued.number, error)
                self.run.queue.remove(queued, f"ignored: {error}")
                continue
            if record is None:
                break
            return record, queued
        return self.strategy.ask(), None

    def _task(self, record: TrialRecord) -> TrialTask:
        config, candidate = self.run.config, record.candidate
        return TrialTask(
            number=record.number,
            architecture=candidate.architecture,
            training=candidate.training,
            data=config.data,
            seed=record.seed,
            checkpoint=str(self.run.checkpoint(record.number)),
            epochs_done=len(record.curve),
            entry=self._entry,
            threads=config.resources.cpus_per_trial,
            gpus=config.resources.gpus,
            precision=config.resources.precision,
            execution=config.resources.execution,
            deterministic=config.resources.deterministic,
        )

    def started(self, key: str) -> None:
        """A worker begins with the trial, for the first time or again."""
        if key in self._running:
            trial = self._running[key]
            trial.started, trial.seconds_before = time.monotonic(), trial.record.seconds

    def result(self, key: str, result: dict[str, Any]) -> Decision:
        """A worker has finished an epoch, or cannot go on.

        Args:
            key: names the trial.
            result: of `TrialWorker.step`.
        """
        if key not in self._running:
            return Decision.STOP
        if result.get("stop") is not None:
            self.stop(result["stop"])
        if self.stopped is not None:
            return Decision.STOP
        record = self._running[key].record
        self._restarts.pop(record.number, None)
        with self._storing():
            if result.get("note"):
                record.decisions.append(f"epoch {len(result['curve'])}: {result['note']}")
            return self._decide(key, record, result)
        return Decision.STOP

    def _decide(self, key: str, record: TrialRecord, result: dict[str, Any]) -> Decision:
        if result["failure"] is not None:
            self.strategy.fail(record.number, result["failure"])
        else:
            record.balanced_accuracy = result.get("balanced_accuracy")
            decision = self.strategy.report(record.number, result["curve"], result["seconds"])
            if record.state is not TrialState.FAILED:
                self.run.record_epoch(record)
            if decision is Decision.PAUSE:
                self.run.record_pause(record)
                del self._running[key]
                self._show(record)
                return decision
            if decision is Decision.CONTINUE and not result["finished"]:
                return decision
            if result["finished"]:
                self.strategy.complete(record.number)
                self._ask_for_gain(record)
        self._end(key)
        return Decision.STOP

    def _ask_for_gain(self, record: TrialRecord) -> None:
        """For people who watch the search: what further trials would bring, if that takes a small part of the time."""
        if self.strategy.until is not None or self._gain_seconds > _GAIN_TIME * self.progress.elapsed:
            return
        before = time.monotonic()
        record.gain = self.strategy.expected_gain(FURTHER_TRIALS)
        self._gain_seconds += time.monotonic() - before

    def overdue(self) -> Iterator[str]:
        """The trials that have exceeded their time limit since the last call; the caller must end their workers.

        The time of a trial is the time since its worker started, plus the training time of the epochs that earlier
        workers finished.
        """
        limit = self.run.config.resources.time_limit
        if limit is None:
            return
        for key, trial in self._running.items():
            if trial.started is None or trial.overdue:
                continue
            record = trial.record
            if time.monotonic() - trial.started + trial.seconds_before > limit:
                trial.overdue = True
                done = f"{len(record.curve)} of {record.candidate.training.epochs} epochs done"
                trial.reason = f"over its time limit of {limit:g} s ({done})"
                yield key

    def worker_lost(self, key: str, error_file: str | Path | None, at_handover: bool = False) -> bool:
        """A worker is gone; whether its whole machine is, which is not the trial's fault.

        Args:
            key: names the trial.
            error_file: in which Ray noted why.
            at_handover: the worker had ended another trial and was just being given this one. Tune does not retry then,
                so `given_up` hands the trial out again.
        """
        trial = self._running.get(key)
        if trial is None or trial.overdue:
            return False
        trial.started = None
        trial.reason, machine_lost = read_error_file(error_file)
        if at_handover:
            trial.starts_again = machine_lost or self._restarts[trial.record.number] < RETRIES
            self._restarts[trial.record.number] += not machine_lost
        return machine_lost

    def given_up(self, key: str) -> None:
        """The worker is gone, and Tune does not start another."""
        trial = self._running.get(key)
        if trial is None or self.stopped is not None:
            return
        if trial.starts_again:
            self.strategy.interrupt(trial.record.number)
            del self._running[key]
            return
        if trial.record.state is TrialState.RUNNING:
            self.strategy.fail(trial.record.number, trial.reason or "the worker died")
        with self._storing():
            self._end(key)

    def _end(self, key: str) -> None:
        record = self._running[key].record
        record.finished = round(self.progress.elapsed, 3)
        self.run.record_end(record)
        del self._running[key]
        self._show(record)

    def _show(self, record: TrialRecord) -> None:
        """Tell the display. The search ends if its output cannot be written: nobody would see what happens."""
        try:
            self.on_end(record)
        except OSError as error:
            self.pipe_closed = isinstance(error, BrokenPipeError)
            self.stop(f"the output cannot be written ({error.strerror})")

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """A context in which an error of the storage stops the search."""
        try:
            yield
        except UserError as error:
            self.stop(str(error))
