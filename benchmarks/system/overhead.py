"""The cost of a trial without its training: Ray, the strategy and the study.

Trials that return at once go through real Ray, the strategy, and the study on disk. A search pays once for the start of
Ray and for the first trial of each worker process, which imports torch; these are reported separately. Then a new
process resumes the run for two more trials, and the report is written.

    python benchmarks/system/overhead.py [--trials 2000] [--workers 2] [--sampler random]

The time of the sampler (`Strategy.ask`) is measured separately.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import ray

from mgnas.errors import first_line
from mgnas.reports.report import write_report
from mgnas.search.config import SearchConfig
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import TrialRecord
from mgnas.search.tuner.ray_tune import run_search
from mgnas.search.tuner.worker import TrialTask

CONFIG = Path(__file__).parents[1] / "search" / "spaces" / "cifar10.yaml"
_PART = 200


class InstantWorker:
    """A worker that returns all epochs at once. The accuracy depends on the trial's number only."""

    def __init__(self, task: TrialTask) -> None:
        self.task = task

    def step(self) -> dict[str, Any]:
        accuracy = 0.5 + 0.4 * ((self.task.number * 2654435761) % 1000) / 1000
        curve = [accuracy] * self.task.training.epochs
        return {"curve": curve, "loss": 1.0, "seconds": 0.0, "finished": True, "failure": None}


class Clock:
    """Records the end of each trial, the sampler's time until then, and the memory of the driver process."""

    last: Clock

    def __init__(self, progress) -> None:
        self.ends: list[float] = []
        self.asking: list[float] = []
        self.memory: list[int] = []
        Clock.last = self

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, record) -> None:
        self.ends.append(time.perf_counter())
        self.asking.append(TimedStrategy.seconds)
        self.memory.append(resident_bytes())


class TimedStrategy:
    """Adds up the time that Strategy.ask takes."""

    seconds = 0.0

    @classmethod
    def install(cls) -> None:
        ask = Strategy.ask

        def timed(self: Strategy) -> TrialRecord | None:
            start = time.perf_counter()
            try:
                return ask(self)
            finally:
                cls.seconds += time.perf_counter() - start

        Strategy.ask = timed


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def means(clock: Clock, start: int, end: int) -> tuple[float, float]:
    """Seconds per trial from the end of trial `start` to that of trial `end`: in all, and without the sampler."""
    whole = (clock.ends[end] - clock.ends[start]) / (end - start)
    asking = (clock.asking[end] - clock.asking[start]) / (end - start)
    return whole, whole - asking


def measure(run: RunDirectory, workers: int) -> dict[str, Any]:
    """Run the search and measure it."""
    start = time.perf_counter()
    run_search(run, Clock, worker=InstantWorker)
    clock, last = Clock.last, len(Clock.last.ends) - 1
    part = min(_PART, last // 3)
    first, settled = workers, last - part
    whole, machinery = means(clock, first, last)
    parts = {"first": means(clock, first, first + part), "last": means(clock, settled, last)}
    growth = (clock.memory[last] - clock.memory[part]) / (last - part)
    return {
        "seconds per trial": round(whole, 4),
        "without the sampler": round(machinery, 4),
        **{f"{name} {part}": round(values[0], 4) for name, values in parts.items()},
        **{f"{name} {part} without the sampler": round(values[1], 4) for name, values in parts.items()},
        "last by first": round(parts["last"][0] / parts["first"][0], 3),
        "last by first without the sampler": round(parts["last"][1] / parts["first"][1], 3),
        "driver's memory, kB per trial": round(growth / 1000, 1),
        "driver's memory at the end, MB": round(clock.memory[last] / 1e6),
        "seconds until every worker had its first trial": round(clock.ends[workers - 1] - start, 2),
    }


def resume(path: Path) -> None:
    """Resume a run for two more trials, as `mgnas resume --trials N+2` does, and print when the first one ended."""
    TimedStrategy.install()
    with RunDirectory.open_for_resume(path) as run:
        trials = len(run.load()) + 2
        run.change_config(run.config.override(trials=trials))
        run.store_config()
        run_search(run, Clock, worker=InstantWorker)
    print(json.dumps({"first new trial ended at": Clock.last.ends[0], "asking": Clock.last.asking[0]}))


def timed_resume(path: Path) -> dict[str, float]:
    """Seconds from the start of a new process to the end of its first trial. Both workers start in this time."""
    start = time.perf_counter()  # The same clock in all processes of a machine.
    command = [sys.executable, __file__, "--resume", str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(output.strip().splitlines()[-1])
    return {
        "seconds until a resumed search ended its first new trial": round(
            result["first new trial ended at"] - start, 2
        ),
        "of them the sampler": round(result["asking"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""))
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sampler", default="random")
    parser.add_argument("--resume", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    if options.resume:
        resume(options.resume)
        return
    TimedStrategy.install()
    config = SearchConfig.load(CONFIG).override(
        trials=options.trials, workers=options.workers, sampler=options.sampler, seed=0
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(config, folder)
        result = {
            "trials": options.trials,
            "workers": options.workers,
            "sampler": options.sampler,
            "epochs reported per trial": config.training.epochs,
            **measure(run, options.workers),
        }
        run.close()
        result |= timed_resume(run.path)
        start = time.perf_counter()
        write_report(RunDirectory(run.path))
        result["seconds of the report"] = round(time.perf_counter() - start, 2)
    result["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
    result["versions"] = f"Python {platform.python_version()}, ray {ray.__version__}, optuna {optuna.__version__}"
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
