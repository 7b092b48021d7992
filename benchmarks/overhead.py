"""What the machinery costs per trial: everything but training.

Trials that return at once go through real Ray, the strategy, and the study on disk. Ray's start and the first trial
of each worker process (which imports torch) are reported by themselves: they are paid once a search.

    python benchmarks/overhead.py [--trials 300] [--workers 2] [--sampler tpe]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna
import ray

from mgnas.search.run_directory import RunDirectory
from mgnas.search.search_config import SearchConfig
from mgnas.search.trial import TrialTask
from mgnas.search.tuner import run_search

CONFIG = Path(__file__).parents[1] / "configs" / "cifar10.yaml"


class InstantWorker:
    """Answers with all epochs at once; the accuracy depends on the trial's number only."""

    def __init__(self, task: TrialTask) -> None:
        self.task = task

    def step(self) -> dict[str, Any]:
        accuracy = 0.5 + 0.4 * ((self.task.number * 2654435761) % 1000) / 1000
        curve = [accuracy] * self.task.training.epochs
        return {"curve": curve, "loss": 1.0, "seconds": 0.0, "finished": True, "failure": None}


class Clock:
    """Notes when each trial ended."""

    def __init__(self, progress) -> None:
        self.ends: list[float] = []
        Clock.last = self

    def __enter__(self) -> Clock:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, record) -> None:
        self.ends.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--sampler", default="tpe")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    config = SearchConfig.load(CONFIG).override(
        trials=options.trials, workers=options.workers, sampler=options.sampler, seed=0
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create(config, folder)
        start = time.perf_counter()
        run_search(run, Clock, worker=InstantWorker)
        run.study.close()
    ends = Clock.last.ends
    settled = ends[options.workers :]
    per_trial = (settled[-1] - settled[0]) / (len(settled) - 1)
    tenth = max(len(settled) // 10, 2)
    first, last = ((part[-1] - part[0]) / (len(part) - 1) for part in (settled[:tenth], settled[-tenth:]))
    result = {
        "trials": options.trials,
        "workers": options.workers,
        "sampler": options.sampler,
        "epochs reported per trial": config.training.epochs,
        "seconds per trial": round(per_trial, 4),
        "seconds per trial, first tenth": round(first, 4),
        "seconds per trial, last tenth": round(last, 4),
        "seconds until every worker had its first trial": round(ends[options.workers - 1] - start, 2),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": f"Python {platform.python_version()}, ray {ray.__version__}, optuna {optuna.__version__}",
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
