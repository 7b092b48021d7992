"""Whether training diverges anywhere in a search space: trains random candidates for a few epochs.

A candidate diverges if a loss is not finite, or if the mean loss of its last epoch is above log(classes) + 0.5.
Guessing has a loss of log(classes). The recipe is that of the search, with the same learning rate, fewer epochs, and a
warm-up that is shorter in proportion. The space is that of the config; --image-size and --images do not change it. Only
networks with too many levels for the smaller images are passed over.

    python benchmarks/training/stability.py configs/cifar10.yaml --candidates 200 [--data cifar10.npz] [--images 512]
        [--image-size 16] [--epochs 2] [--seed 0] [--threads 1] [--only 79 115]

--only repeats some of the candidates, by the numbers that a run has printed.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mgnas.errors import ConfigError, UserError, first_line
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import Dataset, load_dataset
from mgnas.search.training.trainer import Trainer, TrainingDivergedError
from mgnas.space.candidate import Candidate, TrainingSettings
from mgnas.space.search_space import SearchSpace

_MARGIN = 0.5


@dataclass(frozen=True)
class Outcome:
    """The result of a candidate's training. `loss` is that of its last epoch, infinite if a loss was not finite."""

    candidate: Candidate
    loss: float
    diverged: bool

    def __str__(self) -> str:
        verdict = "diverged" if self.diverged else "stable"
        network = f"{self.candidate.weights:,} weights, {self.candidate.architecture.describe()}"
        return f"{verdict}, loss {self.loss:.3f}, {network}"


def distinct_candidates(space: SearchSpace, count: int, seed: int, image_size: int) -> list[Candidate]:
    """Random valid candidates with different ids, which images of this size can train.

    Raises:
        UserError: 100 * `count` random candidates contain fewer than `count` different ones.
    """
    rng = np.random.default_rng(seed)
    candidates: dict[str, Candidate] = {}
    for _ in range(100 * count):
        candidate = space.sample(rng)
        try:
            candidate.architecture.check_image_size(image_size)
        except ConfigError:
            # NOTE: In bfloat16 on CPUs, torch's gradient of a kernel that halves a single pixel is not a number.
            continue
        candidates[candidate.id] = candidate
        if len(candidates) == count:
            return list(candidates.values())
    raise UserError(f"--candidates: the space has only about {len(candidates)} of them, not {count}")


def shortened(recipe: TrainingSettings, epochs: int) -> TrainingSettings:
    """The recipe with `epochs` epochs, the same share of them for the warm-up, and the same learning rate."""
    return replace(recipe, epochs=epochs, warmup_epochs=recipe.warmup_epochs * epochs / recipe.epochs)


def train(candidate: Candidate, data: Dataset, epochs: int, seed: int, device: str) -> Outcome:
    """Train a candidate with a shortened recipe."""
    recipe = shortened(candidate.training, epochs)
    trainer = Trainer(candidate.architecture, recipe, data.train, None, seed, device)
    try:
        while not trainer.finished:
            trainer.run_epoch()
    except TrainingDivergedError:
        return Outcome(candidate, math.inf, diverged=True)
    loss = trainer.history[-1].loss
    return Outcome(candidate, loss, diverged=loss > math.log(data.num_classes) + _MARGIN)


def measure(options: argparse.Namespace) -> list[Outcome]:
    """Train the candidates one after the other, and print each outcome.

    Raises:
        UserError: the config or the data cannot be used.
    """
    config = SearchConfig.load(options.config).override(path=options.data)
    reduced = config.override(train_images=options.images, image_size=options.image_size)
    data = load_dataset(reduced.data)
    candidates = distinct_candidates(config.search_space(), options.candidates, options.seed, data.image_size)
    print(f"{len(data.train):,} images of {data.image_size} x {data.image_size} pixels, {options.epochs} epochs")
    outcomes = []
    for number in options.only or range(1, len(candidates) + 1):
        seed = options.seed + number - 1
        outcomes.append(train(candidates[number - 1], data, options.epochs, seed, options.device))
        print(f"[{number}/{len(candidates)}] {outcomes[-1]}", flush=True)
    return outcomes


def parsed_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""))
    parser.add_argument("config", type=Path, help="a search's YAML file")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--data", help="as data.path; default: the config's")
    parser.add_argument("--images", type=int, default=512, help="training images, before the validation split")
    parser.add_argument("--image-size", type=int, help="pixels per side; default: the data set's")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the choice of candidates, and of the first training"
    )
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="of candidates, from 1; default: all")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if min(options.candidates, options.epochs, options.threads) < 1:
        parser.error("--candidates, --epochs and --threads count from 1")
    if any(not 1 <= number <= options.candidates for number in options.only or ()):
        parser.error(f"--only takes numbers from 1 to {options.candidates}, that of --candidates")
    return options


def main() -> int:
    options, start = parsed_options(), time.perf_counter()
    torch.set_num_threads(options.threads)
    try:
        outcomes = measure(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    diverged = [outcome for outcome in outcomes if outcome.diverged]
    print(f"\n{len(diverged)} of {len(outcomes)} candidates diverge")
    for outcome in diverged:
        print(f"  {outcome}")
    print(f"worst: {max(outcomes, key=lambda outcome: outcome.loss)}")
    where = f"{options.device}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(f"{where}, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
