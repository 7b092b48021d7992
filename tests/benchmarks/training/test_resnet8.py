"""benchmarks/training/resnet8.py: MLPerf Tiny's ResNet-8, and its row beside that of a network of mgnas."""

import pytest
import resnet8
import torch
from activation_trace import traced_peak

from mgnas.models import ArchitectureConfig
from mgnas.models.cost import count_macs, count_weights
from mgnas.models.inference_memory import activation_memory
from mgnas.reports.deploy.final_training import FinalTraining, train_fully
from mgnas.search.data.dataset import DataSettings
from mgnas.space.candidate import TrainingSettings

CONFIG = """
name: tiny
data: {name: npz, path: missing.npz}
space: {fixed: {family: mgnet}, parameters: {base_channels: [[4], [8]]}}
final_training: {epochs: 9, batch_size: 32, ema_decay: 0.5}
"""


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_network_is_the_reference():
    network = resnet8.ResNet8()
    # Weights and bias of each convolution, two numbers of each batch norm channel, and the linear layer.
    convolutions = [(3, 16, 9), *2 * [(16, 16, 9)], (16, 32, 9), (32, 32, 9), (16, 32, 1)]
    convolutions += [(32, 64, 9), (64, 64, 9), (32, 64, 1)]
    weights = sum(a * b * k + b for a, b, k in convolutions) + 2 * (3 * 16 + 2 * 32 + 2 * 64) + 650
    assert sum(parameter.numel() for parameter in network.parameters()) == weights == 78_186
    statistics = sum(value.numel() for name, value in network.named_buffers() if "running" in name)
    assert weights + statistics == 78_666  # as Keras counts
    sizes = [32, 32, 32, 16, 16, 16, 8, 8, 8]
    macs = sum(a * b * k * size**2 for (a, b, k), size in zip(convolutions, sizes, strict=True)) + 640
    assert resnet8.untrained_resnet8(3, 10, 32).macs == macs == 12_501_632
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_its_memory_is_that_of_the_first_block():
    # The second convolution's input and output, and the features of the shortcut, 16 channels each.
    assert traced_peak(resnet8.ResNet8().eval(), 3, 32) == 3 * 16 * 32**2


def test_both_networks_get_a_row_and_nothing_is_trained_twice(dark_or_light, tmp_path, capsys):
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    config = ArchitectureConfig(family="mgnet", base_channels=(4,), num_classes=2)
    task = FinalTraining(
        config, TrainingSettings(epochs=1, batch_size=32), DataSettings(name="npz", path=str(dark_or_light))
    )
    train_fully(task, tmp_path / "model", "cpu")
    options = [
        "--config",
        tmp_path / "tiny.yaml",
        "--data",
        dark_or_light,
        "--epochs",
        "1",
        "--work",
        tmp_path / "work",
    ]
    assert resnet8.main([*map(str, options), "--model", str(tmp_path / "model")]) == 0
    progress, titles, _, reference, ours = capsys.readouterr().out.splitlines()
    assert progress.startswith("seed 0, epoch 1 of 1: loss ")
    assert cells(titles)[-2:] == ["test % float32", "test % int8"]
    name, weights, _, float32, int8, *files, accuracy, _ = cells(reference)
    assert (name, weights) == ("ResNet-8, 1 epochs, seed 0", f"{78_186 - 8 * 65:,}")
    assert (float32, int8) == (f"{4 * 3 * 16 * 64:,}", f"{3 * 16 * 64:,}")
    large, small = (int(size.replace(",", "")) for size in files)
    assert 4 * 77_000 < large < 4 * 82_000
    assert 77_000 < small < large / 3
    assert 0 <= float(accuracy) <= 100
    counted = [count_weights(config), count_macs(config, 8)]
    counted += [activation_memory(config, 8), activation_memory(config, 8, int8=True)]
    assert cells(ours)[:5] == [config.describe(), *(f"{count:,}" for count in counted)]

    assert resnet8.main(list(map(str, options))) == 0
    again = capsys.readouterr().out.splitlines()
    assert (again[0], again[2:]) == (titles, [reference])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--epochs", "1"], "error: --epochs: give --data and --work, too\n"),
        (["--model", "missing"], "error: missing/model.pt: no such model; `mgnas train` writes one\n"),
    ],
)
def test_bad_options_are_one_line(options, message, capsys):
    assert resnet8.main(options) == 1
    assert capsys.readouterr().err == message
