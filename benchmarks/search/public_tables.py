"""How many trainings a search needs on a public table: EHVISampler against its peers.

    python benchmarks/search/public_tables.py TABLE.json [--methods ehvi tpe ...] [--seeds 20] [--minutes 8] [--show]

TABLE.json is nas-bench-macro_cifar10.json as the repository of NAS-Bench-Macro has it (nas_bench_macro.py). A search
sees the first training of each network. It is scored by the mean of the other two: the hypervolume in (accuracy, log10
weights) as a share of that of all networks, measured from the nadir of their front moved out by a tenth.

Every sampler is asked through Optuna's public interface, with one categorical parameter for each layer. Proposals of a
network that was trained already are replaced by the nearest string of a new one, as in mgnas's searches. Without that
layer ("as it is") a repeated proposal costs a training again.

Every finished search is a line of the file --out, so that a call with --minutes can be repeated until none is missing.
The table and the picture are written beside it from all its lines; --show does only that.
"""

from __future__ import annotations

import abc
import argparse
import collections
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import torch
from efficiency_report import number, ratio, versions
from nas_bench_macro import LAYERS, OPERATIONS, MacroTable, canonical
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from mgnas import EHVISampler, LogErrorTransform
from mgnas.errors import UserError, first_line
from mgnas.files import write_text
from mgnas.reports.figures.style import save_figure
from mgnas.reports.simulation.efficiency import SHARES, Efficiency, TableResult, efficiency_figure
from mgnas.reports.simulation.scoring import HypervolumeScorer, Trace
from mgnas.search.optuna_schema import DIRECTIONS
from mgnas.search.samplers.candidate_pool import scaled
from mgnas.search.samplers.factory import make_sampler
from mgnas.search.simulation.simulator import Completion, Replay

OUT = Path(__file__).parents[1] / "results" / "public_tables.jsonl"
_POPULATION, _TOURNAMENT = 20, 5
_LAYERS = [f"layer_{layer}" for layer in range(1, LAYERS + 1)]
_DISTRIBUTIONS = {layer: CategoricalDistribution(tuple(OPERATIONS)) for layer in _LAYERS}


class Method(abc.ABC):
    """A search of the table.

    Args:
        table: the table.
        seed: of all its random choices.
    """

    def __init__(self, table: MacroTable, seed: int) -> None:
        self.table, self.rng = table, np.random.default_rng(seed)
        self.trained: dict[str, float] = {}
        self._codes = table.codes()
        self._digits = np.array([[int(digit) for digit in code] for code in self._codes])
        self._networks = np.array([canonical(code) for code in self._codes])

    @abc.abstractmethod
    def ask(self) -> str:
        """The string of the network to train next."""

    def tell(self, code: str, accuracy: float) -> None:
        """That network has been trained."""
        self.trained[canonical(code)] = accuracy

    def nearest_new(self, code: str) -> str:
        """The string itself if its network is new; else one of a new network with the fewest changed layers."""
        if canonical(code) not in self.trained and canonical(code) in self.table.by_id:
            return code
        new = ~np.isin(self._networks, list(self.trained))
        changed = np.where(new, (self._digits != [int(digit) for digit in code]).sum(axis=1), LAYERS + 1)
        return self._codes[self.rng.choice(np.flatnonzero(changed == changed.min()))]


class OptunaMethod(Method):
    """An Optuna sampler.

    Args:
        table, seed: as for every method.
        make: (table, seed) -> the sampler.
        repeats: whether a proposal of a trained network costs another training, in place of being replaced.
    """

    def __init__(
        self, table: MacroTable, seed: int, *, make: Callable[[MacroTable, int], BaseSampler], repeats: bool = False
    ) -> None:
        super().__init__(table, seed)
        self._repeats = repeats
        self._study = optuna.create_study(directions=DIRECTIONS, sampler=make(table, seed))
        self._number = 0

    def ask(self) -> str:
        trial = self._study.ask({**_DISTRIBUTIONS})
        self._number, proposed = trial.number, _code(trial.params)
        code = proposed if self._repeats else self.nearest_new(proposed)
        if code != proposed:
            # The sampler's own notes go along; without its generation NSGA-II would never breed from the trial.
            notes = dict(self._study.get_trials(deepcopy=False)[trial.number].system_attrs)
            self._study.tell(trial, state=TrialState.FAIL)
            params = dict(zip(_LAYERS, code, strict=True))
            replaced = create_trial(
                state=TrialState.RUNNING, params=params, distributions={**_DISTRIBUTIONS}, system_attrs=notes
            )
            self._study.add_trial(replaced)
            self._number = len(self._study.get_trials(deepcopy=False)) - 1
        return code

    def tell(self, code: str, accuracy: float) -> None:
        super().tell(code, accuracy)
        self._study.tell(self._number, (accuracy, float(self.table.weights()[canonical(code)])))


class Evolution(Method):
    """Regularised evolution (Real et al., 2019) of two objectives.

    The population is the last 20 networks. Each parent is the best of 5 random ones by non-dominated sorting; one of
    its layers is changed.
    """

    def __init__(self, table: MacroTable, seed: int) -> None:
        super().__init__(table, seed)
        self._population: collections.deque[tuple[str, float, float]] = collections.deque(maxlen=_POPULATION)

    def ask(self) -> str:
        if len(self._population) < _POPULATION:
            return self.nearest_new(self._codes[self.rng.integers(len(self._codes))])
        chosen = [self._population[i] for i in self.rng.choice(_POPULATION, _TOURNAMENT, replace=False)]
        ranks = moocore.pareto_rank(np.array([objectives for _, *objectives in chosen]))
        parent = chosen[self.rng.choice(np.flatnonzero(ranks == ranks.min()))][0]
        layer = int(self.rng.integers(LAYERS))
        operation = self.rng.choice([other for other in OPERATIONS if other != parent[layer]])
        return self.nearest_new(parent[:layer] + str(operation) + parent[layer + 1 :])

    def tell(self, code: str, accuracy: float) -> None:
        super().tell(code, accuracy)
        self._population.append((code, -accuracy, math.log10(self.table.weights()[canonical(code)])))


class NoisyEHVIMethod(Method):
    """BoTorch's qLogNEHVI; it chooses among the distinct networks."""

    def __init__(self, table: MacroTable, seed: int) -> None:
        from noisy_ehvi import NoisyEHVI

        super().__init__(table, seed)
        self._rows = list(table.by_id)
        weights, (log_weights, accuracy) = table.weights(), HypervolumeScorer(table).reference
        x = [[*scaled(dict(zip(_LAYERS, c, strict=True)), _DISTRIBUTIONS), -math.log10(weights[c])] for c in self._rows]
        self._chooser = NoisyEHVI(np.array(x), [accuracy, -log_weights], seed)
        self._row_of = {code: row for row, code in enumerate(self._rows)}

    def ask(self) -> str:
        rows = [self._row_of[code] for code in self.trained]
        row = self._chooser.choose(rows, rows, list(self.trained.values()))
        assert row is not None, "no search trains the whole table"
        return self._rows[row]


def _code(params: dict[str, Any]) -> str:
    return "".join(params[layer] for layer in _LAYERS)


def _mgnas(table: MacroTable, seed: int, **options: Any) -> BaseSampler:
    weights = table.weights()
    heaviest = max(weights.values())  # of what a table lacks
    return EHVISampler(lambda params: weights.get(canonical(_code(params)), heaviest), seed=seed, **options)


def _optuna(name: str, table: MacroTable, seed: int) -> BaseSampler:
    return make_sampler(name, seed)


@dataclass(frozen=True)
class Compared:
    """A method of the comparison.

    Args:
        factory: (table, seed) -> the method.
        trainings: number of them after which a search is cut off.
    """

    factory: Callable[[MacroTable, int], Method]
    trainings: int = 300


OWN = "EHVISampler"
METHODS: dict[str, Compared] = {
    OWN: Compared(partial(OptunaMethod, make=_mgnas), trainings=150),
    "EHVISampler, log error": Compared(
        partial(OptunaMethod, make=partial(_mgnas, outcome_transform=LogErrorTransform())), trainings=150
    ),
    "TPE": Compared(partial(OptunaMethod, make=partial(_optuna, "tpe"))),
    "NSGA-II": Compared(partial(OptunaMethod, make=partial(_optuna, "nsga2"))),
    "evolution": Compared(Evolution),
    "random": Compared(partial(OptunaMethod, make=partial(_optuna, "random"))),
    "TPE as it is": Compared(partial(OptunaMethod, make=partial(_optuna, "tpe"), repeats=True)),
    "GPSampler": Compared(partial(OptunaMethod, make=partial(_optuna, "gp")), trainings=40),
    "qLogNEHVI": Compared(NoisyEHVIMethod, trainings=40),
}
"""Optuna's samplers are set as in mgnas's searches: TPE is multivariate, NSGA-II has a population of 20."""

Results = dict[str, dict[int, dict[str, Any]]]
"""Method -> seed -> the figures of that search."""


def search(table: MacroTable, scorer: HypervolumeScorer, compared: Compared, seed: int) -> dict[str, Any]:
    """One search: the trainings after which its share of the hypervolume rose, and the shares."""
    method, accuracies = compared.factory(table, seed), table.first_accuracies()
    completions = []
    for index in range(compared.trainings):
        code = method.ask()
        network = canonical(code)
        method.tell(code, accuracies[network])
        completions.append(Completion(0.0, index + 1, index, network))
    trace = scorer.trace(Replay(tuple(completions), compared.trainings, 0.0, compared.trainings, 0, 0))
    return {"rises": trace.epochs.tolist(), "shares": trace.shares.round(6).tolist(), "trainings": compared.trainings}


def missing(results: Results, names: Sequence[str], seeds: int) -> Iterator[tuple[str, int]]:
    """(method, seed) of each search that is not among the results, by seeds."""
    for seed in range(seeds):
        for name in names:
            if seed not in results[name]:
                yield name, seed


def load(out: Path, table: MacroTable) -> Results:
    results: Results = {name: {} for name in METHODS}
    for line in out.read_text().splitlines() if out.exists() else []:
        name_of_table, name, seed, entry = json.loads(line)
        if name_of_table == table.name and name in results:
            results[name][seed] = entry
    return results


def run_missing(results: Results, table: MacroTable, options: argparse.Namespace) -> None:
    """Search what is not among the results yet, until the minutes are over."""
    deadline, scorer = time.monotonic() + 60 * options.minutes, HypervolumeScorer(table)
    for name, seed in missing(results, options.methods, options.seeds):
        if time.monotonic() >= deadline:
            return
        before = time.process_time()
        results[name][seed] = search(table, scorer, METHODS[name], seed)
        with options.out.open("a") as file:
            file.write(json.dumps([table.name, name, seed, results[name][seed]]) + "\n")
        print(f"{name}: seed {seed}, {time.process_time() - before:.1f} s of processor time", flush=True)


def result(results: Results, table: MacroTable) -> TableResult:
    """The results in the form that figures are made from."""
    by_method = []
    for name, searches in results.items():
        traces = [Trace(np.array(e["rises"]), np.array(e["shares"]), e["trainings"]) for e in searches.values()]
        if traces:
            by_method.append(Efficiency(name, (), traces))
    return TableResult(HypervolumeScorer(table), by_method)


def markdown(compared: TableResult) -> str:
    """Trainings until each share: median (quartiles) [searches that got there]."""
    scorer = compared.scorer
    log_weights, accuracy = scorer.reference
    lines = [
        f"## {scorer.table.name}: {len(scorer.points):,} networks",
        "",
        f"Hypervolume from {10**log_weights:,.0f} weights at {100 * accuracy:.2f} %. Trainings until a share of it: "
        "median (quartiles) [searches that got there]. A dash: not reached by half of the searches.",
        "",
        "| search | n | cut at | " + " | ".join(f"{100 * share:g} %" for share in SHARES) + " | share at the cut |",
        "|---|---:|---:|" + "---|" * len(SHARES) + "---:|",
    ]
    for efficiency in compared.strategies:
        cells = [_until(efficiency, share) for share in SHARES]
        cut, final = efficiency.traces[0].total, f"{100 * efficiency.final[1]:.1f} %"
        lines.append(f"| {efficiency.strategy} | {len(efficiency.traces)} | {cut} | {' | '.join(cells)} | {final} |")
    oracle = scorer.oracle()
    bound = " | ".join(str(oracle.epochs_until(share)) for share in SHARES)
    lines += [f"| oracle that knows the scores | | | {bound} | |", "", *_targets(compared)]
    return (
        "\n".join([*lines, "", f"{versions()}. Command: `python benchmarks/search/public_tables.py TABLE.json`."])
        + "\n"
    )


def _until(efficiency: Efficiency, share: float) -> str:
    low, middle, high = (number(value) for value in efficiency.epochs_until(share))
    return f"{middle} ({low} to {high}) [{efficiency.reached(share)}]"


def _targets(compared: TableResult) -> list[str]:
    """Median trainings of OWN by those of each peer, with a bootstrap interval of 95 %."""
    by_name = {efficiency.strategy: efficiency for efficiency in compared.strategies}
    if OWN not in by_name:
        return []
    lines = [
        "Ratios of medians, with bootstrap intervals of 95 %; a dash: half of the peer's searches did not get there.",
        "",
    ]
    lines += [f"| `{OWN}` by | " + " | ".join(f"{100 * share:g} %" for share in SHARES) + " |"]
    lines.append("|---|" + "---|" * len(SHARES))
    for name, peer in by_name.items():
        if name != OWN:
            cells = (_ratio(by_name[OWN], peer, share) for share in SHARES)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _ratio(own: Efficiency, peer: Efficiency, share: float) -> str:
    factor, low, high = ratio(*([_trainings(trace, share) for trace in one.traces] for one in (own, peer)))
    return "-" if math.isnan(factor) or factor == 0 else f"{factor:.2f} ({low:.2f} to {high:.2f})"


def _trainings(trace: Trace, share: float) -> float:
    until = trace.epochs_until(share)
    return math.inf if until is None else float(until)


def main() -> None:
    parser = argparse.ArgumentParser(description=first_line(__doc__ or ""))
    parser.add_argument("table", type=Path, help="the file of NAS-Bench-Macro")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--out", type=Path, default=OUT, help="JSON lines; the table and the picture lie beside it")
    parser.add_argument("--show", action="store_true", help="search nothing, write the table and the picture only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        table = MacroTable.load(options.table)
    except UserError as error:
        parser.error(str(error))
    results = load(options.out, table)
    if not options.show:
        run_missing(results, table, options)
    compared = result(results, table)
    text = markdown(compared)
    write_text(options.out.with_suffix(".md"), text)
    if compared.strategies:
        save_figure(efficiency_figure([compared], unit="trainings"), options.out.with_suffix(""))
    print(text)


if __name__ == "__main__":
    main()
