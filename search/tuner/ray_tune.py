"""Ray Tune runs the trials; the driver decides. Only this module, its neighbours ray_trial.py and loggers.py, and
cluster.py know Ray.

Ray's own snapshots are neither needed nor read: the run directory is the whole state of a search, so a resumed
search is a new Ray experiment that begins with the trials that were running.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mgnas.errors import SearchStoppedError, UserError

from ..data.dataset import cache_entry_of, load_dataset
from ..storage.checkpoints import check_storage
from ..storage.run_directory import RunDirectory
from ..strategy.factory import make_strategy
from ..strategy.strategy import Decision
from ..trial_record import TrialRecord
from .controller import RETRIES, SearchProgress, TrialController

# NOTE: cluster.py sets Ray up, so it stands before Ray.
# isort: split
from .cluster import Cluster

# isort: split
import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from .loggers import make_loggers
from .node import NodeRequirements, installed_versions, share_images
from .trainable import RayTrial
from .worker import TrialWorker

_LOOK_EVERY = 1.0


class _Unpickled:
    """The run directory holds the state; Ray's snapshots of these objects are never read."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StrategySearcher(_Unpickled, Searcher):
    """Asks the driver when Ray has room for a trial, and tells it of those whose process is gone for good."""

    def __init__(self, driver: TrialController | None = None) -> None:
        super().__init__(metric=None, mode=None)
        self._driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        config = self._driver.ask(trial_id)
        if config is None and self._driver.finished:
            return Searcher.FINISHED
        return config

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        # NOTE: The scheduler hears of errors too, but also of those that are retried.
        if error:
            self._driver.given_up(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """The run directory holds the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The run directory holds the state."""


class StrategyScheduler(_Unpickled, FIFOScheduler):
    """Tells the driver of results, and of workers that are gone."""

    def __init__(self, driver: TrialController | None = None) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller, trial, result: dict[str, Any]) -> str:
        # Whoever has come further may be retried as often again.
        trial.max_failures = trial.num_failures + RETRIES
        going_on = self._driver.result(trial.trial_id, result) is Decision.CONTINUE
        return TrialScheduler.CONTINUE if going_on else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller, trial, result: dict[str, Any]) -> None:
        # NOTE: Ray also sends the last result of a trial that Ctrl-C cut short; that one goes on when resumed.
        if result.get("finished") or result.get("failure") or result.get("stop"):
            self._driver.result(trial.trial_id, result)

    def on_trial_error(self, tune_controller, trial) -> None:
        # NOTE: A trial is pending while a process that has ended another one is being given it. If that process dies,
        # Tune counts the death twice, once for the process and once for the call, and gives the trial up.
        at_handover = trial.status == Trial.PENDING
        if self._driver.worker_lost(trial.trial_id, Path(trial.error_file), at_handover):
            trial.max_failures += 1


class _TimeLimit(_Unpickled, tune.Callback):
    """Ends the processes of trials that take too long, whatever they are doing."""

    def __init__(self, driver: TrialController) -> None:
        self._driver = driver
        self._running: dict[str, Any] = {}
        self._looked = 0.0

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running[trial.trial_id] = trial
        self._driver.started(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        for key in self._driver.overdue():
            trial = self._running[key]
            trial.max_failures = 0
            ray.kill(trial.temporary_state.ray_actor)


class _ForgetStatistics(_Unpickled, tune.Callback):
    """Drops Tune's running means of a trial's metrics when it has ended: nobody reads them, and they take 21 kB."""

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        trial.run_metadata.metric_analysis.clear()
        trial.run_metadata.metric_n_steps.clear()


class _StopWhenStopped(_Unpickled, tune.Stopper):
    """Ends the experiment when the driver can store nothing more."""

    def __init__(self, driver: TrialController) -> None:
        self._driver = driver

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._driver.stopped is not None


def run_search(
    run: RunDirectory,
    display: Callable[[SearchProgress], Any] | None = None,
    address: str | None = None,
    worker: type = TrialWorker,
) -> SearchProgress:
    """Run a search, or go on with it, until it has its trials or is interrupted.

    Args:
        run: its directory; what it says is what is done.
        display: called once with the progress; returns a context manager that may have `event(record)`.
        address: a Ray cluster; default: Ray is started on this machine and stopped afterwards.
        worker: made from a TrialTask, its `step` runs an epoch; for tests and benchmarks of the machinery.

    Returns:
        the progress at the end. It is interrupted (by Ctrl-C) if trials are still RUNNING or missing.

    Raises:
        UserError: somebody else searches there, no cluster at the address, nodes that cannot take part, or trials that
            need more than there is.
        SearchStoppedError: something cannot be stored; the search can go on when that has been mended.
    """
    config = run.config
    with run.lock:
        records = run.load()
        strategy = make_strategy(config, run.space, records)
        loggers = make_loggers(config.search.loggers, run.path, config.name)
        if config.resources.storage is not None:
            check_storage(run.storage)
        with Cluster(config.resources, address) as cluster:
            needs = _node_needs(run, cluster)
            progress = SearchProgress(config.search.trials, strategy.records, cluster.limit(), run.elapsed)
            driver = TrialController(run, strategy, progress, needs.entry, cluster.limit)
            with _terminate_as_interrupt(), (display or _Silent)(progress) as shown:
                driver.events = shown.event
                try:
                    _tune(driver, loggers, tune.with_parameters(RayTrial, worker=worker, needs=needs))
                finally:
                    _keep_clock(driver)
    if driver.stopped is not None:
        raise SearchStoppedError(f"{driver.stopped}; mend that, then continue with: mgnas resume {run.path}")
    return progress


def _node_needs(run: RunDirectory, cluster: Cluster) -> NodeRequirements:
    """What nodes must have, checked on those that are there and given to those that can be given it."""
    needs = NodeRequirements(installed_versions())
    if cluster.is_remote:
        cluster.check_nodes(needs, None if run.config.resources.storage else run.storage)
        load_dataset(run.config.data)
        entry = cache_entry_of(run.config.data)
        needs = NodeRequirements(needs.versions, entry, share_images(entry))
    return needs


def _tune(driver: TrialController, loggers: list[tune.Callback], trainable: type) -> None:
    """The experiment, from the first trial that is asked for to the last one that has ended."""
    scratch = tempfile.mkdtemp(prefix="mgnas-ray-")
    resources = driver.run.config.resources
    try:
        tune.run(
            tune.with_resources(trainable, resources.per_trial),
            search_alg=StrategySearcher(driver),
            scheduler=StrategyScheduler(driver),
            callbacks=[_TimeLimit(driver), _ForgetStatistics(), *loggers],
            stop=_StopWhenStopped(driver),
            num_samples=-1,
            max_failures=RETRIES,
            raise_on_failed_trial=False,
            reuse_actors=True,
            storage_path=scratch,
            name="search",
            verbose=0,
            # Under ray:// too the experiment runs here, where the run directory is.
            _remote=False,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _keep_clock(driver: TrialController) -> None:
    try:
        driver.run.elapsed = driver.progress.elapsed
    except UserError as error:
        driver.stop(str(error))


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM, which batch systems send before they kill, means the same as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Silent:
    """The display that shows nothing."""

    def __init__(self, progress: SearchProgress) -> None:
        pass

    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, record: TrialRecord) -> None:
        pass
