"""Training steps that are compiled or recorded, against those executed operation by operation."""

import pytest
import torch

from mgnas.models import ArchitectureConfig, build_model
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.training.execution import TrainingForward
from mgnas.search.training.trainer import Trainer
from mgnas.space import TrainingSettings

MGIAD = ArchitectureConfig(
    family="mgiad", base_channels=(8, 16), in_channels=1, group_size=4, fully_coupled_channels=4, smoothing_steps=1
)


@pytest.fixture(scope="module")
def data():
    return load_dataset(DataSettings(name="digits", train_images=600))


def start(data, execution, device="cpu", precision="float32"):
    settings = TrainingSettings(epochs=4, batch_size=32, ema_decay=0.9)
    return Trainer(MGIAD, settings, data.train, data.validation, 0, device, precision, execution)


def trained(trainer, epochs=4):
    for _ in range(epochs):
        trainer.run_epoch()
    return trainer


def assert_same_state(trainer, other):
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


def test_graphs_are_for_gpus_and_change_nothing_on_a_cpu(data):
    assert_same_state(trained(start(data, "cuda-graphs"), 2), trained(start(data, "eager"), 2))


def test_a_network_that_is_to_be_compiled_can_go_on_eagerly():
    """What happens after running out of memory; nothing is compiled then."""
    model = build_model(MGIAD)
    forward = TrainingForward(model, "compile")
    forward.be_eager()
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(forward(images), build_copy(model)(images))


def build_copy(model):
    copy = build_model(MGIAD)
    copy.load_state_dict(model.state_dict())
    return copy


@pytest.mark.slow
def test_a_compiled_training_learns_as_an_eager_one_and_continues_bit_for_bit(data, tmp_path):
    eager, compiled = trained(start(data, "eager")), trained(start(data, "compile"))
    assert compiled.history[0].loss == pytest.approx(eager.history[0].loss, abs=0.02)
    assert compiled.history[-1].accuracy == pytest.approx(eager.history[-1].accuracy, abs=0.08)
    half = trained(start(data, "compile"), 2)
    half.save(tmp_path / "run.pt")
    continued = start(data, "compile")
    continued.load(tmp_path / "run.pt")
    assert_same_state(trained(continued, 2), compiled)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_recorded_steps_train_as_eager_ones_do(data, precision):
    torch.use_deterministic_algorithms(True)
    try:
        eager, recorded = (trained(start(data, how, "cuda", precision)) for how in ("eager", "cuda-graphs"))
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in eager.model.state_dict().items():
        torch.testing.assert_close(recorded.model.state_dict()[name], value, msg=name)
    assert recorded.history[-1].accuracy == pytest.approx(eager.history[-1].accuracy, abs=0.02)
