"""Training steps that are compiled or recorded, against those executed operation by operation.

A CUDA graph replays the same kernels on the same memory. A `Recording` does that on a CPU with PyTorch's operations, so
it shows whether a step takes anything from the host that changes from step to step.
"""

import gc
import logging
import weakref

import pytest
import torch

# NOTE: Private modules, because torch has no public way to see every operation with its operands.
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mgnas.models import ArchitectureConfig
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.execution import RecordingError, StepRunner, _cause, make_forward, make_runner
from mgnas.search.training.trainer import Trainer
from mgnas.search.tuner.worker import set_determinism
from mgnas.space import TrainingSettings

MGIAD = ArchitectureConfig(
    family="mgiad", base_channels=(8, 16), in_channels=1, group_size=4, fully_coupled_channels=4, smoothing_steps=1
)
ADAMW = {"optimizer": "adamw", "learning_rate": 0.003}
CPU = torch.device("cpu")
PRECISIONS = ["float32", "bfloat16", "float16"]


class Recording(TorchDispatchMode):
    """A context that records the operations in it. `replay` repeats them on the memory that they worked on."""

    def __init__(self) -> None:
        super().__init__()
        self._operations, self._made, self._before = [], set(), {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        for tensor in tensors_in((args, kwargs)):
            if id(tensor) not in self._made and id(tensor) not in self._before:
                self._before[id(tensor)] = tensor, tensor.detach().clone()
        result = operation(*args, **(kwargs or {}))
        # Ids stay unique, because all tensors are kept.
        self._made |= {id(tensor) for tensor in tensors_in(result)} - self._before.keys()
        self._operations.append((operation, args, kwargs or {}, result))
        return result

    def undo(self) -> None:
        """Return the memory to what it was before the recording. Recording a CUDA graph executes nothing."""
        with torch.no_grad():
            for tensor, value in self._before.values():
                tensor.copy_(value)

    def replay(self) -> None:
        with torch.no_grad():
            for operation, args, kwargs, result in self._operations:
                for old, new in zip(tensors_in(result), tensors_in(operation(*args, **kwargs)), strict=True):
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)


def tensors_in(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Recorder:
    """Records steps on a CPU."""

    def __init__(self) -> None:
        self.warm_ups = self.recordings = self.replays = 0

    def warm_up(self, step):
        self.warm_ups += 1
        step()

    def record(self, step):
        self.recordings += 1
        recording = Recording()
        with recording:
            step()
        recording.undo()

        def replay():
            self.replays += 1
            recording.replay()

        return replay


@pytest.fixture(scope="module")
def data():
    return load_dataset(DataSettings(name="digits", train_images=400))


@pytest.fixture
def start(data):
    """Keywords of the recipe -> a trainer on 11 batches of 32 digits."""

    def make(execution="eager", device="cpu", precision="float32", **changes):
        recipe = {"epochs": 4, "batch_size": 32, "crop_padding": 1, "flip": True, "cutout": 2, "ema_decay": 0.9}
        settings = TrainingSettings(**recipe | changes)
        return Trainer(MGIAD, settings, data.train, data.validation, 0, device, precision, execution)

    return make


@pytest.fixture
def recorded(start):
    """Keywords of the recipe -> a trainer whose images lie on the device, and whose steps are recorded on a CPU."""

    def make(**keywords):
        trainer = start(**keywords)
        trainer._train.resident = torch.from_numpy(trainer._train._images.images)
        trainer._runner.recorder = Recorder()
        return trainer

    return make


def trained(trainer, epochs=2):
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def assert_same_state(trainer, other):
    for name, value in trainer.trained_model.state_dict().items():
        assert torch.equal(value, other.trained_model.state_dict()[name]), name
    assert [result.loss for result in trainer.history] == [result.loss for result in other.history]


# ------------------------------------------------------------------------------------------------------------ recording


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_replayed_step_does_what_an_executed_one_does_bit_for_bit(start, recorded, gpu_form, precision):
    trainer = trained(recorded(precision=precision))
    recorder = trainer._runner.recorder
    assert (recorder.warm_ups, recorder.recordings) == (3, 1)
    assert recorder.replays == 2 * (len(trainer._train) // 32) - 3
    assert_same_state(trainer, trained(start(precision=precision)))


@pytest.mark.parametrize(
    "changes",
    [
        {"momentum": 0.0},
        {"gradient_clip": 0.0},
        {"ema_decay": 0.0},
        {"cutout": 0},
        {"mixup": 0.3, "cutmix": 1.0},
        {"crop_padding": 0, "random_resized_crop": 0.3, "augmentation": "standard"},
        ADAMW,
        ADAMW | {"precision": "float16"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_recipe_can_be_recorded(start, recorded, changes):
    assert_same_state(trained(recorded(**changes)), trained(start(**changes)))


def test_images_that_do_not_fit_on_the_device_are_fetched_before_each_step(start, recorded):
    trainer, batches = recorded(), set()
    trainer._train.resident = None
    trainer._step.keeps_batch = True
    fetch = trainer._step.fetch

    def noted():
        fetch()
        batches.add(trainer._step._batch.data_ptr())

    trainer._step.fetch = noted
    assert_same_state(trained(trainer), trained(start()))
    assert len(batches) == 1


@pytest.mark.parametrize("augmentation", ["trivial", "autoaugment"])
@pytest.mark.parametrize("resident", [True, False])
def test_a_policy_comes_before_the_recorded_step(start, recorded, augmentation, resident):
    trainer = recorded(augmentation=augmentation, mixup=0.2)
    trainer._step.keeps_batch = True
    if not resident:
        trainer._train.resident = None
    assert_same_state(trained(trainer), trained(start(augmentation=augmentation, mixup=0.2)))
    assert trainer._runner.recorder.recordings == 1


def test_a_restored_training_records_anew(start, recorded, tmp_path):
    whole, first = trained(start(), 3), trained(recorded(), 1)
    first.save(tmp_path / "run.pt")
    trained(first, 1)
    first.load(tmp_path / "run.pt")
    trained(first, 2)
    assert first._runner.recorder.recordings == 2
    assert_same_state(first, whole)


def test_a_trainer_is_gone_when_nothing_refers_to_it(start, recorded):
    """With its recording, whose memory a GPU needs for the next trial. No garbage collection is awaited."""
    for make in (start, recorded):
        trainer = trained(make(), 1)
        references = [weakref.ref(trainer.model), weakref.ref(trainer.optimizer), weakref.ref(trainer._step)]
        gc.disable()
        try:
            del trainer
            assert [reference() for reference in references] == [None] * 3
        finally:
            gc.enable()


def test_a_step_that_cannot_be_recorded_is_executed_and_the_epoch_starts_over(start, recorded, caplog):
    trainer = recorded()

    def fail(step):
        step()  # Python's part of a recording is executed, and changes states of objects.
        raise RecordingError("RuntimeError: operation not permitted when stream is capturing")

    trainer._runner.recorder.record = fail
    with caplog.at_level(logging.WARNING):
        trained(trainer)
    assert [record.getMessage() for record in caplog.records] == [
        "CUDA graphs cannot be used (RuntimeError: operation not permitted when stream is capturing); "
        "epoch 1 starts over"
    ]
    assert_same_state(trainer, trained(start()))


def test_a_recording_that_runs_out_of_memory_is_repeated_in_a_later_epoch(start, recorded):
    trainer, recorder = recorded(), Recorder()
    record, calls = recorder.record, []

    def fail_once(step):
        calls.append(step)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return record(step)

    recorder.record, trainer._runner.recorder = fail_once, recorder
    trained(trainer, 1)
    assert (trainer._step.offloads, recorder.recordings) == (True, 0)
    trained(trainer, 1)
    assert (trainer._step.offloads, recorder.recordings) == (False, 1)
    assert_same_state(trainer, trained(start()))


class BrokenCapture:
    """Ends as torch.cuda.graph does if an error has broken the recording off: with another error."""

    def __enter__(self):
        pass

    def __exit__(self, *_):
        raise RuntimeError("CUDA error: operation failed due to a previous error during capture")


def error_of_a_broken_capture(first: Exception) -> Exception:
    with pytest.raises(RuntimeError) as caught, BrokenCapture():
        raise first
    return caught.value


def test_the_first_error_of_a_broken_recording_counts():
    shortage = torch.OutOfMemoryError("CUDA out of memory.")
    assert _cause(error_of_a_broken_capture(shortage)) is shortage
    other = _cause(error_of_a_broken_capture(ValueError("a tensor on the CPU\nmore")))
    assert isinstance(other, RecordingError)
    assert str(other) == "ValueError: a tensor on the CPU"


@pytest.mark.parametrize("execution", ["auto", "eager", "compile", "cuda-graphs", "compile-cuda-graphs"])
def test_nothing_is_recorded_on_a_cpu(execution):
    assert make_runner(execution, CPU).recorder is None


def test_a_runner_counts_its_warm_up_anew_after_forgetting():
    runner, recorder = StepRunner(), Recorder()
    runner.recorder = recorder
    for _ in range(2):
        for _ in range(5):
            runner(lambda: None)
        runner.forget()
    assert (recorder.warm_ups, recorder.recordings, recorder.replays) == (6, 2, 4)


# ------------------------------------------------------------------------------------------------------------ compiling


@pytest.mark.parametrize("execution", ["auto", "eager", "cuda-graphs"])
def test_only_what_is_to_be_compiled_is_compiled(execution):
    model = torch.nn.Linear(2, 2)
    assert make_forward(model, execution) is model


def test_every_network_of_a_process_is_compiled(monkeypatch):
    """Dynamo stops compiling the same code after 8 networks, unless it forgets the earlier ones."""
    compiled = []
    backend = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: backend(model, dynamic=dynamic, backend=count))

    def count(graph, inputs):
        compiled.append(graph)
        return graph.forward

    for width in range(1, 11):
        make_forward(torch.nn.Linear(2, width), "compile")(torch.zeros(1, 2))
    assert len(compiled) == 10


@pytest.mark.slow
def test_a_compiled_training_learns_as_an_eager_one_and_continues_bit_for_bit(start, tmp_path):
    eager, compiled = trained(start(), 4), trained(start("compile"), 4)
    assert compiled.history[0].loss == pytest.approx(eager.history[0].loss, abs=0.02)
    assert compiled.history[-1].accuracy == pytest.approx(eager.history[-1].accuracy, abs=0.1)
    half = trained(start("compile"), 2)
    half.save(tmp_path / "run.pt")
    continued = start("compile")
    continued.load(tmp_path / "run.pt")
    assert_same_state(trained(continued, 2), compiled)


# ---------------------------------------------------------------------------------------------------------------- a GPU


@pytest.fixture
def deterministic():
    """CUDA algorithms that give the same numbers every time."""
    set_determinism(True)
    yield
    set_determinism(False)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        ADAMW | {"crop_padding": 0, "random_resized_crop": 0.3, "mixup": 0.2, "cutmix": 1.0},
        ADAMW | {"augmentation": "trivial"},
        {"augmentation": "autoaugment"},
    ],
    ids=["plain", "modern", "trivial", "autoaugment"],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_recorded_steps_on_a_gpu_train_as_eager_ones_do(start, deterministic, precision, changes):
    eager, recorded = (trained(start(how, "cuda", precision, **changes), 4) for how in ("eager", "cuda-graphs"))
    # Sums of half-precision gradients may be rounded otherwise; weights are about 1.
    tolerance = 1e-4 if precision == "float32" else 2e-2
    for name, value in eager.model.state_dict().items():
        torch.testing.assert_close(recorded.model.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)
    assert recorded.history[-1].accuracy == pytest.approx(eager.history[-1].accuracy, abs=0.02)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("epochs", "searches"), [(4, False), (1000, True)])
def test_cudnn_searches_for_algorithms_in_long_trainings_only(start, epochs, searches):
    start("eager", "cuda", epochs=epochs).run_epoch()
    assert torch.backends.cudnn.benchmark is searches
