"""The int8 networks of a run: what quantising its fully trained networks gave, their front, and choosing one of them.

`mgnas retrain --int8` and `mgnas export --int8` measure accuracy and size, and note them beside each network. A network
that lost too much was not kept, and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from mgnas.errors import UserError

from ...search.trial_record import CompletedTrial
from ..deploy.latency.meter import LatencyMeter
from ..deploy.model_card import EXPORTS_FILE, read_exports
from ..deploy.retraining import Retrained
from .constraints import UNLIMITED, Constraints
from .select import Preference


@dataclass(frozen=True)
class Int8Network:
    """An int8 network, over the seeds that were quantised.

    Args:
        trial: whose network it is.
        accuracy, float_accuracy: means over the seeds, as fractions, on the images of `part`.
        size, float_size: bytes of the largest file, int8 and float32.
        seeds: how many were quantised and kept.
        part: `test` or `validation`.
        folder: of the most accurate seed.
    """

    trial: CompletedTrial
    accuracy: float
    float_accuracy: float
    size: int
    float_size: int
    seeds: int
    part: str
    folder: Path

    def in_words(self) -> str:
        return (
            f"{self.size:>9,} bytes  {100 * self.accuracy:6.2f} %  (float: {self.float_size:,} bytes, "
            f"{100 * self.float_accuracy:.2f} %)  {self.trial.architecture.describe()}"
        )


def int8_networks(trials: Sequence[CompletedTrial], retrained: Mapping[int, Retrained]) -> list[Int8Network]:
    """The int8 networks of these trials, by ascending size.

    Args:
        trials: of a run.
        retrained: trial number -> its full trainings.

    Raises:
        UserError: a damaged file.
    """
    networks = []
    for trial in trials:
        if trial.number not in retrained:
            continue
        full = retrained[trial.number]
        facts = {file.parent: _facts(file.parent) for file in sorted(full.folder.glob(f"seed-*/{EXPORTS_FILE}"))}
        kept = {folder: fact for folder, fact in facts.items() if fact is not None and fact["kept"]}
        if kept:
            networks.append(
                Int8Network(
                    trial,
                    fmean(fact["accuracy"] for fact in kept.values()),
                    fmean(fact["float_accuracy"] for fact in kept.values()),
                    max(fact["size"] for fact in kept.values()),
                    max(fact["float_size"] for fact in kept.values()),
                    len(kept),
                    full.part,
                    max(kept, key=lambda folder: kept[folder]["accuracy"]),
                )
            )
    return sorted(networks, key=lambda network: (network.size, -network.accuracy))


def _facts(folder: Path) -> dict[str, Any] | None:
    """What quantising the network in this folder gave; None: it was not quantised."""
    facts = read_exports(folder).get("int8")
    if facts is None:
        return None
    try:
        accuracies = [float(facts[key]) for key in ("accuracy", "float_accuracy")]
        sizes = [facts[key] for key in ("size", "float_size")]
        if not all(0 <= accuracy <= 1 for accuracy in accuracies) or not all(type(s) is int and s > 0 for s in sizes):
            raise ValueError
        if type(facts["kept"]) is not bool:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder / EXPORTS_FILE}: is damaged; delete it and export again") from None
    return facts


def int8_front(networks: Sequence[Int8Network]) -> list[Int8Network]:
    """The networks that no other beats in int8 accuracy and int8 size, by ascending size."""
    front: list[Int8Network] = []
    for network in sorted(networks, key=lambda network: (network.size, -network.accuracy)):
        if not front or network.accuracy > front[-1].accuracy:
            front.append(network)
    return front


@dataclass(frozen=True)
class Int8Choice:
    """A chosen int8 network and why.

    Args:
        network: the chosen one.
        front: of all that keep the limits, by ascending size; the chosen one is among them.
        why: in words.
    """

    network: Int8Network
    front: list[Int8Network]
    why: str


def select_int8(
    networks: Sequence[Int8Network],
    constraints: Constraints = UNLIMITED,
    prefer: Preference = "knee",
    meter: LatencyMeter | None = None,
) -> Int8Choice:
    """Choose by accuracy and size of the int8 networks.

    Args:
        networks: at least one.
        constraints: what to keep; accuracy, size and latencies are those of the int8 network.
        prefer: `knee`: the point farthest above the line between the ends of the front (accuracy against log bytes).
            `accuracy`: the most accurate. `weights`: the smallest.
        meter: measures latencies, or knows a device's; only asked if they are limited.

    Raises:
        UserError: no network keeps the limits, a latency cannot be told, or `expected`, which only trials of the search
            have.
    """
    if prefer == "expected":
        raise UserError("--prefer expected: is known of trials of the search, not of int8 networks; leave it out")
    meter = meter or LatencyMeter()
    left = list(networks)
    # In ascending order of what it costs to know: only networks that keep all other limits are measured.
    for option, limit, unit, amount in (
        ("--max-weights", constraints.max_weights, "weights", lambda n: n.trial.weights),
        ("--max-macs", constraints.max_macs, "MACs", lambda n: n.trial.macs),
        ("--max-memory", constraints.max_memory, "bytes of float32 activations", lambda n: _memory(n, False)),
        ("--max-memory-int8", constraints.max_memory_int8, "bytes of activations", lambda n: _memory(n, True)),
        ("--max-size", constraints.max_size, "bytes", lambda n: n.size),
    ):
        left = _within(left, option, limit, unit, amount)
    if (lowest := constraints.min_accuracy) is not None:
        best, left = max(n.accuracy for n in left), [n for n in left if n.accuracy >= lowest]
        if not left:
            raise UserError(f"--min-accuracy: no int8 network reaches {lowest:g}; the best has {best:.4f}")
    for option, limit, batch in (
        ("--max-latency", constraints.max_latency, 1),
        ("--max-latency-32", constraints.max_latency_32, 32),
    ):
        left = _within(left, option, limit, "ms", lambda n, b=batch: meter.int8_latencies(n.trial.candidate)[b])
    front = int8_front(left)
    among = f"of {len(left)} int8 networks that keep the limits" if len(left) > 1 else "the only one within the limits"
    if prefer == "weights":
        return Int8Choice(front[0], front, f"weights: the smallest {among}")
    if prefer == "accuracy":
        return Int8Choice(front[-1], front, f"accuracy: the most accurate {among}")
    return Int8Choice(max(front, key=lambda network: _height(network, front)), front, f"knee: {among}")


def _memory(network: Int8Network, int8: bool) -> int:
    return network.trial.candidate.activation_memory(int8)


def _within(
    networks: list[Int8Network],
    option: str,
    limit: float | None,
    unit: str,
    amount: Callable[[Int8Network], float],
) -> list[Int8Network]:
    """The networks whose amount is at most the limit.

    Raises:
        UserError: none is left; it names the option and the least amount.
    """
    if limit is None:
        return networks
    amounts = [amount(network) for network in networks]
    left = [network for network, value in zip(networks, amounts, strict=True) if value <= limit]
    if not left:
        raise UserError(f"{option}: no int8 network has at most {limit:,} {unit}; the least is {min(amounts):,}")
    return left


def _height(network: Int8Network, front: Sequence[Int8Network]) -> float:
    """How far a network of the front lies above the line between its ends; 0 for a front of one point."""
    first, last = front[0], front[-1]
    if first is last:
        return 0.0
    along = math.log(network.size / first.size) / math.log(last.size / first.size)
    return (network.accuracy - first.accuracy) / (last.accuracy - first.accuracy) - along
