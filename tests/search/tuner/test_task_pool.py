"""Tasks on a real Ray: results, and workers that die."""

from mgnas.search.config import Resources
from mgnas.search.tuner.task_pool import run_tasks


def test_every_call_ends_with_its_result_or_with_the_reason_why_there_is_none(tmp_path):
    def work(number: int, folder: str) -> int:
        import os
        import pathlib

        (pathlib.Path(folder) / f"{number}-{os.getpid()}").touch()
        if number == 1:
            raise ValueError("a bug in the task")
        if number == 2:
            os._exit(1)
        return 10 * number

    outcomes = run_tasks(work, [(number, str(tmp_path)) for number in range(4)], Resources(workers=2), None)
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


def test_no_calls_need_no_cluster():
    assert list(run_tasks(print, [], Resources(gpus_per_trial=64.0), None)) == []
