"""Tasks on a real Ray: results, and workers that die."""

import pytest

from mgnas.machine import usable_cores
from mgnas.search.config import Resources
from mgnas.search.tuner.gpu_share import Gpu, GpuNode, MemoryNeed
from mgnas.search.tuner.task_pool import run_tasks

NEED = MemoryNeed("MgNet", 128, 2**30)


def test_every_call_ends_with_its_result_or_with_the_reason_why_there_is_none(tmp_path):
    def work(number: int, folder: str, resources: Resources) -> int:
        import os
        import pathlib

        (pathlib.Path(folder) / f"{number}-{os.getpid()}").touch()
        if number == 1:
            raise ValueError("a bug in the task")
        if number == 2:
            os._exit(1)
        return 10 * number

    outcomes = run_tasks(
        work, [(number, str(tmp_path)) for number in range(4)], Resources(workers=2), None, lambda: NEED
    )
    results = {index: (result, reason) for index, result, reason in outcomes}
    assert (results[0], results[3]) == ((0, ""), (30, ""))
    for index in (1, 2):
        result, reason = results[index]
        assert result is None
        assert reason.startswith("the worker died: ")
        assert len(reason.splitlines()) == 1
    # A process that dies is started once more; an exception is final.
    starts = [path.name.split("-")[0] for path in tmp_path.iterdir()]
    assert (starts.count("1"), starts.count("2")) == (1, 2)


def test_without_a_number_of_workers_there_are_as_many_calls_at_once_as_cores(tmp_path):
    def work(number: int, folder: str, resources: Resources) -> int:
        import pathlib
        import time

        own = pathlib.Path(folder) / str(number)
        own.touch()
        time.sleep(0.3)
        at_once = len(list(pathlib.Path(folder).iterdir()))
        own.unlink()
        return at_once

    cores = usable_cores()
    calls = [(number, str(tmp_path)) for number in range(4 * cores)]
    counts = [result for _, result, _ in run_tasks(work, calls, Resources(), None, lambda: NEED)]
    assert None not in counts
    assert max(count for count in counts if count) <= cores


def test_no_calls_need_no_cluster():
    assert list(run_tasks(print, [], Resources(gpus_per_trial=64.0), None, lambda: NEED)) == []


def processes(resources: Resources, lister) -> list[tuple[int, float]]:
    """(process, GPUs) of three calls, one after the other."""

    def process(resources: Resources) -> tuple[int, float]:
        import os

        return os.getpid(), resources.gpus

    outcomes = run_tasks(process, [()] * 3, resources, None, lambda: NEED, lister)
    return [result for _, result, _ in outcomes if result is not None]


@pytest.mark.slow
def test_calls_on_gpus_have_a_process_each(monkeypatch):
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1}')
    nodes = [GpuNode("here", 2, (Gpu("Card", 80 * 2**30),))]
    on_gpus = processes(Resources(workers=1, gpus_per_trial=0.5), lambda cluster: nodes)
    assert [gpus for _, gpus in on_gpus] == [0.5] * 3
    assert len({pid for pid, _ in on_gpus}) == 3
    on_cpus = processes(Resources(workers=1, gpus_per_trial=0.0), lambda cluster: nodes)
    assert [gpus for _, gpus in on_cpus] == [0.0] * 3


def test_where_a_runs_gpus_are_missing_the_calls_run_on_cpus(monkeypatch):
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 0}')
    results = processes(Resources(workers=1, gpus_per_trial=0.5), lambda cluster: [])
    assert [gpus for _, gpus in results] == [0.0] * 3
