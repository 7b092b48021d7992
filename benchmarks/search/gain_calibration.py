"""What further trials were expected to bring, and what they brought.

    python benchmarks/search/gain_calibration.py [digits cifar10 TABLE.json ...] [--seeds 20] [--after 20 30 45 60 90]
    python benchmarks/search/gain_calibration.py [digits cifar10 TABLE.json ...] [--seeds 20] --until 0.5%

Searches see one training of each network (calibration_tables.py). After a number of trials the gain of the next 20 is
predicted, as a share of the hypervolume. What they bring is measured by other trainings, from the same reference: the
largest weights of the table, and a tenth of the front's extent below its lightest network.

With --until a search goes on for three times the trials after which `search.until` would have ended it, or until all
networks are trained. The share of the hypervolume that it had at its end is printed.
"""

from __future__ import annotations

import argparse

import numpy as np
import optuna
import torch
from calibration_tables import CalibrationTable

from mgnas.search.config import Until
from mgnas.search.samplers.acquisition import gaps
from mgnas.search.samplers.outlook.rollouts import hypervolume
from mgnas.search.strategy.enough import is_enough
from mgnas.search.trial_record import ExpectedGain
from mgnas.settings import build

_FURTHER = 20
_MARGIN = 0.1


def realised(table: CalibrationTable, networks: list[int], after: int, end: int) -> float:
    """The share that the trials after the first ones, up to `end`, added to the hypervolume by other trainings."""
    cost, truth = table.cost[networks], table.truth[networks]
    front = truth[:after][gaps(cost[:after], truth[:after]) == 0]
    lowest = float(front.min() - _MARGIN * np.ptp(front))
    areas = [hypervolume(cost[:n], truth[:n], table.cost.max(), lowest) for n in (after, end)]
    return areas[1] / areas[0] - 1


def calibrate(table: CalibrationTable, seeds: int, trials: list[int]) -> None:
    """Print expected and realised gains after these numbers of trials."""
    pairs = {after: [] for after in trials}
    for seed in range(seeds):
        study, sampler = table.study(seed)
        networks, predicted = [], {}
        while len(networks) < max(trials) + _FURTHER:
            networks.append(table.train(study))
            if len(networks) in pairs:
                predicted[len(networks)] = sampler.expected_gain(study, _FURTHER)
        for after, gain in predicted.items():
            if gain is not None:
                pairs[after].append((gain, realised(table, networks, after, after + _FURTHER)))
    print(f"{table.name}: {seeds} searches, the gain of {_FURTHER} further trials in %", flush=True)
    for after, values in pairs.items():
        said, came = 100 * np.array(values).T
        means = f"means {said.mean():.2f} and {came.mean():.2f}"
        medians = f"medians {np.median(said):.2f} and {np.median(came):.2f}"
        print(f"  after {after:3} trials, expected and realised: {means}, {medians}", flush=True)


def end(table: CalibrationTable, seeds: int, until: Until) -> None:
    """Print after how many trials searches ended, and what share of three times the trials they had reached."""
    ends, shares = [], []
    for seed in range(seeds):
        study, sampler = table.study(seed)
        networks, gains = [], []
        while not is_enough(gains, until) and len(networks) < len(table.cost):
            networks.append(table.train(study))
            gain = sampler.expected_gain(study, until.trials)
            gains += [] if gain is None else [ExpectedGain(until.trials, gain)]
        ended = len(networks)
        while len(networks) < min(3 * ended, len(table.cost)):
            networks.append(table.train(study))
        ends.append(ended)
        shares.append(100 / (1 + realised(table, networks, ended, len(networks))))
    quartiles = "{:.0f} (quartiles {:.0f} to {:.0f})".format(*np.quantile(ends, [0.5, 0.25, 0.75]))
    reached = "{1:.1f} % (quartiles {0:.1f} to {2:.1f}, least {3:.1f})".format(
        *np.quantile(shares, [0.25, 0.5, 0.75]), min(shares)
    )
    rule = f"{until.trials} further trials are expected to add less than {100 * until.gain:g} %"
    print(f"{table.name}: {seeds} searches end when {rule}", flush=True)
    print(f"  after {quartiles} trials, with {reached} of the hypervolume of three times the trials", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=["digits", "cifar10"])
    parser.add_argument("--after", type=int, nargs="+", default=[20, 30, 45, 60, 90])
    parser.add_argument("--until", metavar="SHARE", help="a gain, such as 0.5%%")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for source in options.tables:
        table = CalibrationTable.load(source)
        if options.until is None:
            calibrate(table, options.seeds, options.after)
        else:
            end(table, options.seeds, build(Until, {"gain": options.until, "trials": _FURTHER}, "--until"))


if __name__ == "__main__":
    main()
