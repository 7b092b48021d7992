"""Training that runs out of memory: no number changes, and a network that does not fit at all says so in a line."""

import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

from mgnas.search.data.dataset import DataSettings, ImageDataset
from mgnas.search.training.memory import HostActivations, NotEnoughMemoryError
from mgnas.search.training.trainer import Trainer
from mgnas.search.tuner.worker import TrialTask, TrialWorker, set_determinism
from mgnas.space import TrainingSettings

FAMILIES = {
    "resnet": {"family": "resnet", "base_channels": (4, 8), "blocks": 1},
    "mgnet": {"family": "mgnet", "base_channels": (4, 8), "smoothing_steps": 2, "sharing": "A"},
    "mgic": {"family": "mgic", "base_channels": (8, 16), "blocks": 1, "group_size": 4, "fully_coupled_channels": 8},
    "mgiad": {"family": "mgiad", "base_channels": (8, 16), "smoothing_steps": 1, "fully_coupled_channels": 4},
}


@pytest.fixture(params=FAMILIES)
def architecture(request, tiny):
    return tiny(num_classes=2, **FAMILIES[request.param])


@pytest.fixture
def start(numbered, tiny):
    """Keywords of the recipe -> a trainer of 3 epochs of 3 steps on 48 images, measured on 8 others."""
    images = numbered([28, 28])
    train, evaluation = images.take(np.arange(48)), images.take(np.arange(48, 56))

    def make(architecture=None, precision="float32", **changes) -> Trainer:
        recipe = {"epochs": 3, "batch_size": 16, "crop_padding": 1, "flip": True, "cutout": 2} | changes
        architecture = architecture or tiny(num_classes=2, base_channels=(4, 8))
        return Trainer(architecture, TrainingSettings(**recipe), train, evaluation, 5, "cpu", precision)

    return make


def train_to_the_end(trainer: Trainer) -> Trainer:
    while not trainer.finished:
        trainer.run_epoch()
    return trainer


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights, running statistics, the optimizer's state, the average, and the history but for its seconds."""
    found = {f"model {name}": tensor for name, tensor in trainer.model.state_dict().items()}
    found |= {f"kept {name}": tensor for name, tensor in trainer.trained_model.state_dict().items()}
    for i, tensors in trainer.optimizer.state_dict()["state"].items():
        found |= {f"{name} {i}": tensor for name, tensor in tensors.items()}
    history = [(result.epoch, result.loss, result.accuracy) for result in trainer.history]
    return found | {"history": torch.tensor(history, dtype=torch.float64)}


def assert_same(first: Trainer, second: Trainer) -> None:
    """Bit for bit."""
    one, other = everything(first), everything(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


class Shortage:
    """Raises an out-of-memory error at the chosen calls, counted from 1."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.count = calls, 0

    def __call__(self, *_: object) -> None:
        self.count += 1
        if self.count in self.calls:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


# The places of a step where memory may run out. Each is passed once a step.


def _before_forward(trainer: Trainer, shortage: Shortage) -> None:
    trainer.model.register_forward_pre_hook(lambda model, _: shortage() if model.training else None)


def _amid_forward(trainer: Trainer, shortage: Shortage) -> None:
    trainer.model.head.register_forward_pre_hook(lambda head, _: shortage() if head.training else None)


def _amid_backward(trainer: Trainer, shortage: Shortage) -> None:
    trainer.model.transfers[0].pi.weight.register_hook(shortage)


def _behind_backward(trainer: Trainer, shortage: Shortage) -> None:
    trainer.model.stem[0].weight.register_hook(shortage)


def _optimizer_step(trainer: Trainer, shortage: Shortage) -> None:
    trainer.optimizer.register_step_pre_hook(shortage)


def _behind_the_step(trainer: Trainer, shortage: Shortage) -> None:
    trainer.optimizer.register_step_post_hook(shortage)


PLACES = [_before_forward, _amid_forward, _amid_backward, _behind_backward, _optimizer_step, _behind_the_step]


# ----------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("step", [1, 5])
@pytest.mark.parametrize("place", PLACES)
def test_an_epoch_that_runs_out_of_memory_ends_as_if_it_had_not(start, place, step):
    undisturbed, trainer = train_to_the_end(start(ema_decay=0.9)), start(ema_decay=0.9)
    shortage = Shortage(step)
    place(trainer, shortage)
    train_to_the_end(trainer)
    # The steps of the epoch up to the shortage were done twice.
    assert shortage.count == 9 + (step - 1) % 3 + 1
    assert_same(trainer, undisturbed)


@pytest.mark.parametrize("place", [_amid_forward, _amid_backward, _optimizer_step, _behind_the_step])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_an_epoch_of_adamw_and_a_policy_that_runs_out_of_memory_ends_as_if_it_had_not(start, place, precision):
    recipe = {"optimizer": "adamw", "learning_rate": 0.003, "augmentation": "trivial", "mixup": 0.2, "ema_decay": 0.9}
    undisturbed, trainer = (start(precision=precision, **recipe) for _ in range(2))
    place(trainer, Shortage(5))
    assert_same(train_to_the_end(trainer), train_to_the_end(undisturbed))


def test_every_family_survives_a_shortage_without_an_average(start, architecture):
    undisturbed, trainer = train_to_the_end(start(architecture)), start(architecture)
    next(trainer.model.parameters()).register_hook(Shortage(5))
    assert_same(train_to_the_end(trainer), undisturbed)


@pytest.mark.parametrize("place", PLACES)
def test_a_scaled_loss_in_half_precision_is_scaled_as_before(start, place):
    undisturbed, trainer = (start(precision="float16", batch_size=48) for _ in range(2))
    place(trainer, Shortage(2))
    assert_same(train_to_the_end(trainer), train_to_the_end(undisturbed))


def test_a_continued_training_may_run_out_of_memory(start, tmp_path):
    undisturbed, first = train_to_the_end(start()), start()
    first.run_epoch()
    first.save(tmp_path / "run.pt")
    trainer = start()
    trainer.load(tmp_path / "run.pt")
    _amid_backward(trainer, Shortage(2))
    assert_same(train_to_the_end(trainer), undisturbed)


def test_a_second_shortage_is_an_error_of_one_line(start, refusal):
    trainer = start()
    _amid_forward(trainer, Shortage(2, 4))
    assert refusal(trainer.run_epoch) == (
        "out of memory: MgNet [4-8], nu=1, sharing AB, depthwise transfers at batch size 16 does not fit in memory; "
        "lower batch_size or limits.max_macs, or give each trial more memory (fewer workers)"
    )
    assert trainer.history == []


def test_activations_return_to_the_device_after_a_shortage_and_stay_away_longer_after_each_further_one(start):
    trainer, offloaded = start(epochs=8), []
    # Shortages in the 2nd epoch (step 4), in the 3rd (step 8), and in the 6th.
    _optimizer_step(trainer, Shortage(4, 8, 20))
    while not trainer.finished:
        trainer.run_epoch()
        offloaded.append(trainer._step.offloads)
    assert offloaded == [False, True, True, True, False, True, True, True]
    undisturbed = start(epochs=8)
    assert_same(trainer, train_to_the_end(undisturbed))


def test_the_message_on_a_gpu_says_what_to_change_there(tiny):
    message = str(NotEnoughMemoryError(tiny(), 128, torch.device("cuda")))
    assert message.endswith(
        "at batch size 128 does not fit on the GPU; "
        "lower batch_size or limits.max_macs, or give each trial more of the GPU (gpus_per_trial)"
    )


def test_other_errors_are_not_tried_again(start):
    trainer, calls = start(), []

    def fail(*_):
        calls.append(1)
        raise RuntimeError("CUDA error: device-side assert triggered")

    trainer.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="device-side"):
        trainer.run_epoch()
    assert len(calls) == 1


@pytest.mark.parametrize("place", [_amid_forward, _amid_backward, _optimizer_step])
def test_nothing_of_the_failed_attempt_is_left_when_the_next_begins(start, place):
    trainer, outputs = start(), []

    def note(model, inputs, output):
        # Of the failed attempt nothing may be left but the weights: not even in the error's traceback.
        assert all(reference() is None for reference in outputs)
        outputs.append(weakref.ref(output))

    trainer.model.stem.register_forward_hook(note)
    place(trainer, Shortage(1))
    trainer.run_epoch()
    assert len(outputs) > 3


def test_a_trial_goes_on_after_a_shortage_and_fails_after_the_next(tmp_path, tiny):
    data = DataSettings(name="digits", train_images=60)
    recipe = TrainingSettings(epochs=2, batch_size=16)
    worker = TrialWorker(TrialTask(0, tiny(), recipe, data, seed=0, checkpoint=str(tmp_path / "trial.pt")))
    assert worker.step()["failure"] is None
    worker._trainer.model.register_forward_pre_hook(Shortage(1, 2))
    assert worker.step()["failure"].startswith("out of memory: MgNet [4]")


# --------------------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("most", [1, 5, 8, 300])
def test_evaluation_takes_batches_that_fit(start, numbered, most):
    trainer, part, sizes = train_to_the_end(start()), numbered([300, 300]), []
    expected = trainer.evaluate(part)

    def check(model, inputs):
        sizes.append(len(inputs[0]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    trainer.model.register_forward_pre_hook(check)
    assert trainer.evaluate(part) == expected
    fitting = [size for size in sizes if size <= most]
    assert sum(fitting) == 600
    assert 2 * fitting[0] + 1 >= min(most, 600)
    before = len(sizes)
    trainer.evaluate(part)
    assert max(sizes[before:]) == fitting[0], "what does not fit is not tried again"


def test_a_shortage_in_evaluation_does_not_repeat_the_training(start):
    undisturbed, trainer, steps = train_to_the_end(start(ema_decay=0.5)), start(ema_decay=0.5), Shortage()
    _optimizer_step(trainer, steps)
    trainer.trained_model.register_forward_pre_hook(Shortage(2))
    assert_same(train_to_the_end(trainer), undisturbed)
    assert steps.count == 9


def test_a_network_too_large_to_evaluate_is_an_error_of_one_line(start, refusal, numbered):
    trainer = start()
    trainer.model.register_forward_pre_hook(Shortage(*range(1, 20)))
    assert refusal(lambda: trainer.evaluate(numbered([6, 6]))).startswith("out of memory: ")


def test_a_whole_training_is_the_same_bit_for_bit(start, architecture):
    plain, offloaded = (start(architecture, ema_decay=0.9) for _ in range(2))
    train_to_the_end(plain)
    with HostActivations():
        train_to_the_end(offloaded)
    assert_same(plain, offloaded)


# --------------------------------------------------------------------------------------------------- really too little


SHORT_OF_MEMORY = """
import logging, resource
import numpy as np, torch
from mgnas.models import ArchitectureConfig
from mgnas.search.data.images import ImageDataset
from mgnas.search.training.memory import NotEnoughMemoryError
from mgnas.search.training.trainer import Trainer
from mgnas.space import TrainingSettings

torch.set_num_threads(1)
rng = np.random.default_rng(0)
images = ImageDataset(rng.integers(0, 256, (1024, 1, 16, 16), dtype=np.uint8), np.arange(1024) % 2)
recipe = TrainingSettings(epochs=1, batch_size=1024)
network = ArchitectureConfig(family="mgnet", base_channels=(16,), smoothing_steps=4, in_channels=1, num_classes=2)

def trainer(part=images):
    return Trainer(network, recipe, part, None, 0, "cpu", "float32")

def limit(extra):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, resource.RLIM_INFINITY))

class Relief(logging.Handler):
    def emit(self, record):
        print(record.getMessage())
        limit(2**34)

trainer(images.take(np.arange(4))).run_epoch()  # so that libraries are loaded and threads have their stacks
logging.getLogger("mgnas").addHandler(logging.NullHandler())
limit(100 * 2**20)
try:
    trainer().run_epoch()
except NotEnoughMemoryError as error:
    print(error)
logging.getLogger("mgnas").addHandler(Relief())
relieved = trainer().run_epoch()
print(relieved.loss == trainer().run_epoch().loss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_process_that_really_has_too_little_memory():
    """Each of about 25 activations takes 17 MB; 100 MB are there. The second time more is granted after the failure."""
    result = subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], capture_output=True, text=True, check=True)
    failure, message, equal = result.stdout.splitlines()
    assert failure.startswith("out of memory: MgNet [16], nu=4, ")
    assert (message, equal) == ("out of memory: epoch 1 starts over", "True")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_that_really_has_too_little_memory(tiny):
    """The network's activations take more than the limit, and all but those of a layer or two move out."""
    rng = np.random.default_rng(0)
    images = ImageDataset(rng.integers(0, 256, (256, 1, 32, 32), dtype=np.uint8), np.arange(256) % 10)
    architecture = tiny(base_channels=(64,), smoothing_steps=8)
    recipe = TrainingSettings(epochs=1, batch_size=256)
    set_determinism(True)
    try:
        plain, limited = (Trainer(architecture, recipe, images, images, 0, "cuda", "float32") for _ in range(2))
        plain.run_epoch()
        torch.cuda.empty_cache()
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(2**30 / total)
        limited.run_epoch()
        assert limited._step.offloads
        assert_same(limited, plain)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        set_determinism(False)
