"""How long an ask of the sampler `ehvi` takes, on one core.

    python benchmarks/search/ask_time.py [--config configs/cifar10.yaml] [--observations 300 3000]

A strategy over the space of the config takes over a number of finished trials, as a resumed search does.
After each ask its trial ends. The processor time of one thread is measured for three kinds of asks:

- the first one, which draws the candidates and learns the hyperparameters from nothing;
- plain ones, which use the hyperparameters that are there;
- learning ones, as they come whenever the data have grown by a tenth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial
from scale import CONFIG, SimulatedTrainings

from mgnas.search.config import SearchConfig
from mgnas.search.samplers.candidate_pool import CandidatePool
from mgnas.search.samplers.ehvi import EHVISampler
from mgnas.search.samplers.outcome_transforms import LogErrorTransform
from mgnas.search.samplers.proposer import Proposal, Proposer
from mgnas.search.strategy.strategy import Strategy
from mgnas.search.trial_record import GaussianPrediction, TrialRecord, TrialState
from mgnas.space.search_space import SearchSpace


class MeasuredProposer(Proposer):
    """Looks at the model at every ask: what is left of a batch is dropped."""

    learns = False
    """Whether it learns the hyperparameters anew at the next ask, beginning at those of the last time."""

    def propose(
        self, trials: Sequence[FrozenTrial], number: int, predictions: Mapping[int, GaussianPrediction]
    ) -> Proposal | None:
        self.waiting.clear()
        if self.learns:
            self.model._learned_from = (1, 1)
        return super().propose(trials, number, predictions)


class MeasuredSampler(EHVISampler):
    proposer_class = MeasuredProposer


def finished(space: SearchSpace, count: int, trainings: SimulatedTrainings) -> list[TrialRecord]:
    """Complete records of `count` different random candidates."""
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
    trainings = SimulatedTrainings()
    sampler = MeasuredSampler(pool=CandidatePool(space, 0), seed=0, outcome_transform=LogErrorTransform())
    strategy = Strategy(space, sampler, count + 3 * asks + 1, records=finished(space, count, trainings))

    def ask(learns: bool = False) -> float:
        MeasuredProposer.learns = learns
        before = time.process_time()
        record = strategy.ask()
        spent = time.process_time() - before
        assert record is not None, "the space has more candidates than are asked for"
        strategy.report(record.number, [trainings.accuracy(record)] * space.training.epochs)
        strategy.complete(record.number)
        return spent

    first, plain, learning = ask(), [], []
    for _ in range(asks):
        plain += [ask(), ask()]
        learning.append(ask(learns=True))
    return first, plain, learning


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--config", type=Path, default=CONFIG, help="a search's YAML file; default: spaces/cifar10.yaml"
    )
    parser.add_argument("--observations", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--asks", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = SearchConfig.load(options.config).search_space()
    for count in options.observations:
        first, plain, learning = measure(space, count, options.asks)
        text = "; ".join(
            f"{name} {np.median(s):.3f} s, at most {max(s):.3f} s"
            for name, s in (("plain", plain), ("learning", learning))
        )
        print(f"{count:,} observations: first ask {first:.2f} s; {text}", flush=True)


if __name__ == "__main__":
    main()
