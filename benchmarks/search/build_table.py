"""Train architectures of a space and keep every learning curve: the tables that searches are replayed on.

    cd benchmarks/search
    python build_table.py tables/digits.yaml ../../search/history/tables/digits.json.gz --architectures 320
    python build_table.py tables/cifar10.yaml ../../search/history/tables/cifar10.json.gz --data CIFAR10.npz
    python build_table.py tables/digits-added.yaml ../../search/history/tables/digits.json.gz --add 60

The architectures are drawn from all distinct ones of the config's space, so that small and large ones are equally
likely on a log scale of weights; drawn evenly, hardly any would be near the light end of the front. Each is trained
once with the product's own trial code. Those near the front are trained again, until each of them has --seeds
trainings, so that the mean accuracies that a replay is judged by are less lucky. Every finished training is kept in
--work (a JSON line each). The same call again continues where it was interrupted. Trainings that a table of that name
holds already are not repeated.

With --add N the table stays as it is, and gets an `added` part of networks of a wider space. They are drawn until each
value that the table's networks do not have stands in N of them, such as kernel_size 7 and polynomial_degree 3. A degree
counts only if the smoother is a polynomial, and so on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mgnas.errors import ConfigError, UserError
from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import DataSettings, data_shape, load_dataset
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.tuner.worker import TrialTask, TrialWorker
from mgnas.settings import build
from mgnas.space.candidate import Candidate, TrainingSettings
from mgnas.space.search_space import SearchSpace

_WEIGHT_BINS = 24
_DRAWN = 30_000
"""Random points of the space, valid or not, that additions are chosen among."""

_SETTINGS = ("stem_stride", "smoother", "polynomial_degree", "residual_activation", "group_size", "kernel_size")
"""Settings whose values may be added."""

Value = tuple[str, Any]
"""A setting and one of its values."""


def chosen_candidates(candidates: list[Candidate], count: int, seed: int) -> list[Candidate]:
    """`count` different candidates, each decade of weights as likely as another, in random order."""
    logs = np.log10([candidate.weights for candidate in candidates])
    bins = np.digitize(logs, np.linspace(logs.min(), logs.max() + 1e-9, _WEIGHT_BINS + 1))
    chance = 1 / np.bincount(bins)[bins]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(candidates), min(count, len(candidates)), replace=False, p=chance / chance.sum())
    return [candidates[index] for index in chosen]


def values_in_effect(config: ArchitectureConfig, names: Iterable[str]) -> set[Value]:
    """The values of those of these settings that building the network reads."""
    canonical = config.canonical()
    return {(name, getattr(canonical, name)) for name in names if canonical.has_effect(name)}


def additions(space: SearchSpace, table: TabularBenchmark, each: int, seed: int) -> list[Candidate]:
    """Candidates in which every value that no network of the table has stands at least `each` times.

    They are random ones, light and heavy ones equally likely as in `chosen_candidates`, without those that have none of
    the values that still lack. Choosing those with most of them instead would save a few trainings, but the values
    would come together, and nobody could tell which of them did it.
    """
    names = [parameter.name for parameter in space.parameters if parameter.name in _SETTINGS]
    old = set().union(*(values_in_effect(row.config, names) for row in table.rows))
    drawn: dict[str, Candidate] = {}
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWN):
        try:
            candidate = space.candidate(space.random_values(rng))
        except ConfigError:
            continue
        drawn[candidate.id] = candidate
    chosen: list[Candidate] = []
    counts: Counter[Value] = Counter()

    for candidate in chosen_candidates(list(drawn.values()), len(drawn), seed):
        added = values_in_effect(candidate.architecture, names) - old
        if any(counts[value] < each for value in added):
            chosen.append(candidate)
            counts.update(added)
    return chosen


def near_front(rows: list[TableRow], margin: float) -> set[str]:
    """Ids of the architectures whose mean accuracy is at most `margin` below the best with no more weights."""
    finals: dict[str, list[float]] = defaultdict(list)
    weights = {}
    for row in rows:
        finals[row.config.id].append(row.curve[-1])
        weights[row.config.id] = row.weights
    near, best = set(), 0.0
    for key in sorted(weights, key=lambda key: (weights[key], -np.mean(finals[key]))):
        accuracy = float(np.mean(finals[key]))
        best = max(best, accuracy)
        if accuracy >= best - margin:
            near.add(key)
    return near


def train(config: ArchitectureConfig, training: TrainingSettings, data: DataSettings, seed: int) -> TableRow:
    """One whole training, by the code that trials run.

    Raises:
        RuntimeError: the trial failed; the message has its reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        worker = TrialWorker(TrialTask(0, config, training, data, seed, str(Path(folder) / "checkpoint.pt")))
        while True:
            result = worker.step()
            if result["failure"] is not None:
                raise RuntimeError(f"{config.id}: {result['failure']}")
            if result["finished"]:
                curve = tuple(round(accuracy, 6) for accuracy in result["curve"])
                return TableRow(config, count_weights(config), seed, curve, round(result["seconds"], 2))


class Workbook:
    """The finished trainings, as JSON lines.

    Args:
        path: of the file.
        earlier: trainings of a table made earlier of the same config; they count as well, if the file does not exist.
    """

    def __init__(self, path: Path, earlier: Iterable[TableRow] = ()) -> None:
        self.path = path
        self.rows: list[TableRow] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            for row in earlier:
                self.add(row)
            return
        for line in path.read_text().splitlines():
            raw = json.loads(line)
            config = ArchitectureConfig.from_dict(raw["config"])
            self.rows.append(TableRow(config, raw["weights"], raw["seed"], tuple(raw["curve"]), raw["seconds"]))

    @property
    def done(self) -> set[tuple[str, int]]:
        return {(row.config.id, row.seed) for row in self.rows}

    def add(self, row: TableRow) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row.to_dict()) + "\n")
        self.rows.append(row)


def missing_seeds(
    book: Workbook, options: argparse.Namespace, others: tuple[TableRow, ...] = ()
) -> Iterator[tuple[ArchitectureConfig, int]]:
    """(architecture, seed) of the trainings that architectures near the front still need.

    `others` are trainings that the front consists of as well.
    """
    near, configs = near_front([*others, *book.rows], options.margin), {row.config.id: row.config for row in book.rows}
    for key in sorted(near & configs.keys()):
        for seed in range(options.seeds):
            if (key, seed) not in book.done:
                yield configs[key], seed


def run_all(jobs: list[tuple[ArchitectureConfig, int]], book: Workbook, search: SearchConfig, workers: int) -> None:
    if not jobs:
        return
    start = time.monotonic()
    # A fresh process for each worker: threads and memory of torch do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(train, config, search.training, search.data, seed) for config, seed in jobs]
        for number, future in enumerate(as_completed(waiting), start=1):
            row = future.result()
            book.add(row)
            spent = time.monotonic() - start
            left = spent / number * (len(jobs) - number)
            accuracy = f"{100 * row.curve[-1]:5.2f} %  {row.weights:>8,} weights  {row.seconds:5.1f} s"
            print(f"{number}/{len(jobs)}  {accuracy}  {row.config.describe()}  ({left / 60:.0f} min left)", flush=True)


def meta(search: SearchConfig, options: argparse.Namespace, drawn: dict[str, Any], lacking: int) -> dict:
    """The table's meta entry; it holds no path of the machine on which the table was made.

    `drawn`: what is said about the choice of the architectures.
    """
    add = f" --add {options.add}" if options.add else ""
    return {
        "name": search.name,
        "space": dict(search.space),
        "training": asdict(search.training),
        "data": {key: value for key, value in asdict(search.data).items() if key != "path"},
        "shape": list(data_shape(search.data)),
        **drawn,
        "drawn with seed": options.seed,
        "seeds near the front": options.seeds,
        "near": f"at most {options.margin:g} below the best accuracy with no more weights",
        "near the front with fewer seeds": lacking,
        "command": f"python benchmarks/search/build_table.py benchmarks/search/tables/{Path(options.config).name}{add}",
        "machine": f"{platform.machine()}, {options.workers} trainings at a time, 1 thread each",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def check_same_task(search: SearchConfig, table: TabularBenchmark, file: Path) -> None:
    """Check that trainings of this config may be added to the table.

    Raises:
        UserError: images or recipe differ.
    """
    same_recipe = build(TrainingSettings, table.meta["training"], "meta.training", str(file)) == search.training
    images = asdict(search.data)
    if not same_recipe or any(images[key] != value for key, value in table.meta["data"].items()):
        raise UserError(f"{search.file}: data and training must be those of {file}, to which trainings are to be added")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", help="a search config; its data, space and training are used")
    parser.add_argument("table", type=Path, help="file to write, .json or .json.gz")
    parser.add_argument("--data", help="the images: an .npz file or a folder")
    parser.add_argument("--architectures", type=int, default=320)
    parser.add_argument("--add", type=int, metavar="N", help="networks of each value that the table does not have")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each architecture near the front")
    parser.add_argument("--margin", type=float, default=0.01, help="accuracy below the front that is still near")
    parser.add_argument("--rounds", type=int, default=10, help="of further seeds; each may bring others near the front")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of architectures")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="JSON lines; default: runs/tables/NAME.jsonl")
    return parser.parse_args()


def main() -> None:
    options = parse()
    search = SearchConfig.load(options.config).override(path=options.data and str(Path(options.data).absolute()))
    load_dataset(search.data)
    space = search.search_space()
    if space.searched_training_settings:
        raise UserError(
            f"{options.config}: a table varies architectures only, not {', '.join(space.searched_training_settings)}"
        )
    table = TabularBenchmark.load(options.table) if options.add or options.table.exists() else None
    others: tuple[TableRow, ...] = ()
    if options.add:
        assert table is not None
        check_same_task(search, table, options.table)
        others, earlier = table.rows, table.added.rows if table.added else ()
        chosen = additions(space, table, options.add, options.seed)
        drawn = {"effective points of the space": space.effective_points(), "networks of each added value": options.add}
    else:
        earlier = table.rows if table else ()
        candidates = list(space.enumerate())
        chosen = chosen_candidates(candidates, options.architectures, options.seed)
        drawn = {"distinct architectures in the space": len(candidates)}
    book = Workbook(options.work or Path("runs/tables") / f"{search.name}.jsonl", earlier)
    print(f"{len(chosen)} architectures, {len(book.rows)} trainings done already", flush=True)
    jobs = [(candidate.architecture, 0) for candidate in chosen if (candidate.id, 0) not in book.done]
    run_all(jobs, book, search, options.workers)
    for _ in range(options.rounds):
        # Further seeds change means, and so which architectures are near the front.
        run_all(list(missing_seeds(book, options, others)), book, search, options.workers)
    rows = tuple(sorted(book.rows, key=lambda row: (row.weights, row.config.id, row.seed)))
    options.table.parent.mkdir(parents=True, exist_ok=True)
    lacking = len({config.id for config, _ in missing_seeds(book, options, others)})
    made = TabularBenchmark(meta(search, options, drawn, lacking), rows)
    if table is not None:
        made = replace(table, added=made) if options.add else replace(made, added=table.added)
    made.save(options.table)
    print(f"{options.table}: {len(rows)} trainings of {len({row.config.id for row in rows})} architectures")


if __name__ == "__main__":
    main()
