"""Replays of many searches at a time, in several processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from typing import TYPE_CHECKING

import optuna

from mgnas.errors import UserError

from ...space.search_space import SearchSpace
from ..history.past_trainings import TaskEvaluations
from ..history.table import TabularBenchmark
from ..samplers.factory import SAMPLERS, make_sampler
from ..strategy.pausing import make_pausing_rule
from ..strategy.strategy import Strategy
from .simulator import Replay, Search, simulate

if TYPE_CHECKING:
    from ..samplers.transfer_prior import TransferPrior

StrategyFactory = Callable[[TabularBenchmark, SearchSpace, int], Search]
"""(table, its space, seed) -> a new search of it; importable by its name, because it is sent to other processes."""


def sampled(
    sampler: str, table: TabularBenchmark, space: SearchSpace, seed: int, *, stopping: str = "none", prior: str = "none"
) -> Strategy:
    """A search as its config would describe it.

    It is granted one trial more than the table has architectures, so that it trains all of them to their ends.

    Args:
        sampler, stopping, prior: as in a config's `search` section.
        table: to search in.
        space: its space.
        seed: of the sampler and of the strategy.
    """
    past, model = (None, None) if prior == "none" else _prior(prior)
    rule = make_pausing_rule(stopping, space.training.epochs, past.curves if past else ())
    n_trials = len(table.by_id) + 1
    return Strategy(space, make_sampler(sampler, seed, space, model), n_trials, seed=seed, pausing_rule=rule)


@lru_cache
def _prior(source: str) -> tuple[TaskEvaluations, TransferPrior]:
    """Read and fitted once in a process, not for every replay."""
    past = TaskEvaluations.load(source)
    return past, past.prior()


STRATEGIES: dict[str, StrategyFactory] = {
    **{name: partial(sampled, name) for name in SAMPLERS},
    "ehvi+pausing": partial(sampled, "ehvi", stopping="pareto"),
}
"""The searches that `mgnas simulate` knows by name; benchmarks add their own."""


def find_strategies(names: Sequence[str]) -> dict[str, StrategyFactory]:
    """The strategies of these names, in this order.

    Raises:
        UserError: there is none of one of the names.
    """
    for name in names:
        if name not in STRATEGIES:
            raise UserError(f"--strategy: there is no {name!r}; known are {', '.join(STRATEGIES)}")
    return {name: STRATEGIES[name] for name in names}


class ReplayPool:
    """Processes of one thread each that replay searches; each imports and reads the tables once.

    A context manager: on leaving it, replays that have not begun are dropped.

    Args:
        tables: to search in.
        jobs: number of processes; results do not depend on it.

    Raises:
        UserError: a table cannot be searched in.
    """

    def __init__(self, tables: Sequence[TabularBenchmark], jobs: int = 1) -> None:
        for table in tables:
            table.space()  # A wrong table must be refused here, not when a process is initialised.
        self._pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_prepare, initargs=(tables,))

    def __enter__(self) -> ReplayPool:
        return self

    def __exit__(self, failure: type | None, *_) -> None:
        self._pool.shutdown(wait=failure is None, cancel_futures=True)

    def submit(self, index: int, factory: StrategyFactory, seed: int, options: ReplayOptions) -> Future[Replay]:
        """Replay one search, on the table with this index, in one of the processes."""
        with _single_threaded():  # Processes start with the first submission.
            return self._pool.submit(_replay, index, factory, seed, options)


@dataclass(frozen=True)
class ReplayOptions:
    """How a search is replayed.

    Args:
        workers, until: as for `simulate`.
        enough: table -> the `enough` of `simulate`; importable by its name. None: the search goes on to its end.
    """

    workers: int = 1
    until: int | None = None
    enough: Callable[[TabularBenchmark], Callable[[str], bool]] | None = None


def replay_all(
    tables: Sequence[TabularBenchmark],
    strategies: Mapping[str, StrategyFactory],
    seeds: Sequence[int],
    options: ReplayOptions | None = None,
    jobs: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> list[dict[str, list[Replay]]]:
    """Replay every strategy on every table with every seed.

    Args:
        tables: to search in.
        strategies: by name.
        seeds: of the searches of each strategy and table.
        options: of each replay.
        jobs: number of processes.
        progress: called after each replay.

    Returns:
        For each table: name -> the replays in the order of their seeds.

    Raises:
        UserError: a table cannot be searched in.
    """
    options = options or ReplayOptions()
    with ReplayPool(tables, jobs) as pool:
        futures = [
            {
                name: [pool.submit(index, factory, seed, options) for seed in seeds]
                for name, factory in strategies.items()
            }
            for index in range(len(tables))
        ]
        replays: list[dict[str, list[Replay]]] = []
        for futures_of_table in futures:
            replays.append({name: [] for name in futures_of_table})
            for name, waiting in futures_of_table.items():
                for future in waiting:
                    replays[-1][name].append(future.result())
                    progress()
    return replays


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Processes started inside compute with one thread; numerical libraries read the setting when they are loaded."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


_tables: list[tuple[TabularBenchmark, SearchSpace]] = []
"""In a process of the pool: the tables with their spaces, which keep the candidates that they have made."""


def _prepare(tables: Sequence[TabularBenchmark]) -> None:
    # Ctrl-C ends a process of the pool silently; the parent reports it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _tables.extend((table, table.space()) for table in tables)


def _replay(index: int, factory: StrategyFactory, seed: int, options: ReplayOptions) -> Replay:
    table, space = _tables[index]
    enough = {} if options.enough is None else {"enough": options.enough(table)}
    return simulate(table, factory(table, space, seed), options.workers, seed, options.until, **enough)
