"""The type that convolutions compute in."""

from pathlib import Path

import pytest
import torch

from mgnas.models import ArchitectureConfig
from mgnas.search.data.dataset import DataSettings, load_dataset
from mgnas.search.data.images import ImageDataset
from mgnas.search.training.precision import autocast_type
from mgnas.search.training.trainer import Trainer
from mgnas.space import TrainingSettings

CPU = torch.device("cpu")
WIDE = ArchitectureConfig(family="mgnet", base_channels=(64,), in_channels=1)
GROUPED = ArchitectureConfig(family="mgiad", base_channels=(64,), in_channels=1, group_size=8, fully_coupled_channels=8)


def test_a_cpu_computes_large_activations_in_bfloat16_only_where_it_has_instructions_for_it():
    flags = set(Path("/proc/cpuinfo").read_text().split()) if Path("/proc/cpuinfo").exists() else set()
    expected = torch.bfloat16 if flags & {"amx_tile", "avx512_bf16"} else None
    assert autocast_type("auto", CPU, 2**18) is expected
    assert autocast_type("auto", CPU, 2**18 - 1) is None


@pytest.mark.parametrize(("batch_size", "images", "large"), [(64, 100, True), (63, 100, False), (64, 63, False)])
def test_activations_are_as_large_as_a_whole_batch_of_the_finest_level(batch_size, images, large):
    """64 channels of 8 x 8 pixels: 2^12 values an image."""
    train = load_dataset(DataSettings(name="digits", train_images=200)).train
    some = ImageDataset(train.images[:images], train.labels[:images])
    trainer = Trainer(WIDE, TrainingSettings(epochs=1, batch_size=batch_size), some, None)
    assert trainer.precision is (autocast_type("auto", CPU, 2**18) if large else None)


@pytest.mark.parametrize(("precision", "expected"), [("float32", None), ("bfloat16", torch.bfloat16)])
def test_a_type_that_is_asked_for_is_used(precision, expected):
    assert autocast_type(precision, CPU, 1) is expected


@pytest.mark.parametrize("architecture", [WIDE, GROUPED], ids=["wide", "grouped"])
def test_bfloat16_learns_as_float32_does_and_continues_bit_for_bit(architecture, tmp_path):
    data = load_dataset(DataSettings(name="digits", train_images=600))
    settings = TrainingSettings(epochs=6, batch_size=32)

    def start(precision):
        return Trainer(architecture, settings, data.train, data.validation, 0, "cpu", precision)

    trainers = {precision: start(precision) for precision in ("float32", "bfloat16")}
    for trainer in trainers.values():
        for _ in range(6):
            trainer.run_epoch()
    accuracies = {precision: trainer.history[-1].accuracy for precision, trainer in trainers.items()}
    assert min(accuracies.values()) > 0.8
    assert abs(accuracies["float32"] - accuracies["bfloat16"]) < 0.08
    assert all(parameter.dtype is torch.float32 for parameter in trainers["bfloat16"].model.parameters())
    halves = start("bfloat16")
    for _ in range(3):
        halves.run_epoch()
    halves.save(tmp_path / "run.pt")
    halves = start("bfloat16")
    halves.load(tmp_path / "run.pt")
    for _ in range(3):
        halves.run_epoch()
    continued, whole = (dict(trainer.model.state_dict()) for trainer in (halves, trainers["bfloat16"]))
    assert all(torch.equal(continued[name], whole[name]) for name in whole)
