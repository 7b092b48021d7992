"""The report of a long search: the time to write it, the size of its page, and the time until a browser shows it.

The run is made up: random networks of the CIFAR-10 space with random curves that depend on their weights and settings.
They are stored in a real study on disk. The report is the real one, and a headless Chromium opens it.

    python benchmarks/system/report_scale.py [--trials 2000] [--latency-seconds 8]
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.distributions import distribution_to_json

from mgnas.errors import first_line
from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.report import write_report
from mgnas.search.config import SearchConfig
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.strategy.strategy import OPTUNA_STATE
from mgnas.search.trial_record import TrialRecord, TrialState

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "benchmarks" / "search" / "spaces" / "cifar10.yaml"
_OPENINGS = 3


def make_run(trials: int, folder: Path, seed: int = 0) -> RunDirectory:
    """A finished search of `trials` trials, of which 2 % have failed and 8 % are paused."""
    run = RunDirectory.create(SearchConfig.load(CONFIG).override(trials=trials), folder)
    rng = np.random.default_rng(seed)
    records, seen = [], set()
    while len(records) < trials:
        candidate = run.space.sample(rng)
        if candidate.id not in seen:
            seen.add(candidate.id)
            records.append(_record(len(records), candidate, rng))
    _insert(run, records)
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


def _insert(run: RunDirectory, records: list[TrialRecord]) -> None:
    """Insert finished trials into the study's tables. Optuna itself would take 50 ms for each."""
    distributions = {parameter.name: parameter.distribution for parameter in run.space.parameters}
    rows: dict[str, list[tuple]] = collections.defaultdict(list)
    for trial_id, record in enumerate(records, start=1):
        rows["trials"].append((trial_id, record.number, 1, OPTUNA_STATE[record.state].name))
        for name, label in record.candidate.params.items():
            value = distributions[name].to_internal_repr(label)
            rows["trial_params"].append((trial_id, name, value, distribution_to_json(distributions[name])))
        if record.accuracy is not None:
            for objective, value in enumerate((record.accuracy, record.weights)):
                rows["trial_values"].append((trial_id, objective, value, "FINITE"))
        for epoch, value in enumerate(record.curve, start=1):
            rows["trial_intermediate_values"].append((trial_id, epoch, value, "FINITE"))
        for key in ("seed", "seconds", "finished", "reason", "decisions"):
            rows["trial_user_attributes"].append((trial_id, key, json.dumps(getattr(record, key))))
        rows["trial_user_attributes"].append((trial_id, "epochs", json.dumps(len(record.curve))))
    with sqlite3.connect(run.path / "study.db") as database:
        for table, columns in _COLUMNS.items():
            marks = ", ".join("?" * len(columns.split(",")))
            database.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", rows[table])


_COLUMNS = {
    "trials": "trial_id, number, study_id, state",
    "trial_params": "trial_id, param_name, param_value, distribution_json",
    "trial_values": "trial_id, objective, value, value_type",
    "trial_intermediate_values": "trial_id, step, intermediate_value, intermediate_value_type",
    "trial_user_attributes": "trial_id, key, value_json",
}


def opening_seconds(page: Path) -> float | None:
    """Seconds until a headless Chromium has opened the page and drawn the front; None without Chromium."""
    sys.path.insert(0, str(ROOT / "tests"))
    # A module of the tests, which are not on the type checker's path.
    from browser import CHROMIUM, DRIVER, browser  # pyright: ignore[reportMissingImports]

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
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""))
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--latency-seconds", type=float, default=8.0)
    parser.add_argument("--output", type=Path, help="folder to keep the report in")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as scratch:
        run = make_run(options.trials, Path(scratch))
        start, busy = time.perf_counter(), time.process_time()
        page = write_report(run, options.output or Path(scratch) / "report", options.latency_seconds)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        opened = [seconds for seconds in (opening_seconds(page) for _ in range(_OPENINGS)) if seconds is not None]
        result = {
            "trials": options.trials,
            "networks on the front": len(pareto_front(run.load())),
            "seconds for the report": round(seconds, 1),
            "CPU seconds for the report, which a busy machine does not change": round(busy, 1),
            "of these for measuring latencies, at most": options.latency_seconds,
            "page in MB": round(page.stat().st_size / 1e6, 2),
            "seconds until a browser shows it": [round(seconds, 2) for seconds in opened],
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
            "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
