"""What further trials were expected to bring, and what they brought.

    python benchmarks/search/gain_calibration.py [digits cifar10 TABLE.json ...] [--seeds 20] [--after 20 30 45 60 90]

Searches see one training of each network (calibration_tables.py). After a number of trials the gain of the next 20 is
predicted, as a share of the hypervolume. What they bring is measured by other trainings, from the same reference: the
largest weights of the table, and a tenth of the front's extent below its lightest network.
"""

from __future__ import annotations

import argparse

import numpy as np
import optuna
import torch
from calibration_tables import CalibrationTable

from mgnas.search.samplers.acquisition import gaps
from mgnas.search.samplers.outlook.rollouts import hypervolume

_FURTHER = 20
_MARGIN = 0.1


def realised(table: CalibrationTable, networks: list[int], after: int) -> float:
    """The share that the trials after the first ones added to the hypervolume by other trainings."""
    cost, truth = table.cost[networks], table.truth[networks]
    front = truth[:after][gaps(cost[:after], truth[:after]) == 0]
    lowest = float(front.min() - _MARGIN * np.ptp(front))
    areas = [hypervolume(cost[:n], truth[:n], table.cost.max(), lowest) for n in (after, after + _FURTHER)]
    return areas[1] / areas[0] - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="*", default=["digits", "cifar10"])
    parser.add_argument("--after", type=int, nargs="+", default=[20, 30, 45, 60, 90])
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for source in options.tables:
        table, pairs = CalibrationTable.load(source), {after: [] for after in options.after}
        for seed in range(options.seeds):
            study, sampler = table.study(seed)
            networks, predicted = [], {}
            while len(networks) < max(options.after) + _FURTHER:
                networks.append(table.train(study))
                if len(networks) in pairs:
                    predicted[len(networks)] = sampler.expected_gain(study, _FURTHER)
            for after, gain in predicted.items():
                if gain is not None:
                    pairs[after].append((gain, realised(table, networks[: after + _FURTHER], after)))
        print(f"{table.name}: {options.seeds} searches, the gain of {_FURTHER} further trials in %", flush=True)
        for after, values in pairs.items():
            said, came = 100 * np.array(values).T
            means = f"means {said.mean():.2f} and {came.mean():.2f}"
            medians = f"medians {np.median(said):.2f} and {np.median(came):.2f}"
            print(f"  after {after:3} trials, expected and realised: {means}, {medians}", flush=True)


if __name__ == "__main__":
    main()
