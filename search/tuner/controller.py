"""Passes on between the events of a cluster, the strategy, the study and the display. Knows no Ray."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mgnas.errors import UserError

from ..storage.run_directory import RunDirectory
from ..strategy.strategy import Decision, Strategy
from ..trial_record import TrialRecord, TrialState
from .worker import TrialTask

RETRIES = 1
"""How often a trial whose process has died may begin again without having come further in between."""

# How Ray puts it that a whole machine is gone, in all its versions of the sentence; that is not the trial's fault.
_NODE_LOST = ("node has died", "node died", "node was", "node is dead", "preempt")


@dataclass
class SearchProgress:
    """A running search as a display needs it; updated in place.

    Args:
        trials: how many there are to be.
        records: of all trials so far.
        workers: trials at the same time.
        before: seconds of searching before this session.
        started: time.monotonic() when this session began.
    """

    trials: int
    records: list[TrialRecord]
    workers: int
    before: float
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds of searching, interruptions left out."""
        return self.before + time.monotonic() - self.started

    def count(self, state: TrialState) -> int:
        return sum(record.state is state for record in self.records)

    @property
    def seconds_left(self) -> float | None:
        """Expected from the mean duration of the trials so far; None while none is complete."""
        durations = [record.seconds for record in self.records if record.state is TrialState.COMPLETE]
        if not durations:
            return None
        mean = sum(durations) / len(durations)
        running = [record for record in self.records if record.state is TrialState.RUNNING]
        work = (self.trials - len(self.records)) * mean + sum(max(mean - record.seconds, 0) for record in running)
        return work / self.workers


@dataclass
class RunningTrial:
    """A trial that a worker has."""

    record: TrialRecord
    started: float | None = None
    before: float = 0.0
    reason: str = ""
    overdue: bool = False
    begins_again: bool = False


class TrialController:
    """Decides what every event means for the search, and stores it.

    What cannot be stored stops the search: `stopped` then says why, and nothing is handed out any more.

    Args:
        run: where everything is stored.
        strategy: decides.
        progress: kept up to date.
        entry: name of the data set in every node's cache, if nodes cannot find it by themselves.
        limit: how many trials may run at the same time now.
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
        self.events: Callable[[TrialRecord], None] = lambda record: None
        self.stopped: str | None = None
        self._entry, self._limit = entry, limit
        self._handed: dict[str, RunningTrial] = {}
        self._restarts: Counter[int] = Counter()

    @property
    def finished(self) -> bool:
        """Whether nothing will be handed out any more. A trial that is running may yet have to begin again."""
        return self.stopped is not None or (self.strategy.finished and not self._handed)

    def stop(self, reason: str) -> None:
        """End the search as soon as possible; it can go on when the reason is gone."""
        self.stopped = self.stopped or reason

    def ask(self, key: str) -> dict[str, Any] | None:
        """What the next trial is, as plain values for loggers and with its task; None: none now, see `finished`.

        Args:
            key: by which the other methods will call it.
        """
        self.progress.workers = max(self._limit(), 1)
        if self.stopped is not None or self.strategy.finished or len(self._handed) >= self.progress.workers:
            return None
        with self._storing():
            record = self.strategy.ask()
            if record is None:
                return None
            self.run.study.start(record)
            self.run.journal.start(record)
            self._handed[key] = RunningTrial(record)
            candidate = record.candidate
            known = {"trial": record.number, "weights": candidate.weights, "seed": record.seed}
            return {**candidate.params, **known, "task": self._task(record)}
        return None

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
            gpu=config.resources.gpus_per_trial > 0,
            precision=config.resources.precision,
            execution=config.resources.execution,
            deterministic=config.resources.deterministic,
        )

    def started(self, key: str) -> None:
        """A worker begins with the trial, for the first time or again."""
        if key in self._handed:
            handed = self._handed[key]
            handed.started, handed.before = time.monotonic(), handed.record.seconds

    def result(self, key: str, result: dict[str, Any]) -> Decision:
        """A worker has finished an epoch, or cannot go on."""
        if key not in self._handed:
            return Decision.STOP
        if result.get("stop") is not None:
            self.stop(result["stop"])
        if self.stopped is not None:
            return Decision.STOP
        record = self._handed[key].record
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
            decision = self.strategy.report(record.number, result["curve"], result["seconds"])
            if record.state is not TrialState.FAILED:
                self.run.study.epoch(record)
            if decision is Decision.PAUSE:
                self.run.study.pause(record)
                self.run.journal.end(record)
                del self._handed[key]
                self.events(record)
                return decision
            if decision is Decision.CONTINUE and not result["finished"]:
                return decision
            if result["finished"]:
                self.strategy.complete(record.number)
        self._end(key)
        return Decision.STOP

    def overdue(self) -> Iterator[str]:
        """The trials that have taken longer than they may and have not been named before; their workers must be ended.

        Time counts from the worker's start, and what earlier workers took for the epochs that are kept is added.
        """
        limit = self.run.config.resources.time_limit
        if limit is None:
            return
        for key, handed in self._handed.items():
            if handed.started is None or handed.overdue:
                continue
            record = handed.record
            if time.monotonic() - handed.started + handed.before > limit:
                handed.overdue = True
                done = f"{len(record.curve)} of {record.candidate.training.epochs} epochs done"
                handed.reason = f"over its time limit of {limit:g} s ({done})"
                yield key

    def worker_lost(self, key: str, file: Path, at_handover: bool = False) -> bool:
        """Ray has written down why a worker is gone; whether it was its machine, which the trial cannot help.

        Args:
            key: names the trial.
            file: what Ray has written.
            at_handover: the worker had ended another trial and was just being given this one. Tune does not retry then,
                so `given_up` sees to it.
        """
        last = file.read_text(errors="replace").split("Failure #")[-1].strip().splitlines()[1:]
        # An exception out of the worker's code says what happened in its last line, Ray's own message in its first.
        line = last[-1 if "ray::" in last[0] else 0] if last else "no reason known"
        handed = self._handed.get(key)
        if handed is None or handed.overdue:
            return False
        handed.started = None
        handed.reason = f"the worker died: {line.strip()}"[:300]
        machine_lost = any(sign in " ".join(last).lower() for sign in _NODE_LOST)
        if at_handover:
            handed.begins_again = machine_lost or self._restarts[handed.record.number] < RETRIES
            self._restarts[handed.record.number] += not machine_lost
        return machine_lost

    def given_up(self, key: str) -> None:
        """The worker is gone, and Tune does not start another."""
        handed = self._handed.get(key)
        if handed is None or self.stopped is not None:
            return
        if handed.begins_again:
            self.strategy.interrupt(handed.record.number)
            del self._handed[key]
            return
        if handed.record.state is TrialState.RUNNING:
            self.strategy.fail(handed.record.number, handed.reason or "the worker died")
        with self._storing():
            self._end(key)

    def _end(self, key: str) -> None:
        record = self._handed[key].record
        record.finished = round(self.progress.elapsed, 3)
        self.run.study.end(record)
        self.run.journal.end(record)
        self.run.elapsed = self.progress.elapsed
        self.run.forget_checkpoint(record.number)
        del self._handed[key]
        self.events(record)

    @contextmanager
    def _storing(self) -> Iterator[None]:
        """What cannot be stored stops the search."""
        try:
            yield
        except UserError as error:
            self.stop(str(error))
