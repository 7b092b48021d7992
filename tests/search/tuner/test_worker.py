"""What a worker does with a trial, whatever it meets."""

import copy
import dataclasses
import os
import pickle
import socket
import types
from pathlib import Path

import pytest
import torch

from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.trainer import Trainer
from mgnas.search.tuner.worker import TrialTask, TrialWorker, set_determinism
from mgnas.space import TrainingSettings

DATA = DataSettings(name="digits", train_images=600)
RECIPE = TrainingSettings(epochs=3, batch_size=16, learning_rate=0.2)


@pytest.fixture
def make_task(tmp_path, tiny):
    def make(**changes) -> TrialTask:
        task = TrialTask(5, tiny(base_channels=(8,)), RECIPE, DATA, seed=8, checkpoint=str(tmp_path / "trial.pt"))
        return dataclasses.replace(task, **changes)

    return make


@pytest.fixture
def expected(make_task):
    """What a run without workers, checkpoints and interruptions brings: (curve, losses)."""
    task = make_task()
    dataset = load_dataset(task.data)
    run = Trainer(task.architecture, task.training, dataset.train, dataset.validation, task.seed)
    results = [run.run_epoch() for _ in range(3)]
    assert len({result.accuracy for result in results}) == 3, "a curve that repeats itself shows no mistake"
    return [result.accuracy for result in results], [result.loss for result in results]


def steps(worker: TrialWorker) -> list[dict]:
    """The results until the trial has ended."""
    results = [worker.step()]
    while not results[-1]["finished"] and results[-1]["failure"] is None:
        results.append(worker.step())
    return results


def stored_epochs(task: TrialTask) -> int:
    return len(torch.load(task.checkpoint, weights_only=True)["history"])


def failure(task: TrialTask) -> str:
    """The reason why the first step fails."""
    return _reason(task, "failure")


def stop(task: TrialTask) -> str:
    """The reason why the first step can be taken by no trial."""
    return _reason(task, "stop")


def _reason(task: TrialTask, key: str) -> str:
    result = TrialWorker(task).step()
    reason, result[key] = result[key], None
    nothing = {"curve": [], "loss": None, "seconds": 0.0, "finished": False}
    assert result == nothing | {"failure": None, "stop": None, "note": ""}
    assert len(reason.splitlines()) == 1
    return reason


def test_copies_of_a_config_share_the_task(make_task):
    config = {"weights": 8, "task": make_task()}
    copied = copy.deepcopy(config)
    assert copied is not config
    assert copied["task"] is config["task"]


def test_every_step_is_an_epoch_and_reports_the_whole_curve(make_task, expected):
    curve, losses = expected
    results = steps(TrialWorker(make_task()))
    assert [result["curve"] for result in results] == [curve[:1], curve[:2], curve]
    assert [result["loss"] for result in results] == losses
    assert [result["finished"] for result in results] == [False, False, True]
    assert [result["failure"] for result in results] == [None] * 3
    assert 0 < results[0]["seconds"] < results[1]["seconds"] < results[2]["seconds"]


def test_the_checkpoint_holds_every_epoch_as_soon_as_it_is_reported(make_task):
    worker, task = TrialWorker(make_task()), make_task()
    for epoch in (1, 2, 3):
        worker.step()
        assert stored_epochs(task) == epoch


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_second_worker_goes_on_where_the_first_has_stopped(make_task, expected, epochs):
    first = TrialWorker(make_task())
    seconds = [first.step()["seconds"] for _ in range(epochs)][-1]
    results = steps(TrialWorker(make_task()))
    assert [result["curve"] for result in results] == [expected[0][: epochs + i + 1] for i in range(3 - epochs)]
    assert results[0]["seconds"] > seconds


def test_a_finished_trial_is_not_trained_further(make_task):
    task = make_task()
    last = steps(TrialWorker(task))[-1]
    content = Path(task.checkpoint).read_bytes()
    for worker in (TrialWorker(task), TrialWorker(task)):
        assert worker.step() == last
        assert worker.step() == last
    assert Path(task.checkpoint).read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: content[:100], id="cut short"),
        pytest.param(lambda content: content[: len(content) // 2], id="halved"),
        pytest.param(lambda content: content[:-1], id="last byte lost"),
        pytest.param(lambda content: b"\0" * len(content), id="zeros"),
        pytest.param(lambda content: b"hello", id="text"),
        pytest.param(lambda content: pickle.dumps([1, 2], protocol=2), id="pickle"),
    ],
)
def test_a_damaged_checkpoint_is_started_anew(make_task, expected, damage):
    task = make_task()
    TrialWorker(task).step()
    checkpoint = Path(task.checkpoint)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    results = steps(TrialWorker(task))
    assert [result["curve"] for result in results] == [expected[0][:1], expected[0][:2], expected[0]]
    assert [result["loss"] for result in results] == expected[1]


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {},
        torch.zeros(3),
        None,
        {"model": {}, "optimizer": {}, "history": []},
        {"model": 1, "optimizer": 2, "history": 3},
    ],
    ids=str,
)
def test_a_checkpoint_of_something_else_is_started_anew(make_task, expected, content):
    torch.save(content, make_task().checkpoint)
    assert steps(TrialWorker(make_task()))[-1]["curve"] == expected[0]


def test_another_networks_checkpoint_is_started_anew(make_task, expected, tiny):
    TrialWorker(make_task(architecture=tiny(base_channels=(4, 8)))).step()
    assert steps(TrialWorker(make_task()))[-1]["curve"] == expected[0]


def test_a_checkpoint_with_a_history_that_does_not_fit_is_started_anew(make_task, expected):
    task = make_task()
    TrialWorker(task).step()
    content = torch.load(task.checkpoint, weights_only=True)
    content["history"][0]["lnss"] = content["history"][0].pop("loss")
    torch.save(content, task.checkpoint)
    assert steps(TrialWorker(task))[-1]["curve"] == expected[0]


def test_missing_data_stop_the_search_as_every_trial_would_miss_them(make_task, tmp_path):
    path = str(tmp_path / "none.npz")
    reason = stop(make_task(data=DataSettings(name="npz", path=path)))
    assert reason == f"{path}: no such file (data.path), on {socket.gethostname()}"


def test_divergence_is_a_failure(make_task):
    recipe = TrainingSettings(epochs=30, batch_size=64, learning_rate=1e6, gradient_clip=0.0, warmup_epochs=0.0)
    last = steps(TrialWorker(make_task(training=recipe)))[-1]
    assert not last["finished"]
    assert last["failure"].startswith("the loss became ")


def test_a_network_that_does_not_fit_the_images_is_a_failure(make_task, tiny):
    assert failure(make_task(architecture=tiny(in_channels=3))).startswith("RuntimeError: ")


def test_a_checkpoint_that_cannot_be_written_stops_the_search(make_task, tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "trial.pt"
    reason = stop(make_task(checkpoint=str(path)))
    assert reason == f"{path}: cannot be written (Not a directory), on {socket.gethostname()}"


@pytest.mark.parametrize("damage", [b"", b"hello", None], ids=["empty", "text", "halved"])
def test_a_damaged_checkpoint_costs_one_epoch_and_says_so(make_task, expected, damage):
    first = TrialWorker(make_task())
    first.step()
    first.step()
    checkpoint = Path(make_task().checkpoint)
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    results = steps(TrialWorker(make_task(epochs_done=2)))
    assert [result["curve"] for result in results] == [expected[0][:2], expected[0]]
    assert [result["loss"] for result in results] == expected[1][1:]
    assert results[0]["note"] == "1 of its checkpoints damaged, epochs 2 to 2 repeated"
    assert results[1]["note"] == ""


def test_a_lost_checkpoint_is_said(make_task, expected):
    results = steps(TrialWorker(make_task(epochs_done=2)))
    assert results[0]["note"] == "its checkpoint lost, epochs 1 to 2 repeated"
    assert results[-1]["curve"] == expected[0]


def test_a_checkpoint_at_an_address_goes_on_elsewhere(make_task, expected, tmp_path):
    for protocol in ("file", "local"):  # pyarrow's own, and one that only fsspec knows
        task = make_task(checkpoint=f"{protocol}://{tmp_path}/{protocol}/00005.pt")
        first = TrialWorker(task)
        first.step()
        first.step()
        assert sorted(path.name for path in (tmp_path / protocol).iterdir()) == ["00005.previous.pt", "00005.pt"]
        again = TrialWorker(dataclasses.replace(task, epochs_done=2))
        last = again.step()
        assert last["curve"] == expected[0]
        assert last["note"] == ""


def test_an_address_that_cannot_be_used_stops_the_search(make_task, tmp_path, monkeypatch):
    monkeypatch.setattr("mgnas.search.storage.checkpoints._TRIES", 1)
    (tmp_path / "file").write_text("")
    address = f"file://{tmp_path}/file/00005.pt"
    assert stop(make_task(checkpoint=address)).startswith(f"{address}: cannot be written (")


def test_a_trials_threads_are_those_of_its_task(make_task):
    TrialWorker(make_task(threads=2, data=DataSettings(name="digits", train_images=20))).step()
    assert torch.get_num_threads() == 2


@pytest.fixture
def shares(monkeypatch) -> list[float]:
    """The shares of a GPU with 10,000 MiB that PyTorch's allocator is given."""
    given = []
    gpu = types.SimpleNamespace(total_memory=10_000 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    return given


def test_every_trial_on_a_gpu_is_held_to_its_share_of_the_memory(make_task, shares):
    for gpus in (0.25, 1.0, 0.5, 2.0):
        TrialWorker(make_task(gpus=gpus)).step()
    assert shares == pytest.approx([0.25 - 0.07, 1.0, 0.5 - 0.07, 1.0])


def test_a_trial_on_the_cpu_touches_no_gpu(make_task, shares):
    assert TrialWorker(make_task()).step()["failure"] is None
    assert shares == []


class FailingWorker(TrialWorker):
    """Fails as CUDA does after a kernel has read beyond its memory."""

    def _prepare(self):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")


@pytest.mark.parametrize("works", [False, True], ids=["broken", "works"])
def test_after_a_failure_on_a_gpu_the_result_says_whether_the_gpu_still_works(make_task, monkeypatch, works):
    def synchronize() -> None:
        if not works:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    result = FailingWorker(make_task(gpus=0.5)).step()
    assert result["failure"] == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert ("broken" in result) is not works
    assert "broken" not in FailingWorker(make_task()).step(), "a trial on the CPU"


def deterministic_now() -> bool:
    return torch.are_deterministic_algorithms_enabled()


def test_determinism_is_switched_on_and_off_again(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    set_determinism(False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    try:
        set_determinism(True)
        assert deterministic_now()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        set_determinism(False)
    assert not deterministic_now()


def test_a_users_own_workspace_is_kept(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    try:
        set_determinism(True)
    finally:
        set_determinism(False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize("before", [False, True])
def test_on_a_cpu_determinism_needs_no_setting_and_none_is_left_from_an_earlier_trial(make_task, expected, before):
    try:
        torch.use_deterministic_algorithms(before)
        results = steps(TrialWorker(make_task(deterministic=True)))
        assert not deterministic_now()
    finally:
        torch.use_deterministic_algorithms(False)
    assert ([result["curve"] for result in results][-1], [result["loss"] for result in results]) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_deterministic_trial_repeats_itself_bit_for_bit(make_task, tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    weights = []
    try:
        for name in ("first.pt", "second.pt"):
            task = make_task(gpus=1.0, deterministic=True, checkpoint=str(tmp_path / name))
            assert steps(TrialWorker(task))[-1]["finished"]
            assert deterministic_now()
            assert not torch.backends.cudnn.benchmark
            weights.append(torch.load(task.checkpoint, weights_only=True)["model"])
        steps(TrialWorker(make_task(gpus=1.0)))
        assert not deterministic_now()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_search_is_deterministic_on_a_gpu_if_it_says_so(small_search):
    assert not small_search().resources.deterministic
    assert small_search(resources={"deterministic": True}).resources.deterministic


def test_a_task_survives_its_way_to_another_process(make_task):
    task = make_task()
    assert pickle.loads(pickle.dumps(task)) == task
