"""Workers, machines and time that fail under a running search, with real processes of Ray."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.cloudpickle

from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import cache_entry_of, load_dataset
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.training.trainer import Trainer
from mgnas.search.trial_record import TrialState
from mgnas.search.tuner import ray_tune as tuner
from mgnas.search.tuner.node import installed_versions
from mgnas.search.tuner.ray_tune import run_search
from mgnas.search.tuner.worker import TrialWorker

CONFIG = """
data: {name: digits}
space:
  fixed: {family: mgnet}
  parameters: {base_channels: [[4], [8], [12], [16], [4, 8], [8, 8]]}
training: {epochs: 8, batch_size: 64}
search: {trials: 6, sampler: random, loggers: []}
resources: {workers: 2}
"""


class CountingWorker(TrialWorker):
    """Notes every epoch that is really trained, with the process and the node that did it."""

    def step(self):
        result = super().step()
        line = f"{self.task.number} {len(result['curve'])} {os.getpid()} {ray.get_runtime_context().get_node_id()}\n"
        with (Path(self.task.checkpoint).parents[1] / "epochs.txt").open("a") as file:
            file.write(line)
        time.sleep(0.1)
        return result


class HangingWorker(TrialWorker):
    """Trial 1 hangs in Python, trial 2 is stopped by a signal that it cannot catch; the others end at once."""

    def step(self):
        if self.task.number == 1:
            while True:
                pass
        if self.task.number == 2:
            os.kill(os.getpid(), signal.SIGSTOP)
        curve = [0.5] * self.task.training.epochs
        return {"curve": curve, "loss": 1.0, "seconds": 0.1, "finished": True, "failure": None}


@pytest.fixture(autouse=True)
def _pickle_workers_of_this_file():
    module = sys.modules[CountingWorker.__module__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def new_run(tmp_path):
    def make(content: str = CONFIG, **changes):
        path = tmp_path / "faults.yaml"
        path.write_text(content)
        return RunDirectory.create(SearchConfig.load(path).override(**changes), tmp_path / "runs")

    return make


def trained(run) -> list[list[str]]:
    path = run.path / "epochs.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def when(condition, action, seconds: float = 240):
    """Do something from another thread as soon as a condition holds; returns the thread."""

    def wait():
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                action(found)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def assert_as_undisturbed(run, trials: int) -> None:
    """Every trial is complete, and its curve is that of a training that nothing has happened to."""
    records = run.load()
    assert [record.state for record in records] == [TrialState.COMPLETE] * trials, [r.reason for r in records]
    assert len({record.candidate.id for record in records}) == trials
    dataset = load_dataset(run.config.data)
    for record in records:
        candidate = record.candidate
        training = Trainer(candidate.architecture, candidate.training, dataset.train, dataset.validation, record.seed)
        assert record.curve == [training.run_epoch().accuracy for _ in range(candidate.training.epochs)]


def repeated_epochs(run) -> int:
    return sum(count - 1 for count in Counter((number, epoch) for number, epoch, *_ in trained(run)).values())


@pytest.mark.slow
def test_a_killed_worker_costs_at_most_one_epoch(new_run):
    run = new_run()
    killed = []

    def middle():
        return next((line for line in trained(run) if 2 <= int(line[1]) <= 5), None)

    def kill(line):
        killed.append(line)
        os.kill(int(line[2]), signal.SIGKILL)

    thread = when(middle, kill)
    run_search(run, worker=CountingWorker)
    thread.join()
    assert killed
    assert_as_undisturbed(run, 6)
    assert repeated_epochs(run) <= 1
    assert len({pid for number, _, pid, _ in trained(run) if number == killed[0][0]}) <= 2
    assert list((run.path / "trials").iterdir()) == []


class DyingAtHandoverWorker(TrialWorker):
    """Kills its process, which has ended another trial, while it is given trial 1 or the last one; once each."""

    def __init__(self, task):
        super().__init__(task)
        marker = Path(task.checkpoint).parents[1] / f"died-{task.number}"
        if task.number in (1, 3) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_dies_while_it_is_given_a_trial_costs_no_trial(new_run):
    run = new_run(trials=4, workers=1)
    run_search(run, worker=DyingAtHandoverWorker)
    assert {path.name for path in run.path.glob("died-*")} == {"died-1", "died-3"}
    assert_as_undisturbed(run, 4)


def memory() -> dict[str, int]:
    """Bytes of this machine's memory, from which Ray's memory monitor takes `MemTotal` and `MemAvailable`."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


class HungryWorker(TrialWorker):
    """Trial 1 takes memory until it is killed in its first process, trial 2 in all of its processes."""

    def step(self):
        attempts = Path(self.task.checkpoint).parents[1] / f"attempts-{self.task.number}.txt"
        with attempts.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if self.task.number == 2 or (self.task.number == 1 and len(attempts.read_text().splitlines()) == 1):
            # NOTE: Other programs may free memory meanwhile, so the amount that is enough is not known beforehand.
            hoard = []
            while memory()["MemAvailable"] > 2 * 2**30:
                hoard.append(np.ones(64 * 2**20, np.uint8))
            time.sleep(1)
        curve = [0.5] * self.task.training.epochs
        return {"curve": curve, "loss": 1.0, "seconds": 0.1, "finished": True, "failure": None}


@pytest.mark.slow
def test_a_worker_that_the_memory_monitor_kills_is_a_lost_worker(new_run, monkeypatch):
    free, total = memory()["MemAvailable"], memory()["MemTotal"]
    # Other programs of this machine may take this much during the test without costing its other trials their workers.
    room = min(free // 3, 4 * 2**30)
    if room < 2 * 2**30:
        pytest.skip("less than 6 GiB of memory are free")
    monkeypatch.setenv("RAY_memory_usage_threshold", str((total - free + room) / total))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    run = new_run(trials=4, workers=1)
    run_search(run, worker=HungryWorker)
    records = run.load()
    complete, failed = TrialState.COMPLETE, TrialState.FAILED
    assert [record.state for record in records] == [complete, complete, failed, complete], [r.reason for r in records]
    assert "the node running low on memory" in records[2].reason
    assert len(records[2].reason.splitlines()) == 1
    assert [len((run.path / f"attempts-{n}.txt").read_text().splitlines()) for n in range(4)] == [1, 2, 2, 1]


@pytest.mark.slow
def test_hanging_trials_are_ended_with_their_reason(new_run):
    run = new_run(time_limit=6.0)
    run_search(run, worker=HangingWorker)
    records = run.load()
    reasons = {record.number: record.reason for record in records if record.state is TrialState.FAILED}
    assert reasons == dict.fromkeys((1, 2), "over its time limit of 6 s (0 of 8 epochs done)")
    assert [record.state for record in records].count(TrialState.COMPLETE) == 4


# ------------------------------------------------------------------------------------------------------------- clusters


class Nodes:
    """Machines of a cluster as `ray start` makes them, all on this one; each is a session of its own."""

    def __init__(self, folder: Path) -> None:
        self.port, self.client_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder
        self.processes: list[subprocess.Popen] = []
        self._start(
            "--head",
            f"--port={self.port}",
            f"--ray-client-server-port={self.client_port}",
            "--num-cpus=0",
            "--include-dashboard=false",
        )
        wait_until(lambda: answers(self.port))

    def add(self, *options: str, prefix=(), **environment: str) -> subprocess.Popen:
        """A machine more; several that start at the same time would take each other's ports."""
        process = self._start(f"--address={self.address}", "--num-cpus=1", *options, prefix=prefix, **environment)
        log = self._folder / f"node-{len(self.processes) - 1}.txt"
        wait_until(lambda: "Ray runtime started" in log.read_text())
        assert process.poll() is None
        return process

    def _start(self, *options: str, prefix=(), **environment: str) -> subprocess.Popen:
        ray_command = str(Path(sys.executable).with_name("ray"))
        if not Path(ray_command).exists():
            ray_command = str(Path(ray.__file__).parents[4] / "bin" / "ray")
        fixed = ["--block", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--disable-usage-stats"]
        fixed += ["--min-worker-port=0", "--max-worker-port=0"]
        command = [*prefix, sys.executable, ray_command, "start", *options, *fixed]
        with (self._folder / f"node-{len(self.processes)}.txt").open("w") as log:
            process = subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.processes.append(process)
        return process

    def kill(self, process: subprocess.Popen) -> None:
        """As if the machine lost its power.

        The node is a session. Its workers have process groups of their own, and would otherwise train on for seconds.
        """
        listed = subprocess.run(["ps", "-A", "-o", "pid="], capture_output=True, text=True, check=True).stdout
        for pid in map(int, listed.split()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(pid) == process.pid:
                    os.kill(pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in reversed(self.processes):
            self.kill(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A head without room for trials; `add` adds machines."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    folder = tmp_path / "nodes"
    folder.mkdir()
    nodes = Nodes(folder)
    yield nodes
    ray.shutdown()
    nodes.close()


@pytest.mark.slow
def test_a_lost_node_costs_at_most_one_epoch_and_a_new_one_is_used(cluster, new_run, tmp_path):
    first = cluster.add()
    run = new_run(storage=f"file://{tmp_path}/storage", workers=2)
    events = []

    def replace(line):
        cluster.kill(first)
        events.append(("lost", line))
        cluster.add()
        events.append(("joined", None))

    # CountingWorker writes beside the checkpoints; with a storage of its own that is the storage's folder.
    log = tmp_path / "storage" / "epochs.txt"
    run_epochs = lambda: [line.split() for line in log.read_text().splitlines()] if log.exists() else []  # noqa: E731
    thread = when(lambda: next((line for line in run_epochs() if int(line[1]) == 3), None), replace)
    run_search(run, address=cluster.address, worker=StorageCountingWorker)
    thread.join()
    assert [what for what, _ in events] == ["lost", "joined"]
    assert_as_undisturbed(run, 6)
    lines = run_epochs()
    assert len({node for *_, node in lines}) == 2
    counts = Counter((number, epoch) for number, epoch, *_ in lines)
    assert sum(count - 1 for count in counts.values()) <= 1
    assert list((tmp_path / "storage").rglob("*.pt")) == []


class StorageCountingWorker(TrialWorker):
    """As CountingWorker, in the folder of a storage address."""

    def step(self):
        result = super().step()
        line = f"{self.task.number} {len(result['curve'])} {os.getpid()} {ray.get_runtime_context().get_node_id()}\n"
        folder = Path(self.task.checkpoint.removeprefix("file://")).parents[1]
        with (folder / "epochs.txt").open("a") as file:
            file.write(line)
        time.sleep(0.1)
        return result


@pytest.mark.slow
def test_three_nodes_complete_a_search_on_digits_with_one_of_them_lost(cluster, tmp_path):
    nodes = [cluster.add() for _ in range(3)]
    config = SearchConfig.load(Path(__file__).parents[2] / "configs" / "digits.yaml")
    changes = {"trials": 9, "prior": "none", "sampler": "random", "workers": 3}
    changes |= {"storage": f"file://{tmp_path}/storage"}
    run = RunDirectory.create(config.override(**changes), tmp_path / "runs")
    log = tmp_path / "storage" / "epochs.txt"
    lost = []

    def busy() -> bool:
        lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        return len({node for *_, node in lines}) == 3

    def lose(_) -> None:
        lost.append(True)
        cluster.kill(nodes[1])

    thread = when(busy, lose)
    run_search(run, address=cluster.address, worker=StorageCountingWorker)
    thread.join()
    assert lost
    assert_as_undisturbed(run, 9)
    counts = Counter(tuple(line.split()[:2]) for line in log.read_text().splitlines())
    assert sum(count - 1 for count in counts.values()) <= 1


@pytest.mark.slow
def test_images_reach_nodes_that_cannot_read_them(cluster, new_run, tmp_path, write_npz, numbered):
    images = numbered((30, 30))
    path = write_npz(train_images=images.images[:, 0], train_labels=images.labels)
    cluster.add(MGNAS_CACHE=str(tmp_path / "other-cache"))
    content = CONFIG.replace("{name: digits}", f"{{name: npz, path: {path}}}").replace("epochs: 8", "epochs: 1")
    run = new_run(content, trials=2)
    load_dataset(run.config.data)
    entry = cache_entry_of(run.config.data)
    # The node finds neither the file by its path, nor an entry in its cache.
    source = Path(path)
    when(lambda: (tmp_path / "other-cache" / f"{entry}.lock").exists(), lambda _: source.rename(f"{source}.away"))
    run_search(run, address=cluster.address)
    assert [(record.state, record.reason) for record in run.load()] == [(TrialState.COMPLETE, "")] * 2
    assert (tmp_path / "other-cache" / entry / "train_images.npy").exists()


@pytest.mark.slow
def test_nodes_with_other_versions_are_refused(cluster, new_run, refusal, monkeypatch):
    # All nodes of this test have the same packages; it is the driver that believes to have others.
    monkeypatch.setattr(tuner, "installed_versions", lambda: installed_versions() | {"mgnas": "99.1"})
    run = new_run()
    cluster.add()
    message = refusal(lambda: run_search(run, address=cluster.address))
    here = installed_versions()["mgnas"]
    assert f"has mgnas {here} instead of 99.1; install the same versions on all nodes" in message
    assert run.load() == []


@pytest.mark.slow
def test_a_search_from_outside_the_cluster(cluster, new_run, tmp_path):
    pytest.importorskip("grpc")
    cluster.add()
    run = new_run(storage=f"file://{tmp_path}/storage")
    run_search(run, address=f"ray://127.0.0.1:{cluster.client_port}")
    assert_as_undisturbed(run, 6)


@pytest.mark.slow
def test_a_cluster_without_tokens_is_used_after_a_search_on_this_machine(cluster, new_run, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray looks for a token there.
    run_search(new_run(trials=1))
    cluster.add()
    run = new_run(trials=2)
    run_search(run, address=cluster.address)
    assert_as_undisturbed(run, 2)
