"""How long the report of a long search takes, how large its page is, and how soon a browser shows it.

A made-up run on the CIFAR-10 space: random networks with curves that follow from their weights, settings and chance, in
a real study on disk; then the real report, and a headless Chromium that opens it.

    python benchmarks/report_scale.py [--trials 2000] [--latency-seconds 8]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import torch

from mgnas.reports.pareto import pareto_front
from mgnas.reports.report import write_report
from mgnas.search.run_directory import RunDirectory
from mgnas.search.search_config import SearchConfig
from mgnas.search.strategy import OPTUNA_STATE
from mgnas.search.trial_record import TrialRecord, TrialState

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "cifar10.yaml"


def make_run(trials: int, folder: Path, seed: int = 0) -> RunDirectory:
    """A finished search of so many trials: 2 % failed, 8 % paused."""
    run = RunDirectory.create(SearchConfig.load(CONFIG).override(trials=trials), folder)
    rng = np.random.default_rng(seed)
    records, seen = [], set()
    while len(records) < trials:
        candidate = run.space.sample(rng)
        if candidate.id not in seen:
            seen.add(candidate.id)
            records.append(_record(len(records), candidate, rng))
    study = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{run.path / 'study.db'}")
    distributions = {parameter.name: parameter.distribution for parameter in run.space.parameters}
    study.add_trials([_trial(record, distributions) for record in records])
    run.elapsed = 600.0 * trials
    return RunDirectory(run.path)


def _record(number: int, candidate, rng: np.random.Generator) -> TrialRecord:
    architecture, epochs = candidate.architecture, candidate.training.epochs
    error = np.exp(-0.9 - 0.45 * (np.log10(candidate.weights) - 4) - 0.1 * (architecture.family == "mgiad"))
    error *= np.exp(rng.normal(0, 0.06))
    curve = 1 - error - (0.9 - error) * np.exp(-6 * np.arange(1, epochs + 1) / epochs) * rng.uniform(0.9, 1.1, epochs)
    kind = rng.random()
    state = TrialState.FAILED if kind < 0.02 else TrialState.PAUSED if kind < 0.1 else TrialState.COMPLETE
    kept = epochs if state is TrialState.COMPLETE else int(rng.integers(1, epochs))
    return TrialRecord(
        number,
        candidate,
        number,
        state,
        [round(float(value), 6) for value in curve[:kept]],
        reason="the loss became nan in epoch 3" if state is TrialState.FAILED else "",
        seconds=20.0 * kept,
        finished=None if state is TrialState.PAUSED else 600.0 * number,
        decisions=["epoch 9: paused, 84.10 % +- 0.60 expected"] if state is TrialState.PAUSED else [],
    )


def _trial(record: TrialRecord, distributions) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(
        state=OPTUNA_STATE[record.state],
        values=[record.accuracy, record.weights] if record.accuracy is not None else None,
        params=record.candidate.values,
        distributions=distributions,
        user_attrs={
            "seed": record.seed,
            "epochs": len(record.curve),
            "seconds": record.seconds,
            "finished": record.finished,
            "reason": record.reason,
            "decisions": record.decisions,
        },
        intermediate_values=dict(enumerate(record.curve, start=1)),
    )


def opening_seconds(page: Path) -> float | None:
    """Until a headless Chromium has opened the page and its script has drawn the front; None without a Chromium."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import CHROMIUM, DRIVER, browser

    if not (CHROMIUM and DRIVER):
        return None
    with browser() as driver:
        driver.get("about:blank")
        start = time.perf_counter()
        driver.get(page.resolve().as_uri())
        while driver.execute_script("return document.documentElement.dataset.ready") != "yes":
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        if errors := driver.get_log("browser"):
            raise SystemExit(f"the page has errors: {errors}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--latency-seconds", type=float, default=8.0)
    parser.add_argument("--output", type=Path, help="Keep the report there.")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(options.trials, Path(scratch))
        start = time.perf_counter()
        page = write_report(run, options.output or Path(scratch) / "report", options.latency_seconds)
        seconds = time.perf_counter() - start
        opened = opening_seconds(page)
        result = {
            "trials": options.trials,
            "networks on the front": len(pareto_front(run.load())),
            "seconds for the report": round(seconds, 1),
            "of these for measuring latencies, at most": options.latency_seconds,
            "page in MB": round(page.stat().st_size / 1e6, 2),
            "seconds until a browser shows it": opened and round(opened, 2),
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
