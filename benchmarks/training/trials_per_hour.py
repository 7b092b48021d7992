"""Trials per hour on a machine or one GPU, by the number of trials at the same time and their threads.

    python benchmarks/training/trials_per_hour.py                                     1, 2, .. trials share the cores
    python benchmarks/training/trials_per_hour.py --device cuda --at-once 1 2 4 8     trials packed onto one GPU

Every trial is a process of its own, as in a search. It builds its network, warms up, waits for the others and trains.
Start-up is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from functools import partial
from multiprocessing import connection
from typing import Any

import torch
from cases import case_for, make_parser, make_trainer, measure_all, steps_for
from torch import multiprocessing


def _trial(name: str, options: argparse.Namespace, threads: int, barrier: Any, seconds: Any) -> None:
    """One process of `measure_trials`."""
    torch.set_num_threads(threads)
    case = case_for(name, options)
    trainer = make_trainer(case, options)
    trainer.run_epoch()
    for _ in range(options.repetitions):
        barrier.wait()
        start = time.perf_counter()
        for _ in range(options.epochs):
            trainer.run_epoch()
        seconds.put(time.perf_counter() - start)


def measure_trials(name: str, trials: int, options: argparse.Namespace, start: str = "spawn") -> dict[str, Any]:
    """Trials per hour if `trials` trials train at the same time, and share the threads and the GPU if there is one.

    Args:
        name: of the case.
        trials: processes at the same time.
        options: of the command line.
        start: how processes are started; `fork` is faster, if this process has not used a GPU or threads.

    Raises:
        RuntimeError: a process has failed. The others, which wait for it, are ended.
    """
    context: Any = multiprocessing.get_context(start)
    barrier, seconds = context.Barrier(trials), context.SimpleQueue()
    threads, case = max(options.threads // trials, 1), case_for(name, options)
    arguments = (name, options, threads, barrier, seconds)
    processes = [context.Process(target=_trial, args=arguments) for _ in range(trials)]
    for process in processes:
        process.start()
    wait_for_all(processes)
    measured = [seconds.get() for _ in range(trials * options.repetitions)]
    return {
        "case": name,
        "trials at a time": trials,
        "threads per trial": threads,
        "epochs per trial": options.epochs,
        "images per epoch": steps_for(case, options) * case.settings.batch_size,
        "seconds per trial": round(statistics.median(measured), 2),
        "trials per hour": round(3600 * trials / statistics.median(measured), 1),
    }


def wait_for_all(processes: list[Any]) -> None:
    """Wait until all processes have ended.

    Raises:
        RuntimeError: one has failed. The others are ended.
    """
    running = list(processes)
    try:
        while running:
            connection.wait([process.sentinel for process in running])
            ended = [process for process in running if not process.is_alive()]
            running = [process for process in running if process not in ended]
            for process in ended:
                if process.exitcode:
                    raise RuntimeError(f"one of {len(processes)} trials ended with status {process.exitcode}")
    finally:
        for process in running:
            process.kill()
            process.join()


def main() -> int:
    options = make_parser(__doc__)
    options.add_argument(
        "--at-once", type=int, nargs="+", help="trials at the same time; default on a CPU: all divisors of the threads"
    )
    options.add_argument("--epochs", type=int, default=10, help="epochs of a trial")
    options = options.parse_args()
    divisors = [count for count in range(1, options.threads + 1) if options.threads % count == 0]
    counts = options.at_once or ([1, 2, 4, 8] if options.device == "cuda" else divisors)
    pairs = [(name, count) for name in options.cases for count in counts]
    jobs = {f"{name}, {count} at a time": partial(measure_trials, name, count, options) for name, count in pairs}
    return measure_all(jobs, options)


if __name__ == "__main__":
    sys.exit(main())
