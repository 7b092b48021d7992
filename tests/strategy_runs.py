"""Searches that tests of the strategy run: made-up accuracies, asks and reports in turn."""

import pytest
from optuna.trial import TrialState as OptunaState

from mgnas.search.samplers.factory import SAMPLERS
from mgnas.search.trial_record import completed_trials

samplers = pytest.mark.parametrize("sampler", SAMPLERS)
# Optuna's Gaussian process takes a tenth of a second for a proposal after its ten random ones.
quick_samplers = pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "gp"])


def accuracy(record) -> float:
    """Some number in [0, 1) that is the same for the same network."""
    return record.weights % 97 / 97


def finish(strategy, record) -> None:
    strategy.report(record.number, [accuracy(record) / 2, accuracy(record)])
    strategy.complete(record.number)


def run(strategy, most: int = 10_000) -> list:
    """Ask and complete, one after the other, until there is no more; the records in order."""
    records = []
    while len(records) < most and (record := strategy.ask()) is not None:
        finish(strategy, record)
        records.append(record)
    return records


def ids(records) -> list[str]:
    return [record.candidate.id for record in records]


def told(strategy) -> dict[OptunaState, list]:
    """What the sampler's own study holds: state -> the values of its trials."""
    states = {state: [] for state in OptunaState}
    for trial in strategy._study.get_trials():
        states[trial.state].append(tuple(trial.values or ()))
    return states


def results(records) -> list[tuple[float, float]]:
    return sorted((trial.accuracy, float(trial.weights)) for trial in completed_trials(records))
