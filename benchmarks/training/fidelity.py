"""Does a short training rank what matters? Compares networks of equal weights after short and after long trainings.

That more weights help is known without any training. So the networks are drawn in narrow bands: the heaviest of a band
has at most a tenth more weights than the lightest. Each is trained for E epochs as a search would do it, for 3 E, and
to the end, with each seed. These are trainings of their own, each with its whole schedule of learning rates.

    python benchmarks/training/fidelity.py --out fidelity.jsonl [--data-cifar10 cifar10.npz] [--bands 20k 60k 140k]
        [--networks 8] [--seeds 2] [--epochs E] [--final N] [--config SEARCH.yaml] [--image-size N] [--minutes 60]

Space, images and recipes are those of a search config: `training` for the short trainings, `final_training` for the
last ones. Accuracies are those of held-out training images; test images are not used. Each finished training is a line
of --out, seed after seed. The same call again goes on with those that are missing; --show prints the table of the lines
that are there, and trains nothing. Calls with different bands can run at the same time with the same --out.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from observed_trainer import LAST_EPOCHS, ObservedTrainer
from resumable import Job, add_options, run_script, train, train_missing
from scipy.stats import rankdata
from stability import shortened
from tables import table

from mgnas.errors import ConfigError, UserError, first_line
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import Dataset, data_shape
from mgnas.space.candidate import Candidate, TrainingSettings
from mgnas.space.limits import parse_count
from mgnas.space.search_space import SearchSpace

CONFIG = Path(__file__).with_suffix(".yaml")
BANDS = ("20k", "60k", "140k")

EMA_DECAY = 0.99
"""Decay per step of the averaged weights, if the recipe has no average of its own."""

_WIDTH = 1.1
"""Weights of the heaviest network of a band over those of the lightest, at most."""
_TRIES = 100_000
"""Points of the space that are drawn to fill the bands; takes half a minute."""

SIGNALS: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "last epoch": lambda row: row["plain"][-1],
    f"mean of the last {LAST_EPOCHS} epochs": lambda row: statistics.fmean(row["plain"]),
    "averaged weights": lambda row: row["averaged"][-1],
}
"""What a short training may be judged by: the accuracy of its weights or of their moving average."""


def band_networks(space: SearchSpace, bands: Sequence[str], count: int) -> dict[str, list[Candidate]]:
    """`count` different random networks for each band. Those of a band do not depend on the others.

    Raises:
        UserError: a band is no number of weights, or the space has too few networks in it.
    """
    centres = {band: _weights(band) for band in bands}
    found: dict[str, dict[str, Candidate]] = {band: {} for band in bands}
    rng = np.random.default_rng(0)
    for _ in range(_TRIES):
        if all(len(networks) == count for networks in found.values()):
            break
        try:
            candidate = space.candidate(space.random_values(rng))
        except ConfigError:
            continue
        for band, centre in centres.items():
            if len(found[band]) < count and abs(math.log(candidate.weights / centre)) <= math.log(_WIDTH) / 2:
                found[band].setdefault(candidate.id, candidate)
    for band, networks in found.items():
        if len(networks) < count:
            problem = f"the space has only {len(networks)} networks of about {centres[band]:,} weights, not {count}"
            raise UserError(f"--bands {band}: {problem}; name another band or --config")
    return {band: list(networks.values()) for band, networks in found.items()}


def _weights(band: str) -> int:
    try:
        return parse_count(band)
    except ConfigError as error:
        raise UserError(f"--bands: {error}") from None


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """All trainings: seed after seed, and of each seed one network of every band after the other.

    Raises:
        UserError: the config or an option is wrong.
    """
    config = SearchConfig.load(options.config)
    pixels = data_shape(config.data)[2]
    changes: dict[str, Any] = {"image_size": options.image_size}
    if config.data.name == "cifar10":
        changes["path"] = options.data_cifar10
    if options.images is not None:
        changes |= {"train_images": sum(options.images)}
        changes |= {"validation_fraction": options.images[1] / sum(options.images)}
    config = config.override(**changes)
    short, final = (
        _for_size(recipe, data_shape(config.data)[2] / pixels) for recipe in (config.training, config.final_training)
    )
    epochs, last = options.epochs or short.epochs, options.final or final.epochs
    if last <= 3 * epochs:
        raise UserError(f"--final: {last} epochs must be more than three times --epochs, {epochs}")
    recipes = [shortened(short, epochs), shortened(short, 3 * epochs), shortened(final, last)]
    networks = band_networks(config.search_space(), list(dict.fromkeys(options.bands)), options.networks)
    for seed in range(options.seeds):
        for candidates in zip(*networks.values(), strict=True):
            for band, candidate in zip(networks, candidates, strict=True):
                for training in recipes:
                    labels = {"config": config.name, "band": band, "network": candidate.id, "epochs": training.epochs}
                    yield Job(labels, seed, candidate.architecture, training, config.data)


def _for_size(recipe: TrainingSettings, scale: float) -> TrainingSettings:
    """The recipe for images of `scale` times the pixels per side."""
    pixels = {name: round(scale * getattr(recipe, name)) for name in ("crop_padding", "cutout")}
    return replace(recipe, **pixels)


# ------------------------------------------------------------------------------------------------------------ the table


def rank_correlation(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Spearman's, over the networks of both; nan for fewer than 3, or if one side is constant."""
    networks = sorted(first.keys() & second.keys())
    pairs = np.array([[first[name], second[name]] for name in networks]).reshape(-1, 2)
    if len(pairs) < 3 or not np.ptp(pairs, axis=0).all():
        return math.nan
    return float(np.corrcoef(rankdata(pairs, axis=0), rowvar=False)[0, 1])


def regret(short: Mapping[str, float], final: Mapping[str, float], count: int | None = None) -> float:
    """What is expected to be lost against the best final accuracy by choosing the best of `short`.

    Only networks of both are known; nan if there are none. If several are the best, the choice among them is random.

    Args:
        short: accuracies to choose by.
        final: accuracies that count.
        count: choose among as many random networks only; None: among all of them.
    """
    known = short.keys() & final.keys()
    if not known:
        return math.nan
    ties: dict[float, list[float]] = defaultdict(list)
    for name in known:
        ties[short[name]].append(final[name])
    count = min(count or len(known), len(known))
    below, expected = 0, 0.0
    for value in sorted(ties):
        up_to = below + len(ties[value])
        subsets = math.comb(up_to, count) - math.comb(below, count)
        expected += subsets / math.comb(len(known), count) * statistics.fmean(ties[value])
        below = up_to
    return max(final[name] for name in known) - expected


Curves = dict[int, dict[int, dict[str, dict[str, Any]]]]
"""Epochs -> seed -> network -> its line of the results."""


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row of the table for each band, length of the short trainings and signal, and one of the mean over the bands.

    The longest trainings are the final ones, by their mean over the seeds. Diverged trainings have an accuracy of 0.
    """
    bands: dict[tuple[str, str], Curves] = {}
    for row in rows:
        job = row["job"]
        curves = bands.setdefault((job["config"], job["band"]), defaultdict(lambda: defaultdict(dict)))
        curves[job["epochs"]][job["seed"]][job["network"]] = dict(row)
    lines: list[dict[str, Any]] = []
    for config in dict.fromkeys(config for config, _ in bands):
        figures = {band: _band_figures(curves) for (name, band), curves in bands.items() if name == config}
        by_weights = sorted(figures, key=parse_count)
        means: dict[tuple[int, str], list[dict[str, float]]] = defaultdict(list)
        for band in by_weights:
            for (epochs, signal), values in figures[band].items():
                lines.append(_line(config, band, epochs, signal, values))
                means[epochs, signal].append(values)
        for (epochs, signal), several in means.items():
            if len(several) > 1:
                mean = {name: _mean(values[name] for values in several) for name in several[0]}
                lines.append(_line(config, "mean", epochs, signal, mean))
    return lines


def _band_figures(curves: Curves) -> dict[tuple[int, str], dict[str, float]]:
    """(epochs of the short trainings, signal) -> its figures."""
    *shorter, longest = sorted(curves)
    finals = [{name: row["accuracy"] or 0.0 for name, row in networks.items()} for networks in curves[longest].values()]
    final = {name: statistics.fmean(one[name] for one in finals if name in one) for name in set().union(*finals)}
    ceiling = _mean(rank_correlation(*pair) for pair in itertools.combinations(finals, 2))
    figures = {}
    for epochs in shorter:
        affordable = max(1, round(len(final) * shorter[0] / epochs))
        for title, signal in SIGNALS.items():
            shorts = [
                {name: 0.0 if row["accuracy"] is None else signal(row) for name, row in networks.items()}
                for networks in curves[epochs].values()
            ]
            figures[epochs, title] = {
                "networks": len(set().union(*shorts) & final.keys()),
                "rank correlation": _mean(rank_correlation(short, final) for short in shorts),
                "between seeds": ceiling,
                "regret": _mean(regret(short, final) for short in shorts),
                "at equal cost": _mean(regret(short, final, affordable) for short in shorts),
                "at random": _mean(regret(short, final, 1) for short in shorts),
            }
    return figures


def _line(config: str, band: str, epochs: int, signal: str, values: Mapping[str, float]) -> dict[str, Any]:
    shown = {name: "" if math.isnan(value) else f"{value:.2f}" for name, value in values.items()}
    for name in ("regret", "at equal cost", "at random"):
        shown[name] = "" if math.isnan(values[name]) else f"{100 * values[name]:.2f}"
    shown["networks"] = f"{values['networks']:.3g}"
    return {"config": config, "band": band, "epochs": epochs, "judged by": signal, **shown}


def _mean(values: Iterator[float] | Sequence[float]) -> float:
    """The mean of those that are not nan; nan if there is none."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.fmean(known) if known else math.nan


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""), allow_abbrev=False)
    add_options(parser)
    parser.add_argument("--config", default=str(CONFIG), metavar="FILE", help="a search config; default: fidelity.yaml")
    parser.add_argument("--bands", nargs="+", default=BANDS, metavar="WEIGHTS", help="such as 60k")
    parser.add_argument("--networks", type=int, default=8, metavar="N", help="of each band")
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="train from seeds 0 to N - 1")
    parser.add_argument("--epochs", type=int, metavar="E", help="of the short trainings; default: the config's")
    parser.add_argument("--final", type=int, metavar="N", help="epochs of the last trainings; default: the config's")
    parser.add_argument("--image-size", type=int, metavar="N", help="pixels per side; default: the config's")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> list[str]:
    """Train what is missing, until the minutes end. Returns the lines to print.

    Raises:
        UserError: options are wrong, images cannot be read, or the file cannot be used.
    """

    def row_of(job: Job, dataset: Dataset) -> dict[str, Any]:
        trainer = ObservedTrainer(job, dataset, EMA_DECAY, options.device)
        row = train(job, trainer, dataset, options.threads)
        qualities = {"plain": trainer.plain, "averaged": trainer.averaged}
        return row | {name: [quality.accuracy for quality in of] for name, of in qualities.items()}

    lines = summary(train_missing(jobs(options), row_of, options).rows)
    return table(lines) if lines else ["There is no network yet with both a short and a final training."]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    return run_script(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
