"""How long an ask of the sampler `ehvi` takes, on one core.

    python benchmarks/search/ask_time.py [--observations 300 3000]

A strategy over the space of configs/cifar10.yaml takes over so many finished trials, as a resumed search does. Measured
is the processor time of one thread: of the first ask, in which the candidates are drawn and the hyperparameters are
learned from nothing; of asks behind each of which a trial ends; and of asks for which the hyperparameters are learned
anew, as after every tenth that the data have grown by.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import optuna
import torch
from scale import Trainings, cifar10_space

from mgnas.search.samplers.factory import make_sampler
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import TrialRecord, TrialState
from mgnas.space.search_space import SearchSpace


def finished(space: SearchSpace, count: int, trainings: Trainings) -> list[TrialRecord]:
    """Records of so many different random candidates."""
    rng, records, seen = np.random.default_rng(0), [], set()
    while len(records) < count:
        candidate = space.sample(rng)
        if candidate.id not in seen:
            seen.add(candidate.id)
            record = TrialRecord(len(records), candidate, len(records))
            record.curve, record.state = [trainings.accuracy(record)] * space.training.epochs, TrialState.COMPLETE
            records.append(record)
    return records


def measure(space: SearchSpace, count: int, asks: int) -> tuple[float, list[float], list[float]]:
    """Seconds of the first ask, of the next ones, and of those that learn hyperparameters."""
    trainings = Trainings()
    sampler = make_sampler("ehvi", 0, space)
    strategy = Strategy(space, sampler, count + 3 * asks + 1, records=finished(space, count, trainings))

    def ask() -> float:
        before = time.process_time()
        record = strategy.ask()
        spent = time.process_time() - before
        strategy.report(record.number, [trainings.accuracy(record)] * space.training.epochs)
        strategy.complete(record.number)
        return spent

    first, plain, learning = ask(), [], []
    for _ in range(asks):
        plain.append(ask())
        # A batch that is left over would be handed out without looking at the model.
        sampler._waiting.clear()
        plain.append(ask())
        sampler._waiting.clear()
        sampler._model._learned_from = (1, 1)
        learning.append(ask())
    return first, plain, learning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--observations", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--asks", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for count in options.observations:
        first, plain, learning = measure(cifar10_space(), count, options.asks)
        text = "; ".join(
            f"{name} {np.median(s):.3f} s, at most {max(s):.3f} s"
            for name, s in (("plain", plain), ("learning", learning))
        )
        print(f"{count:,} observations: first ask {first:.2f} s; {text}", flush=True)


if __name__ == "__main__":
    main()
