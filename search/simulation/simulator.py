"""Replays of searches on a table of trained architectures: the strategy of real searches on simulated workers.

Nothing is trained. A worker that is handed a trial spends the time that the table's training took. The strategy sees
the table's curves, epoch by epoch, in the order in which parallel workers would have reported. Neither the strategy nor
its sampler can tell a replay from a search.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..history.table import TableRow, TabularBenchmark
from ..strategy.strategy import Decision
from ..trial_record import TrialRecord, TrialState


class Search(Protocol):
    """What can be replayed: a Strategy, or another tool with the same three methods."""

    def ask(self) -> TrialRecord | None: ...

    def report(self, number: int, curve: Sequence[float], seconds: float = 0.0) -> Decision: ...

    def complete(self, number: int) -> None: ...


@dataclass(frozen=True)
class Completion:
    """A trial has run all its epochs.

    Args:
        seconds: simulated time.
        epochs: trained so far in the whole search, this trial's last one included.
        number: of the trial.
        architecture: its id.
    """

    seconds: float
    epochs: int
    number: int
    architecture: str


@dataclass(frozen=True)
class Replay:
    """What a simulated search did.

    Args:
        completions: in the order in which they happened.
        epochs: trained in all, those of unfinished trials included.
        seconds: simulated time from the start to the last epoch.
        trials: number of trials that were started.
        pauses: number of times that a trial was paused.
        paused: number of trials that were paused at the end.
    """

    completions: tuple[Completion, ...]
    epochs: int
    seconds: float
    trials: int
    pauses: int
    paused: int


def simulate(
    table: TabularBenchmark,
    strategy: Search,
    workers: int = 1,
    seed: int = 0,
    until: int | None = None,
    enough: Callable[[str], bool] = lambda architecture: False,
) -> Replay:
    """Replay a search until it has nothing more to hand out.

    A worker that gets nothing asks again when the next trial has ended or paused.

    Args:
        table: the trainings. The strategy must hand out only its architectures (`TabularBenchmark.space`).
        strategy: a new one; it cannot be used again.
        workers: number of trials at the same time.
        seed: of the order in which the trainings of an architecture with several seeds are shown. A further trial of an
            architecture gets its next training; after the last one the first follows.
        until: number of epochs, of all trials together, after which the search is cut off.
        enough: called with the id of each architecture that has been trained to its end; the search ends when it
            returns True.
    """
    return _Simulation(table, strategy, workers, seed, enough).run(until)


class _Simulation:
    def __init__(
        self, table: TabularBenchmark, strategy: Search, workers: int, seed: int, enough: Callable[[str], bool]
    ) -> None:
        self.strategy = strategy
        self.enough = enough
        self.ended = False
        self.free = workers
        self.now = 0.0
        self.epochs = self.pauses = 0
        self.completions: list[Completion] = []
        self._trainings = _shuffled(table, seed)
        self._rows: dict[int, TableRow] = {}
        self._paused: set[int] = set()
        # NOTE: Epochs that end at the same time end in the order in which they began.
        self._order = itertools.count()
        self._running: list[tuple[float, int, TrialRecord]] = []

    def run(self, until: int | None) -> Replay:
        self._hand_out()
        while self._running and not self.ended and (until is None or self.epochs < until):
            self._end_epoch()
        return Replay(tuple(self.completions), self.epochs, self.now, len(self._rows), self.pauses, len(self._paused))

    def _hand_out(self) -> None:
        """Give each free worker a trial, as long as the strategy has any."""
        while self.free and (record := self.strategy.ask()) is not None:
            self.free -= 1
            self._paused.discard(record.number)
            if record.number not in self._rows:
                self._rows[record.number] = next(self._trainings[record.candidate.id])
            self._begin_epoch(record)

    def _begin_epoch(self, record: TrialRecord) -> None:
        end = self.now + _epoch_seconds(self._rows[record.number])
        heapq.heappush(self._running, (end, next(self._order), record))

    def _end_epoch(self) -> None:
        self.now, _, record = heapq.heappop(self._running)
        self.epochs += 1
        row, reached = self._rows[record.number], len(record.curve) + 1
        decision = self.strategy.report(record.number, row.curve[:reached], reached * _epoch_seconds(row))
        if decision is Decision.CONTINUE and reached < len(row.curve):
            self._begin_epoch(record)
            return
        if decision is Decision.PAUSE:
            self.pauses += 1
            self._paused.add(record.number)
        elif decision is Decision.CONTINUE:
            self.strategy.complete(record.number)
            if record.state is TrialState.COMPLETE:
                self.completions.append(Completion(self.now, self.epochs, record.number, record.candidate.id))
                self.ended = self.enough(record.candidate.id)
        if not self.ended:
            self.free += 1
            self._hand_out()


def _epoch_seconds(row: TableRow) -> float:
    return row.seconds / len(row.curve)


def _shuffled(table: TabularBenchmark, seed: int) -> dict[str, Iterator[TableRow]]:
    """Architecture id -> its trainings in random order, in an endless cycle."""
    rng = np.random.default_rng(seed)
    return {key: itertools.cycle([rows[i] for i in rng.permutation(len(rows))]) for key, rows in table.by_id.items()}
