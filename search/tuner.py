"""Ray Tune runs the trials; the strategy decides. Only this module and cluster.py know Ray.

Ray's own snapshots are neither needed nor read: the run directory is the whole state of a search, so a resumed
search is a new Ray experiment that begins with the trials that were running.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .run_directory import RunDirectory
from .searching import make_strategy
from .strategy import Decision, Strategy
from .trial_record import TrialRecord, TrialState

# NOTE: cluster.py sets Ray up, so it stands before Ray.
# isort: split
from .cluster import connect

# isort: split
import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from .trial import TrialTask, TrialWorker

_RETRIES = 1


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


class RayTrial(tune.Trainable):
    """A worker as Ray sees it: one epoch a step; the actor is used again for the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self._worker = config["worker"](config["task"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        result = self._worker.step()
        return result | {"done": result["finished"] or result["failure"] is not None}


class _Driver:
    """Passes on between Ray's events, the strategy, the study and the display."""

    def __init__(self, run: RunDirectory, strategy: Strategy, progress: SearchProgress, worker: type) -> None:
        self.run, self.strategy, self.progress, self.worker = run, strategy, progress, worker
        self.events: Callable[[TrialRecord], None] = lambda record: None
        self._numbers: dict[str, int] = {}
        self._reasons: dict[str, str] = {}

    def ask(self, ray_id: str) -> dict[str, Any] | None:
        """Ray config of the next trial, None if there is none."""
        record = self.strategy.ask()
        if record is None:
            return None
        self._numbers[ray_id] = record.number
        self.run.study.start(record)
        config, candidate = self.run.config, record.candidate
        task = TrialTask(
            number=record.number,
            architecture=candidate.architecture,
            training=candidate.training,
            data=config.data,
            seed=record.seed,
            checkpoint=str(self.run.checkpoint(record.number)),
            threads=config.resources.cpus_per_trial,
            gpu=config.resources.gpus_per_trial > 0,
            precision=config.resources.precision,
            execution=config.resources.execution,
            deterministic=config.resources.deterministic,
        )
        return {"task": task, "worker": self.worker}

    def result(self, ray_id: str, result: dict[str, Any]) -> Decision:
        """A worker has finished an epoch, or cannot go on."""
        record = self.strategy.records[self._numbers[ray_id]]
        if result["failure"] is not None:
            self.strategy.fail(record.number, result["failure"])
        else:
            decision = self.strategy.report(record.number, result["curve"], result["seconds"])
            if record.state is not TrialState.FAILED:
                self.run.study.epoch(record)
            if decision is Decision.PAUSE:
                self.run.study.pause(record)
                self.events(record)
                return decision
            if decision is Decision.CONTINUE and not result["finished"]:
                return decision
            if result["finished"]:
                self.strategy.complete(record.number)
        self._end(record)
        return Decision.STOP

    def note_error(self, ray_id: str, file: Path) -> None:
        """Ray has written down why a worker process is gone; it may be tried again."""
        last = file.read_text(errors="replace").split("Failure #")[-1].strip().splitlines()[1:]
        # An exception out of the worker's code says what happened in its last line, Ray's own message in its first.
        line = last[-1 if "ray::" in last[0] else 0] if last else "no reason known"
        self._reasons[ray_id] = f"the worker died: {line.strip()}"[:300]

    def died(self, ray_id: str) -> None:
        """The worker process is gone, and its retries are used up."""
        record = self.strategy.records[self._numbers[ray_id]]
        if record.state is TrialState.RUNNING:
            self.strategy.fail(record.number, self._reasons.get(ray_id, "the worker died"))
            self._end(record)

    def _end(self, record: TrialRecord) -> None:
        record.finished = round(self.progress.elapsed, 3)
        self.run.study.end(record)
        self.run.elapsed = self.progress.elapsed
        self.run.checkpoint(record.number).unlink(missing_ok=True)
        self.events(record)


class StrategySearcher(Searcher):
    """Asks the strategy when Ray has room for a trial, and tells it of those whose process is gone for good."""

    def __init__(self, driver: _Driver | None = None) -> None:
        super().__init__(metric=None, mode=None)
        self._driver = driver

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        config = self._driver.ask(trial_id)
        if config is None and self._driver.strategy.finished:
            return Searcher.FINISHED
        return config

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        # NOTE: The scheduler hears of errors too, but also of those that are retried.
        if error:
            self._driver.died(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """The run directory holds the state."""

    def restore(self, checkpoint_path: str) -> None:
        """The run directory holds the state."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StrategyScheduler(FIFOScheduler):
    """Tells the strategy of results."""

    def __init__(self, driver: _Driver | None = None) -> None:
        super().__init__()
        self._driver = driver

    def on_trial_result(self, tune_controller, trial, result: dict[str, Any]) -> str:
        going_on = self._driver.result(trial.trial_id, result) is Decision.CONTINUE
        return TrialScheduler.CONTINUE if going_on else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller, trial, result: dict[str, Any]) -> None:
        # NOTE: Ray also sends the last result of a trial that Ctrl-C cut short; that one goes on when resumed.
        if result.get("finished") or result.get("failure"):
            self._driver.result(trial.trial_id, result)

    def on_trial_error(self, tune_controller, trial) -> None:
        self._driver.note_error(trial.trial_id, Path(trial.error_file))

    def __getstate__(self) -> dict[str, Any]:
        return {}


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
        UserError: no cluster at the address, or trials that need more than there is.
    """
    config = run.config
    records = run.load()
    strategy = make_strategy(config, run.space, records)
    workers = connect(config.resources, address)
    progress = SearchProgress(config.search.trials, strategy.records, workers, run.elapsed)
    driver = _Driver(run, strategy, progress, worker)
    scratch = run.path / "ray"
    needs = {"cpu": config.resources.cpus_per_trial, "gpu": config.resources.gpus_per_trial}
    tuner = tune.Tuner(
        tune.with_resources(RayTrial, needs),
        tune_config=tune.TuneConfig(
            search_alg=StrategySearcher(driver),
            scheduler=StrategyScheduler(driver),
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(scratch.absolute()),
            name=f"{int(time.time())}",
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
            verbose=0,
        ),
    )
    try:
        with (display or _Silent)(progress) as shown:
            driver.events = shown.event
            tuner.fit()
    finally:
        run.elapsed = progress.elapsed
        ray.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
    return progress


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
