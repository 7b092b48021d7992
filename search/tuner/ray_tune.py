"""Ray Tune runs the trials of a search, and the controller decides about them.

The run directory is the whole state of a search. Ray's snapshots are neither needed nor read, so a resumed search is a
new Ray experiment, which begins with the trials that were running.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mgnas.errors import SearchStoppedError, UserError
from mgnas.signals import held_interrupts, termination_as_interrupt

from ..data.dataset import cache_entry_of, load_dataset
from ..storage.checkpoints import check_storage
from ..storage.run_directory import RunDirectory
from ..strategy.factory import make_strategy
from ..strategy.strategy import Decision
from ..trial_record import TrialRecord
from .controller import RETRIES, TrialController
from .node import NodeRequirements, installed_versions, share_images
from .progress import SearchProgress
from .worker import TrialWorker

# NOTE: ray_compat sets Ray up, so it stands before Ray.
# isort: split
from .ray_compat import (
    RAYLET_DIED,
    add_retry,
    end_worker,
    memory_kills_as_lost_workers,
    raylet_died,
    set_retries,
)

# isort: split
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from .cluster import Cluster
from .gpu_share import search_need
from .gpus import GpuLister, list_gpus, settle_gpus
from .loggers import make_loggers
from .trainable import RayTrial

_LOOK_EVERY = 1.0


class _Unpickled:
    """An object that Ray may pickle, but whose pickle is never read: the run directory holds the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StrategySearcher(_Unpickled, Searcher):
    """Asks the controller when Ray has room for a trial, and tells it which trials have lost their last worker."""

    def __init__(self, controller: TrialController) -> None:
        super().__init__(metric=None, mode=None)
        self._controller = controller

    # Ray's annotation leaves out FINISHED, which is a str.
    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        config = self._controller.ask(trial_id)
        if config is None and self._controller.finished:
            return Searcher.FINISHED
        return config

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        # NOTE: The scheduler hears of errors, too, but also of those after which the trial starts again.
        if error:
            self._controller.given_up(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """The run directory holds the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The run directory holds the state."""


class StrategyScheduler(_Unpickled, FIFOScheduler):
    """Tells the controller of results, and of workers that are gone."""

    def __init__(self, controller: TrialController) -> None:
        super().__init__()
        self._controller = controller

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        # The trial has come further, so it may start again as often as at its beginning.
        set_retries(trial, RETRIES)
        goes_on = self._controller.result(trial.trial_id, result) is Decision.CONTINUE
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        # NOTE: Ray also sends the last result of a trial that Ctrl-C cut short; that one goes on when resumed.
        if result.get("finished") or result.get("failure") or result.get("stop"):
            self._controller.result(trial.trial_id, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        # NOTE: A trial is pending while a process that has ended another one is being given it. If that process dies,
        # Tune counts the death twice, once for the process and once for the call, and gives the trial up.
        at_handover = trial.status == Trial.PENDING
        if self._controller.worker_lost(trial.trial_id, trial.error_file, at_handover):
            add_retry(trial)


class _TimeLimit(_Unpickled, tune.Callback):
    """Ends the processes of trials that take too long, whatever they are doing."""

    def __init__(self, controller: TrialController) -> None:
        self._controller = controller
        self._running: dict[str, Trial] = {}
        self._looked = 0.0

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running[trial.trial_id] = trial
        self._controller.started(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        if time.monotonic() - self._looked < _LOOK_EVERY:
            return
        self._looked = time.monotonic()
        if raylet_died():
            # Ray would end this process a few seconds later, without a word.
            raise SearchStoppedError(f"{RAYLET_DIED}; continue with: mgnas resume {self._controller.run.path}")
        for key in self._controller.overdue():
            end_worker(self._running[key])


class _ForgetStatistics(_Unpickled, tune.Callback):
    """Drops Tune's running means of an ended trial's metrics: nobody reads them, and they take 21 kB a trial."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()


class _StopWhenStopped(_Unpickled, tune.Stopper):
    """Ends the experiment when the controller has stopped the search."""

    def __init__(self, controller: TrialController) -> None:
        self._controller = controller

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._controller.stopped is not None


def run_search(
    run: RunDirectory,
    display: Callable[[SearchProgress], Any] | None = None,
    address: str | None = None,
    worker: type = TrialWorker,
    lister: GpuLister = list_gpus,
) -> SearchProgress:
    """Run a search, or go on with it, until it has all its trials or is interrupted by Ctrl-C.

    Args:
        run: the directory of the search.
        display: called once with the progress; returns a context manager with a method `event(record)`.
        address: of a Ray cluster; default: Ray is started on this machine and stopped afterwards.
        worker: class that is made from a TrialTask and whose `step` runs an epoch; tests and benchmarks give others.
        lister: lists the machines with GPUs; tests give others.

    Returns:
        the progress at the end. If the search was interrupted, trials are still RUNNING or missing.

    Raises:
        UserError: another process searches there, there is no cluster at the address, a node cannot take part, or no
            node is large enough for a trial.
        SearchStoppedError: something cannot be stored; the search can be resumed when that is mended.
        BrokenPipeError: the display's output is a pipe that was closed; the search can be resumed.
    """
    config = run.config
    with run.lock:
        records = run.load()
        strategy = make_strategy(config, run.space, records)
        loggers = make_loggers(config.search.loggers, run.path, config.name)
        if config.resources.storage is not None:
            check_storage(run.storage)
        with Cluster(config.resources, address) as cluster:
            with held_interrupts():
                _settle_gpus(run, cluster, lister)
                needs = _node_needs(run, cluster)
                run.store_config()
            progress = SearchProgress(config.search.trials, strategy.records, cluster.limit(), run.elapsed)
            controller = TrialController(run, strategy, progress, needs.entry, cluster.limit)
            # Again, because Ray has put its own handlers in place.
            with termination_as_interrupt(), (display or _NoDisplay)(progress) as shown:
                controller.on_end = shown.event
                try:
                    _tune(controller, cluster, loggers, tune.with_parameters(RayTrial, worker=worker, needs=needs))
                finally:
                    _store_clock(controller)
    if controller.pipe_closed:
        raise BrokenPipeError(errno.EPIPE, "the reader of the output has gone")
    if controller.stopped is not None:
        raise SearchStoppedError(f"{controller.stopped}; mend that, then continue with: mgnas resume {run.path}")
    return progress


def _settle_gpus(run: RunDirectory, cluster: Cluster, lister: GpuLister) -> None:
    """Decide what each trial gets of the GPUs; it becomes part of the run's config."""
    config = run.config
    resources = settle_gpus(
        cluster,
        lambda: search_need(run.space, load_dataset(config.data), config.resources),
        config.search.trials,
        run.trained_on_gpus,
        lister,
    )
    if resources != config.resources:
        run.change_config(replace(config, resources=resources))


def _node_needs(run: RunDirectory, cluster: Cluster) -> NodeRequirements:
    """The requirements of the nodes, after the present nodes of a remote cluster were checked."""
    needs = NodeRequirements(installed_versions())
    if cluster.is_remote:
        cluster.check_nodes(needs, None if run.config.resources.storage else run.storage)
        load_dataset(run.config.data)
        entry = cache_entry_of(run.config.data)
        needs = NodeRequirements(needs.versions, entry, share_images(entry))
    return needs


@memory_kills_as_lost_workers()
def _tune(controller: TrialController, cluster: Cluster, loggers: list[tune.Callback], trainable: Any) -> None:
    """Run the experiment, from the first trial that is asked for to the last one that has ended."""
    resources = controller.run.config.resources
    tune.run(
        tune.with_resources(trainable, resources.per_trial),
        search_alg=StrategySearcher(controller),
        scheduler=StrategyScheduler(controller),
        callbacks=[_TimeLimit(controller), _ForgetStatistics(), *loggers],
        stop=_StopWhenStopped(controller),
        num_samples=-1,
        max_failures=RETRIES,
        raise_on_failed_trial=False,
        reuse_actors=True,
        storage_path=str(cluster.folder),
        name="search",
        verbose=0,
        # The experiment runs here, where the run directory is; under ray:// Tune would run it on the cluster.
        _remote=False,
    )


def _store_clock(controller: TrialController) -> None:
    try:
        controller.run.elapsed = controller.progress.elapsed
    except UserError as error:
        controller.stop(str(error))


class _NoDisplay:
    """A display that shows nothing."""

    def __init__(self, progress: SearchProgress) -> None:
        pass

    def __enter__(self) -> _NoDisplay:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, record: TrialRecord) -> None:
        pass
