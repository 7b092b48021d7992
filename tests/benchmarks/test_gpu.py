"""benchmarks/gpu.py: every step runs, and none can spoil another."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from without_ray import ROOT, environment_without_ray

sys.path.insert(0, str(ROOT / "benchmarks"))
sys.path.insert(0, str(ROOT / "benchmarks" / "training"))
import gpu
from steps import Context, Step, read_rows

FAKES = """
import os, signal, time

def sound(context):
    return {"a": lambda: {"value": 1}, "b": lambda: {"value": context.rows["a"]["value"] + 1}}

def failing(context):
    def fail():
        raise ValueError("too large")
    return {"a": fail, "b": lambda: {"value": 2}}

def crashing(context):
    return {"a": lambda: os.kill(os.getpid(), signal.SIGSEGV), "b": lambda: {"value": 2}}

def hanging(context):
    return {"a": lambda: {"value": 1}, "b": lambda: time.sleep(100), "c": lambda: {"value": 3}}

def with_broken_gpu(context):
    def fail():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    return {"a": fail, "b": lambda: {"process": os.getpid()}, "c": lambda: {"process": os.getpid()}}

def broken(context):
    raise ImportError("no such module")

def slow(context):
    return {f"{number}": lambda: time.sleep(0.5) or {"value": 1} for number in range(100)}
"""


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Names of fakes, seconds -> exit status; `rows` of a step."""
    (tmp_path / "fakes.py").write_text(FAKES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(gpu, "_RESERVE", 0)
    folder = tmp_path / "out"
    folder.mkdir()

    def run(*names: str, patience: float = 60, limit: float = 60, seconds: float = 120) -> int:
        steps = {name: Step(limit, f"fakes:{name}", patience) for name in names}
        context = Context("cuda", False, None, "", 0.0, folder)
        return gpu.run_steps(steps, context, time.monotonic() + seconds)

    return run


def results(tmp_path: Path, step: str) -> tuple[dict[str, dict], str]:
    """(what each job has measured or why it failed, the step's status)."""
    rows, end = read_rows(tmp_path / "out" / f"{step}.jsonl")
    left_out = ("job", "seconds", "output")
    return {job: {k: v for k, v in row.items() if k not in left_out} for job, row in rows.items()}, end["status"]


@pytest.mark.slow
def test_steps_that_fail_crash_or_hang_leave_the_others_alone(measure, tmp_path, capsys):
    names = ("failing", "crashing", "hanging", "broken", "sound")
    assert measure(*names, patience=2) == 1
    assert results(tmp_path, "failing") == ({"a": {"failure": "ValueError: too large"}, "b": {"value": 2}}, "done")
    crash = {"failure": "its process ended with status -11"}
    assert results(tmp_path, "crashing") == ({"a": crash, "b": {"value": 2}}, "done")
    hang = {"failure": "silent for 2 s"}
    assert results(tmp_path, "hanging") == ({"a": {"value": 1}, "b": hang, "c": {"value": 3}}, "done")
    assert results(tmp_path, "broken") == ({}, "its process ended with status 1")
    assert results(tmp_path, "sound") == ({"a": {"value": 1}, "b": {"value": 2}}, "done")
    printed = capsys.readouterr().out
    assert "no such module" in printed
    assert "## sound: done" in printed
    assert (tmp_path / "out" / "summary.md").read_text() in printed


def test_after_an_error_of_the_gpu_a_new_process_goes_on(measure, tmp_path):
    assert measure("with_broken_gpu") == 1
    rows, status = results(tmp_path, "with_broken_gpu")
    assert "illegal memory access" in rows["a"]["failure"]
    assert rows["b"] == rows["c"], "one process for both"
    assert status == "done"


def test_a_step_that_takes_too_long_is_cut_off_and_continued(measure, tmp_path):
    assert measure("slow", "sound", limit=2) == 1
    rows, status = results(tmp_path, "slow")
    assert status == "its time was up"
    measured = [job for job, row in rows.items() if row == {"value": 1}]
    assert 1 <= len(measured) <= 4
    sound = (tmp_path / "out" / "sound.jsonl").read_text()
    assert measure("slow", "sound", limit=2) == 1
    rows, _ = results(tmp_path, "slow")
    assert len(measured) < sum(row == {"value": 1} for row in rows.values()) <= 8
    assert list(rows)[: len(measured)] == measured
    assert (tmp_path / "out" / "sound.jsonl").read_text() == sound, "what is done is not repeated"


def test_the_whole_ends_in_time(measure, tmp_path):
    start = time.monotonic()
    assert measure("slow", "hanging", "sound", seconds=3) == 1
    assert time.monotonic() - start < 20
    assert not (tmp_path / "out" / "sound.jsonl").exists()
    assert "## sound: not run" in (tmp_path / "out" / "summary.md").read_text()


def test_the_summary_is_short_and_failures_come_first(tmp_path):
    for name in gpu.STEPS:
        rows = [{"job": f"job {n}", "value": "x" * 150, "ways": list(range(100)), "seconds": 1.0} for n in range(200)]
        rows[150]["failure"] = "wrong " * 60
        lines = [*rows, {"step": name, "status": "done", "seconds": 9.0}]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text, complete = gpu.summary(tmp_path, gpu.STEPS, Context("cuda", False, None, "", 0.0, tmp_path))
    assert len(text) < 12_000
    assert not complete
    for name in gpu.STEPS:
        section = text.partition(f"## {name}: done, 9 s, 200 jobs, 1 failed")[2]
        assert section.index("job 150") < section.index("more in " + name)


def test_all_steps_run_on_a_machine_without_ray_and_optuna(tmp_path):
    """On a CPU, as small as possible. It takes 20 s."""
    rng = np.random.default_rng(0)
    images = {"train_images": rng.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8), "train_labels": np.arange(40) % 10}
    images |= {"test_images": rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), "test_labels": np.arange(20) % 10}
    np.savez(tmp_path / "cifar10.npz", **images)
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--device", "cpu", "--tiny"]
    command += ["--data", tmp_path / "cifar10.npz", "--out", tmp_path / "out"]
    ended = subprocess.run(
        command, env=environment_without_ray(tmp_path), capture_output=True, text=True, timeout=560, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["summary.md", *(f"{name}.jsonl" for name in gpu.STEPS)]
    )
    for name in gpu.STEPS:
        rows, status = results(tmp_path, name)
        assert status == "done"
        assert rows
        assert [row for row in rows.values() if "failure" in row] == []
    assert len(ended.stdout) < 12_000


@pytest.mark.slow
def test_the_tests_for_gpus_can_be_collected_without_ray_and_optuna(tmp_path):
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "tests/models", "tests/search/training"]
    ended = subprocess.run(
        command, env=environment_without_ray(tmp_path), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "test_recorded_steps" in ended.stdout


@pytest.mark.parametrize("arguments", [["--device", "cpu"], ["--steps", "no-such-step"], []])
def test_wrong_arguments_are_refused(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.parse([*arguments, *(["--out", str(tmp_path)] if arguments else [])])
    assert "error:" in capsys.readouterr().err
