"""ResNet-8, the reference of MLPerf Tiny's image classification, beside networks of mgnas: one table for both.

    python benchmarks/training/resnet8.py [--model FOLDER ...] [--data cifar10.npz]
        [--epochs 100 --seed 0 [1 ...] --work FOLDER] [--threads 1] [--config configs/mlperf-tiny.yaml]

A row has weights, multiply-accumulates, peak bytes of the activations of one image in float32 and in int8, and bytes of
the ONNX files, which are written and quantised as `mgnas export --int8` does it. The peaks come from one trace
(activation_trace.py). With --data the row has the accuracies of both files on the test images, too. --model adds the
row of a network that `mgnas train` or `mgnas retrain` has trained.

With --epochs ResNet-8 is trained by mgnas's own trainer, with the config's `final_training` and the epochs given here.
Each epoch leaves a checkpoint in --work, and the same call goes on from it. Without --epochs its weights are random, so
its accuracies are left out.

The network is that of the Keras reference: convolutions with bias, each but the shortcuts' followed by batch norm. It
has 78,186 trainable weights. The reference counts 78,666 parameters: these, and the 480 running means and variances of
batch norms. Two things differ from the reference:

- Convolutions of stride 2 pad each side by one pixel. Keras's `same` pads them on the right and at the bottom only.
- The recipe is that of mgnas: for example, biases and batch norms have no weight decay here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from activation_trace import traced_peak
from resumable import run_script
from tables import table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mgnas.errors import UserError, first_line
from mgnas.models import ArchitectureConfig
from mgnas.models.cost import count_macs, count_weights
from mgnas.models.layers import BatchNorm
from mgnas.reports.deploy.classifier import Classifier, load_model
from mgnas.reports.deploy.export import write_onnx
from mgnas.reports.deploy.fake_quantisation import fine_tune
from mgnas.reports.deploy.model_card import read_result
from mgnas.reports.deploy.quantisation import quantise
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import Dataset, load_dataset
from mgnas.search.data.digest import dataset_digest
from mgnas.search.data.images import ImageDataset
from mgnas.search.training.trainer import DamagedCheckpointError, Trainer
from mgnas.settings import build
from mgnas.space.candidate import TrainingSettings

CHANNELS = (16, 32, 64)
_CONFIG = Path(__file__).parents[2] / "configs" / "mlperf-tiny.yaml"
_RANDOM_IMAGES = 64


class BasicBlock(nn.Module):
    """relu(shortcut(x) + bn2(conv2 relu(bn1(conv1 x)))); the shortcut is a convolution if the block has a stride."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1)
        self.bn1 = BatchNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.bn2 = BatchNorm(out_channels)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(in_channels, out_channels, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        increment = F.relu(self.bn1(self.conv1(features)), inplace=True)
        increment = self.bn2(self.conv2(increment))
        return F.relu(increment.add_(self.shortcut(features)), inplace=True)


class ResNet8(nn.Module):
    """The reference network: N x in_channels x h x w images -> N x num_classes logits.

    Args:
        in_channels: of the images.
        num_classes: number of classes.
        seed: of the initial weights: He's normal distribution, and biases of 0.
    """

    def __init__(self, in_channels: int = 3, num_classes: int = 10, seed: int = 0) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(in_channels, CHANNELS[0], 3, padding=1), BatchNorm(CHANNELS[0])
        self.blocks = nn.Sequential(BasicBlock(16, 16, 1), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2))
        self.linear = nn.Linear(CHANNELS[-1], num_classes)
        generator = torch.Generator().manual_seed(seed)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
                assert layer.bias is not None, "every layer here has one"
                nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.bn(self.stem(images)), inplace=True))
        return self.linear(torch.mean(features, dim=(2, 3)))


@dataclass(frozen=True)
class Measured:
    """A network to measure.

    Args:
        name: what the table calls it.
        model: with its weights, in evaluation mode.
        weights, macs: trainable parameters, and multiply-accumulates for one image.
        recipe: of its training; None: its weights are random.
    """

    name: str
    model: Classifier
    weights: int
    macs: int
    recipe: TrainingSettings | None


def similar_config(in_channels: int, num_classes: int) -> ArchitectureConfig:
    """mgnas's ResNet that resembles ResNet-8 most. Trainer and exports ask it for channels and classes only."""
    return ArchitectureConfig(
        family="resnet", base_channels=CHANNELS, blocks=1, in_channels=in_channels, num_classes=num_classes
    )


def resnet8(name: str, network: ResNet8, image_size: int, normalisation: dict[str, list[float]]) -> Measured:
    """ResNet-8 in the form that the exports take."""
    network = network.eval()
    in_channels, num_classes = network.stem.in_channels, network.linear.out_features
    model = Classifier(
        similar_config(in_channels, num_classes), normalisation["mean"], normalisation["std"], image_size=image_size
    ).eval()
    model.network = network
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, in_channels, image_size, image_size))
    weights = sum(parameter.numel() for parameter in network.parameters())
    return Measured(name, model, weights, counter.get_total_flops() // 2, None)


def untrained_resnet8(in_channels: int, num_classes: int, image_size: int) -> Measured:
    """ResNet-8 with random numbers in every place, so that no two of its tensors are equal, as after a training."""
    network = ResNet8(in_channels, num_classes)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    normalisation = {"mean": [0.5] * in_channels, "std": [0.25] * in_channels}
    return resnet8("ResNet-8", network, image_size, normalisation)


def trained_resnet8(
    recipe: TrainingSettings, dataset: Dataset, seed: int, work: Path, say: Callable[[str], None] = print
) -> Measured:
    """ResNet-8 after a whole training, which goes on from its checkpoint in `work`."""
    identity = json.dumps([asdict(recipe), dataset_digest(dataset)])
    checkpoint = work / f"resnet8-{hashlib.sha256(identity.encode()).hexdigest()[:8]}-seed-{seed}.pt"
    network = ResNet8(dataset.in_channels, dataset.num_classes, seed)
    similar = similar_config(dataset.in_channels, dataset.num_classes)
    trainer = Trainer(similar, recipe, dataset.final_train, None, seed, model=network)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work}: cannot be written ({error.strerror}); choose another --work") from None
    try:
        if checkpoint.exists():
            trainer.load(checkpoint)
    except DamagedCheckpointError as error:
        raise UserError(f"{error}; delete it") from None
    while not trainer.finished:
        epoch = trainer.run_epoch()
        trainer.save(checkpoint)
        say(f"seed {seed}, epoch {epoch.epoch} of {recipe.epochs}: loss {epoch.loss:.4f}, {epoch.seconds:.1f} s")
    trained = trainer.trained_model
    assert isinstance(trained, ResNet8)
    name = f"ResNet-8, {recipe.epochs} epochs, seed {seed}"
    return replace(resnet8(name, trained, dataset.image_size, trainer.normalisation()), recipe=recipe)


def model_of_folder(folder: Path, image_size: int) -> Measured:
    """A network that mgnas has trained."""
    model, result = load_model(folder), read_result(folder)
    recipe = build(TrainingSettings, result.get("training") or {}, "training", str(folder))
    macs = count_macs(model.config, model.image_size or image_size)
    return Measured(model.config.describe(), model, count_weights(model.config), macs, recipe)


def row(measured: Measured, dataset: Dataset | None, image_size: int) -> dict[str, str]:
    """The row of the table.

    Args:
        measured: the network.
        dataset: on whose test images accuracies are measured; None: they are left out, and int8 ranges are those of
            random images.
        image_size: pixels per side, if the network does not know its own.
    """
    model, size = measured.model, measured.model.image_size or image_size
    shape = (model.config.in_channels, size, size)
    if dataset is not None and (dataset.in_channels, dataset.image_size, dataset.num_classes) != (
        *shape[:2],
        model.config.num_classes,
    ):
        raise UserError(f"{measured.name}: was trained on images of another size, or on other classes")
    peak = traced_peak(model.network, shape[0], size)
    float32 = max(4 * peak, 5 * shape[0] * size**2)  # As in inference_memory.activation_memory.
    if dataset is None:
        pixels = np.random.default_rng(0).integers(0, 256, (_RANDOM_IMAGES, *shape), dtype=np.uint8)
        # No image has the class -1, so int8 cannot lose accuracy and be refused.
        train = unseen = ImageDataset(pixels, np.full(len(pixels), -1))
    else:
        train, unseen = dataset.final_train, dataset.unseen
    recipe, tuned = measured.recipe, None
    if dataset is not None and recipe is not None:
        tuned = lambda: fine_tune(model, recipe, train)  # noqa: E731 - called only if int8 loses much
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(model, file, unseen.images[:2])
        quantised = quantise(file, Path(folder) / "model.int8.onnx", train, unseen, tuned)
    cells = {
        "network": measured.name,
        "weights": f"{measured.weights:,}",
        "MACs": f"{measured.macs:,}",
        "activations float32": f"{float32:,}",
        "activations int8": f"{peak:,}",
        "file float32": f"{quantised.float_size:,}",
        "file int8": f"{quantised.size:,}",
    }
    if dataset is not None and recipe is not None:
        note = f" (fine-tuned for {quantised.epochs} epochs)" if quantised.epochs else ""
        cells["test % float32"] = f"{100 * quantised.float_accuracy:.2f}"
        cells["test % int8"] = f"{100 * quantised.accuracy:.2f}{note}"
    return cells


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    parser.add_argument("--model", type=Path, nargs="+", default=[], metavar="FOLDER", help="trained by mgnas")
    parser.add_argument("--data", metavar="PATH", help="of the config's data set: an npz file or a folder")
    parser.add_argument("--epochs", type=int, metavar="N", help="train ResNet-8")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], metavar="S", help="of these trainings (default: 0)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="for checkpoints, outside the checkout")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--config", type=Path, default=_CONFIG, metavar="FILE", help="with the recipe and the data set")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[str]:
    """Train what is to be trained, and measure all networks. Returns the lines of the table.

    Raises:
        UserError: options are wrong, or a file cannot be read or written.
    """
    if options.epochs is not None and (options.data is None or options.work is None):
        raise UserError("--epochs: give --data and --work, too")
    torch.set_num_threads(options.threads)
    config = SearchConfig.load(options.config)
    dataset = None if options.data is None else load_dataset(config.override(path=options.data).data)
    shape = (3, 10, 32) if dataset is None else (dataset.in_channels, dataset.num_classes, dataset.image_size)
    if dataset is None or options.epochs is None:
        networks = [untrained_resnet8(*shape)]
    else:
        settings: dict[str, Any] = asdict(config.final_training) | {"epochs": options.epochs}
        recipe = build(TrainingSettings, settings, "final_training", str(options.config))
        networks = [trained_resnet8(recipe, dataset, seed, options.work) for seed in options.seed]
    networks += [model_of_folder(folder, shape[2]) for folder in options.model]
    return table([row(measured, dataset, shape[2]) for measured in networks])


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return run_script(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
