"""Steps of a measurement as child processes, which may fail, crash or hang without harm to one another.

A step is a list of jobs. Its process writes a line of JSON to the step's file before and after each job. If the process
ends or is silent for too long, the job that it was at has failed, and another process does the jobs that are left. A
step that is run again does only what has no result yet. This module does not import torch.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

Row = dict[str, Any]
Jobs = Mapping[str, Callable[[], Row]]

_PRELOADED = ["torch", "torchvision.transforms", "sklearn.datasets", "mgnas.search.training.trainer"]
_BROKEN_DEVICE = 3


@dataclass(frozen=True)
class Step:
    """A step: `module:function` gives its jobs for a Context.

    Args:
        seconds: that it may take.
        jobs: `module:function`.
        patience: seconds that a single job may take.
    """

    seconds: float
    jobs: str
    patience: float


@dataclass(frozen=True)
class Context:
    """What the jobs of a step know.

    Args:
        device: `cpu` or `cuda`.
        tiny: everything is as small as possible, to try it out.
        data: path of CIFAR-10, if there is one.
        published: name of the published row to train.
        deadline: of the step, a time of time.monotonic.
        path: the step's file.
        rows: results of earlier jobs of this step, by name.
    """

    device: str
    tiny: bool
    data: Path | None
    published: str
    deadline: float
    path: Path
    rows: dict[str, Row] = field(default_factory=dict)

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def write(self, job: str, row: Row) -> None:
        """Write a result of a job. It replaces earlier ones, and is replaced itself if it has `begun`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"job": job}) + "\n")


def read_rows(path: Path) -> tuple[dict[str, Row], Row | None]:
    """(the last line of each job, the line of the step's end if it has ended) of a step's file."""
    rows, end = {}, None
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # a line that was cut short
                row = json.loads(line)
                if "status" in row:
                    end = row
                else:
                    rows[row["job"]] = row
    return rows, end


def do_jobs(target: str, context: Context, log: str) -> None:
    """Do the jobs that have no line yet. This is the main function of a step's process."""
    os.setsid()  # so that the processes that jobs start can be ended with this one
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    if context.tiny:
        torch = importlib.import_module("torch")
        torch.set_num_threads(1)
    rows, _ = read_rows(context.path)
    context.rows.update(rows)
    module, _, function = target.partition(":")
    jobs: Jobs = getattr(importlib.import_module(module), function)(context)
    for name, job in jobs.items():
        if name in context.rows:
            continue
        context.write(name, {"begun": True})
        start = time.monotonic()
        row: Row
        try:
            row = job()
        except Exception as error:
            traceback.print_exc()
            row = {"failure": f"{type(error).__name__}: {error}"[:300]}
        row["seconds"] = round(time.monotonic() - start, 1)
        context.rows[name] = row
        context.write(name, row)
        if "CUDA error" in row.get("failure", "") and "out of memory" not in row["failure"]:
            os._exit(_BROKEN_DEVICE)  # no later call in this process would succeed


def run_step(name: str, step: Step, context: Context) -> Row:
    """Run a step to its end or to its deadline.

    Returns:
        The line of the step's end: its status, `done` or the reason why jobs are missing, and its seconds.
    """
    start = time.monotonic()
    rows, _ = read_rows(context.path)
    context.path.write_text("")
    for job, row in rows.items():
        if not row.get("begun") and "failure" not in row:
            context.write(job, {key: value for key, value in row.items() if key != "job"})
    end: Row = {"step": name}
    with tempfile.NamedTemporaryFile() as log:
        while reason := _run_process(step, context, log.name):
            rows, _ = read_rows(context.path)
            interrupted = {job: row for job, row in rows.items() if row.pop("begun", False)}
            output = Path(log.name).read_text(errors="replace")[-1500:].splitlines()
            for job, row in interrupted.items():
                context.write(job, {**row, "failure": reason, "output": output})
            if context.seconds_left() <= 0 or (not interrupted and reason != _describe(_BROKEN_DEVICE)):
                end["output"] = output
                break
    end |= {"status": reason or "done", "seconds": round(time.monotonic() - start, 1)}
    with context.path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(end) + "\n")
    return end


def start_server() -> None:
    """Start the process of which every step's process is a copy: it has imported torch, and has not used a GPU."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    first = context.Process(target=int)
    # The server would look for mgnas in the current folder first, where a checkout has only a part of it.
    with patch.dict(os.environ, PYTHONSAFEPATH="1"):
        first.start()
    first.join()


def _run_process(step: Step, context: Context, log: str) -> str | None:
    """Run one process of a step. Returns why it did not end by itself, None if it has done all jobs."""
    process = multiprocessing.get_context("forkserver").Process(target=do_jobs, args=(step.jobs, context, log))
    process.start()
    size, changed, reason = -1, time.monotonic(), None
    while process.is_alive() and reason is None:
        process.join(0.1)
        if size != (size := context.path.stat().st_size):
            changed = time.monotonic()
        if context.seconds_left() <= 0:
            reason = "its time was up"
        elif time.monotonic() - changed > step.patience:
            reason = f"silent for {step.patience:g} s"
    assert process.pid is not None  # it has been started
    with suppress(ProcessLookupError):  # none is left
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()
    return reason or (_describe(process.exitcode) if process.exitcode else None)


def _describe(status: int | None) -> str:
    return f"its process ended with status {status}"
