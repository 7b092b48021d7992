"""Train architectures of a space and keep every learning curve: the tables that searches are replayed on.

    cd benchmarks/search
    python build_table.py tables/digits.yaml ../../search/history/tables/digits.json.gz --architectures 320
    python build_table.py tables/cifar10.yaml ../../search/history/tables/cifar10.json.gz --data CIFAR10.npz

The architectures are drawn from all distinct ones of the config's space, so that small and large ones are equally
likely on a log scale of weights; drawn evenly, hardly any would be near the light end of the front. Each is trained
once with the product's own trial code. Those near the front are trained again, until each of them has --seeds
trainings, so that the mean accuracies that a replay is judged by are less lucky. Every finished training is kept in
--work (a JSON line each). The same call again continues where it was interrupted. Trainings that a table of that name
holds already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from mgnas.errors import UserError
from mgnas.models import ArchitectureConfig, count_weights
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import DataSettings, data_shape, load_dataset
from mgnas.search.history.table import TableRow, TabularBenchmark
from mgnas.search.tuner.worker import TrialTask, TrialWorker
from mgnas.space.candidate import Candidate, TrainingSettings

_WEIGHT_BINS = 24


def chosen_candidates(candidates: list[Candidate], count: int, seed: int) -> list[Candidate]:
    """`count` different candidates, each decade of weights as likely as another, in random order."""
    logs = np.log10([candidate.weights for candidate in candidates])
    bins = np.digitize(logs, np.linspace(logs.min(), logs.max() + 1e-9, _WEIGHT_BINS + 1))
    chance = 1 / np.bincount(bins)[bins]
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(candidates), min(count, len(candidates)), replace=False, p=chance / chance.sum())
    return [candidates[index] for index in chosen]


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
        table: a table made earlier of the same config; its trainings count as well, if the file does not exist.
    """

    def __init__(self, path: Path, table: Path | None = None) -> None:
        self.path = path
        self.rows: list[TableRow] = []
        if table is not None and table.exists() and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            for row in TabularBenchmark.load(table).rows:
                self.add(row)
            return
        if path.exists():
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


def missing_seeds(book: Workbook, options: argparse.Namespace) -> Iterator[tuple[ArchitectureConfig, int]]:
    """(architecture, seed) of the trainings that architectures near the front still need."""
    near, configs = near_front(book.rows, options.margin), {row.config.id: row.config for row in book.rows}
    for key in sorted(near):
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


def meta(search: SearchConfig, options: argparse.Namespace, architectures: int, lacking: int) -> dict:
    """The table's meta entry; it holds no path of the machine on which the table was made."""
    return {
        "name": search.name,
        "space": dict(search.space),
        "training": asdict(search.training),
        "data": {key: value for key, value in asdict(search.data).items() if key != "path"},
        "shape": list(data_shape(search.data)),
        "distinct architectures in the space": architectures,
        "drawn with seed": options.seed,
        "seeds near the front": options.seeds,
        "near": f"at most {options.margin:g} below the best accuracy with no more weights",
        "near the front with fewer seeds": lacking,
        "command": f"python benchmarks/search/build_table.py benchmarks/search/tables/{Path(options.config).name}",
        "machine": f"{platform.machine()}, {options.workers} trainings at a time, 1 thread each",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", help="a search config; its data, space and training are used")
    parser.add_argument("table", type=Path, help="file to write, .json or .json.gz")
    parser.add_argument("--data", help="the images: an .npz file or a folder")
    parser.add_argument("--architectures", type=int, default=320)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each architecture near the front")
    parser.add_argument("--margin", type=float, default=0.01, help="accuracy below the front that is still near")
    parser.add_argument("--rounds", type=int, default=10, help="of further seeds; each may bring others near the front")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of architectures")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--work", type=Path, help="JSON lines; default: runs/tables/NAME.jsonl")
    options = parser.parse_args()
    search = SearchConfig.load(options.config).override(path=options.data and str(Path(options.data).absolute()))
    load_dataset(search.data)
    space = search.search_space()
    if space.searched_training_settings:
        raise UserError(
            f"{options.config}: a table varies architectures only, not {', '.join(space.searched_training_settings)}"
        )
    candidates = list(space.enumerate())
    book = Workbook(options.work or Path("runs/tables") / f"{search.name}.jsonl", options.table)
    book.path.parent.mkdir(parents=True, exist_ok=True)
    chosen = chosen_candidates(candidates, options.architectures, options.seed)
    print(f"{len(chosen)} of {len(candidates)} architectures, {len(book.rows)} trainings done already", flush=True)
    jobs = [(candidate.architecture, 0) for candidate in chosen if (candidate.id, 0) not in book.done]
    run_all(jobs, book, search, options.workers)
    for _ in range(options.rounds):
        # Further seeds change means, and so which architectures are near the front.
        run_all(list(missing_seeds(book, options)), book, search, options.workers)
    rows = tuple(sorted(book.rows, key=lambda row: (row.weights, row.config.id, row.seed)))
    options.table.parent.mkdir(parents=True, exist_ok=True)
    lacking = len({config.id for config, _ in missing_seeds(book, options)})
    TabularBenchmark(meta(search, options, len(candidates), lacking), rows).save(options.table)
    print(f"{options.table}: {len(rows)} trainings of {len({row.config.id for row in rows})} architectures")


if __name__ == "__main__":
    main()
