"""Which observation of a training says most about the network? Compares what a search could learn from.

A search sees one training of a network, but its user wants the accuracy of a network that is trained again. So each
network is trained with several seeds. From an observation of one training, and the weights, the mean final accuracy of
the other seeds is predicted. The standard deviation of the residuals says what the observation is worth.

    python benchmarks/training/observations.py --out observations.jsonl [--data-cifar10 cifar10.npz]
        [--data digits cifar10] [--networks 60] [--seeds 4] [--threads 1] [--minutes 60]

Networks, images and recipes are those of the shipped tables (search/history/tables); the networks are spread evenly
over the order of their weights. Each finished training is a line of --out, seed after seed. The same call again goes on
with those that are missing; --show prints the table of the lines that are there, and trains nothing. Calls with
different --data can run at the same time with the same --out.

Predictions are linear in 1, z, z^2, x_1, x_1^2, ..., where z is the log of the weights and x_k are the observations.
They are fitted to all networks but the predicted one, whose z and x_k are first moved into the range of the others.
Near the front, networks differ less. So there are columns for the half of the networks with the higher accuracies at
equal weights, too; their predictions are fitted to them alone.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from observed_trainer import LAST_EPOCHS, ObservedTrainer
from resumable import Job, add_options, run_script, train, train_missing
from tables import table
from torch import Tensor, nn

from mgnas.errors import UserError, first_line
from mgnas.models import ArchitectureConfig
from mgnas.models.build import build_model
from mgnas.search.data.dataset import Dataset, DataSettings
from mgnas.search.data.images import ImageDataset
from mgnas.search.history.table import SHIPPED, TabularBenchmark
from mgnas.settings import build
from mgnas.space.candidate import TrainingSettings

EMA_DECAY = 0.97
"""Decay per step of the averaged weights: they look back on 33 steps, one to two epochs of these trainings."""

_BOOTSTRAPS = 1_000

OBSERVATIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "accuracy": ("accuracy",),
    f"accuracy, mean of {LAST_EPOCHS} epochs": ("accuracy, mean",),
    "accuracy, averaged weights": ("averaged accuracy",),
    "probability": ("probability",),
    "probability, averaged weights": ("averaged probability",),
    "cross-entropy": ("cross-entropy",),
    "cross-entropy, averaged weights": ("averaged cross-entropy",),
    "accuracy and cross-entropy": ("accuracy", "cross-entropy"),
    "both, averaged weights": ("averaged accuracy", "averaged cross-entropy"),
    "accuracy and synflow": ("accuracy", "synflow"),
    "accuracy and Jacobian": ("accuracy", "jacobian"),
    "accuracy and gradient": ("accuracy", "gradient"),
    "accuracy and all three": ("accuracy", "synflow", "jacobian", "gradient"),
    "synflow alone": ("synflow",),
    "Jacobian alone": ("jacobian",),
    "gradient alone": ("gradient",),
}
"""Row of the table -> the values that the mean accuracy of the other seeds is predicted from, beside the weights."""


# ------------------------------------------------------------------------------------------------ the untrained network


def zero_cost(architecture: ArchitectureConfig, images: ImageDataset, seed: int, count: int = 64) -> dict[str, float]:
    """What an untrained network says about itself, on its first images: synflow, jacobian and gradient.

    Args:
        architecture: the network.
        images: of the training.
        seed: of the weights; they are those that a training with this seed begins with.
        count: number of images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(architecture)
    pixels = torch.from_numpy(images.gather(slice(0, count))).float()
    pixels = (pixels - pixels.mean()) / pixels.std()
    labels = torch.from_numpy(images.labels[:count])
    return {
        "gradient": gradient_norm(model, pixels, labels),
        "jacobian": jacobian_score(model, pixels),
        "synflow": synflow(model, pixels.shape[1:]),
    }


def gradient_norm(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Log of the norm of the loss's gradient (Abdelfattah et al. 2021, section 3)."""
    model.train().zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    squares = [parameter.grad.double().square().sum() for parameter in model.parameters() if parameter.grad is not None]
    return 0.5 * math.log(sum(squares).item() + 1e-30)  # pyright: ignore[reportAttributeAccessIssue] # never empty


def jacobian_score(model: nn.Module, images: Tensor) -> float:
    """How different the network's gradients with respect to the images are (Mellor et al. 2020, equation 2).

    The gradients of the sum of the logits have a correlation matrix with eigenvalues l. The paper's score is
    -s = -sum(log(l + k) + 1 / (l + k)) with k = 1e-5. It spans decades, so this is -log(s), which has the same order.
    """
    model.train().zero_grad()
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).sum(), images)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(gradient.flatten(1).double().numpy()))
    shifted = np.maximum(eigenvalues, 0.0) + 1e-5
    return -math.log(np.sum(np.log(shifted) + 1 / shifted))


def synflow(model: nn.Module, shape: Sequence[int]) -> float:
    """Log of the sum of |weight x gradient|, if all weights are positive and the image is one (Tanaka et al. 2020).

    Batch normalisation keeps its untrained statistics, so it is the identity. Changes the model's weights.
    """
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    model.zero_grad()
    model(torch.ones(1, *shape, dtype=torch.float64)).sum().backward()
    scores = [(p * p.grad).abs().sum().item() for p in model.parameters() if p.grad is not None]
    return math.log(math.fsum(scores) + 1e-300)


# ------------------------------------------------------------------------------------------------------------- the jobs


def networks_of(source: TabularBenchmark, count: int) -> list[ArchitectureConfig]:
    """`count` networks of the table, spread evenly over the order of weights, the lightest and heaviest among them.

    Raises:
        UserError: there are fewer.
    """
    networks = sorted((rows[0].weights, key) for key, rows in source.by_id.items())
    if not 2 <= count <= len(networks):
        raise UserError(f"--networks {count}: the table {source.name} has {len(networks)}; name 2 to {len(networks)}")
    chosen = np.linspace(0, len(networks) - 1, count).round().astype(int)
    return [source.by_id[networks[index][1]][0].config for index in chosen]


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """All trainings, seed after seed.

    Raises:
        UserError: an option is wrong.
    """
    if options.images is not None:
        raise UserError("--images: the images are those of the tables; leave it out")
    sources = {}
    for name in options.data:
        source = TabularBenchmark.load(SHIPPED / f"{name}.json.gz")
        data = dict(source.meta["data"]) | ({"path": options.data_cifar10} if name == "cifar10" else {})
        recipe = build(TrainingSettings, source.meta["training"], "meta.training", name)
        sources[name] = (build(DataSettings, data, "meta.data", name), recipe, networks_of(source, options.networks))
    for seed in range(options.seeds):
        for name, (data, recipe, networks) in sources.items():
            for architecture in networks:
                yield Job({"data": name, "network": architecture.id}, seed, architecture, recipe, data)


# ------------------------------------------------------------------------------------------------------------ the table


@dataclass(frozen=True)
class Observed:
    """The trainings of one data set.

    Args:
        z: log10 of the weights of n networks.
        values: name of an observation -> its values, n x seeds. "accuracy" is the final one.
    """

    z: np.ndarray
    values: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Observed:
        """Of lines of the results. Only networks with all seeds of which no training diverged count."""
        seeds = sorted({row["job"]["seed"] for row in rows})
        by_network: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        for row in rows:
            if row["accuracy"] is not None:
                by_network[row["job"]["network"]][row["job"]["seed"]] = row
        whole = [[runs[seed] for seed in seeds] for runs in by_network.values() if len(runs) == len(seeds)]
        values = [[_values(row) for row in runs] for runs in whole]
        names = values[0][0] if values else ()
        arrays = {name: np.array([[value[name] for value in runs] for runs in values]) for name in names}
        return cls(np.log10([runs[0]["weights"] for runs in whole]), arrays)

    def __len__(self) -> int:
        return len(self.z)

    def rows(self, networks: np.ndarray) -> Observed:
        """Those of some of the networks."""
        return Observed(self.z[networks], {name: array[networks] for name, array in self.values.items()})

    @property
    def others(self) -> np.ndarray:
        """Mean accuracy of the other seeds, n x seeds."""
        accuracy = self.values["accuracy"]
        return (accuracy.sum(axis=1, keepdims=True) - accuracy) / (accuracy.shape[1] - 1)

    def better_half(self) -> Observed:
        """The networks whose mean accuracy exceeds what their weights let expect by more than the median does."""
        mean = self.values["accuracy"].mean(axis=1)
        excess = mean - np.polyval(np.polyfit(self.z, mean, 2), self.z)
        return self.rows(np.flatnonzero(excess >= np.median(excess)))

    def deviation_of_others(self) -> float:
        """Standard deviation of the other seeds' mean about the mean of all seeds that there could be.

        No observation can predict it.
        """
        accuracy = self.values["accuracy"]
        return math.sqrt(accuracy.var(axis=1, ddof=1).mean() / (accuracy.shape[1] - 1))

    def residuals(self, names: Sequence[str]) -> np.ndarray:
        """Other seeds' mean less its prediction from the named observations of a seed and the weights: n x seeds."""
        n, seeds = self.others.shape
        columns = np.stack([np.repeat(self.z[:, None], seeds, axis=1), *(self.values[name] for name in names)], axis=-1)
        spread = columns.std(axis=(0, 1))
        columns = (columns - columns.mean(axis=(0, 1))) / np.where(spread > 0, spread, 1.0)
        residuals = np.empty_like(self.others)
        for i in range(n):
            kept = np.arange(n) != i
            target = self.others[kept].ravel()
            coefficients = np.linalg.lstsq(_design(columns[kept]).reshape(len(target), -1), target, rcond=None)[0]
            # NOTE: Within the range of the others, because a parabola says nothing about what lies outside.
            inside = columns[i].clip(columns[kept].min(axis=(0, 1)), columns[kept].max(axis=(0, 1)))
            residuals[i] = self.others[i] - _design(inside) @ coefficients
        return residuals


def _design(columns: np.ndarray) -> np.ndarray:
    """Columns, ... x k, with a one and their squares: ... x (1 + 2 k)."""
    return np.concatenate([np.ones((*columns.shape[:-1], 1)), columns, columns**2], axis=-1)


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    """The observations of one training by their names."""
    values = {"accuracy, mean": float(np.mean([quality["accuracy"] for quality in row["plain"]]))}
    for prefix, qualities in (("", row["plain"]), ("averaged ", row["averaged"])):
        values |= {prefix + name.replace("_", "-"): value for name, value in qualities[-1].items()}
    return values | row["zero_cost"]


def ratio_interval(residuals: np.ndarray, baseline: np.ndarray) -> tuple[float, float, float]:
    """Ratio of the root mean squares, and the ends of its bootstrap interval of 95 % over networks, the rows."""
    ours, theirs = (np.square(array).mean(axis=1) for array in (residuals, baseline))
    drawn = np.random.default_rng(0).integers(0, len(ours), (_BOOTSTRAPS, len(ours)))
    ratios = np.sqrt(ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1))
    low, high = np.quantile(ratios, [0.025, 0.975])
    return math.sqrt(ours.mean() / theirs.mean()), float(low), float(high)


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row of the table for each observation; the columns are residuals' standard deviations in points, and ratios."""
    groups: dict[str, Observed] = {}
    for name, lines in itertools.groupby(sorted(rows, key=lambda row: row["job"]["data"]), lambda r: r["job"]["data"]):
        groups[name] = Observed.of(list(lines))
        if len(groups[name]) >= 4:
            groups[f"{name}, better half"] = groups[name].better_half()
    usable = {name: group for name, group in groups.items() if _is_enough(group)}
    if not usable:
        return []
    lines = []
    for title, names in OBSERVATIONS.items():
        line: dict[str, Any] = {"observation": title}
        for name, group in usable.items():
            residuals = group.residuals(names)
            ratio, low, high = ratio_interval(residuals, group.residuals(OBSERVATIONS["accuracy"]))
            deviation = 100 * math.sqrt(np.square(residuals).mean())
            line[f"{name} ({len(group)} networks)"] = f"{deviation:.2f}, {ratio:.2f} ({low:.2f} to {high:.2f})"
        lines.append(line)
    floors = {
        f"{name} ({len(group)} networks)": f"{100 * group.deviation_of_others():.2f}" for name, group in usable.items()
    }
    return [*lines, {"observation": "noise of the predicted mean", **floors}]


def _is_enough(group: Observed) -> bool:
    """Whether there are twice as many networks as coefficients, and two seeds."""
    most = 1 + 2 * (1 + max(len(names) for names in OBSERVATIONS.values()))
    return len(group) >= 2 * most and group.values["accuracy"].shape[1] >= 2


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    add_options(parser)
    parser.add_argument("--data", nargs="+", choices=["digits", "cifar10"], default=["digits", "cifar10"])
    parser.add_argument("--networks", type=int, default=60, metavar="N", help="of each table")
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="train from seeds 0 to N - 1")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[str]:
    """Train what is missing, until the minutes end. Returns the lines to print.

    Raises:
        UserError: options are wrong, images cannot be read, or the file cannot be used.
    """

    def row_of(job: Job, dataset: Dataset) -> dict[str, Any]:
        trainer = ObservedTrainer(job, dataset, EMA_DECAY, options.device)
        row = train(job, trainer, dataset, options.threads)
        row["plain"] = [vars(quality) for quality in trainer.plain]
        row["averaged"] = [vars(quality) for quality in trainer.averaged]
        return row | {"zero_cost": zero_cost(job.architecture, dataset.train, job.seed)}

    lines = summary(train_missing(jobs(options), row_of, options).rows)
    return (
        table(lines) if lines else ["There are too few trainings yet: a network counts when all its seeds are there."]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return run_script(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
