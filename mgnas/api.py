"""The beginning of everything: a new search, or an existing one opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from mgnas.search.storage.run_directory import RunDirectory

from .launch import configured, new_run, plain, search_to_the_end, undisturbed
from .progress import PlainDisplay
from .run import Run

if TYPE_CHECKING:
    from mgnas.search.config import SearchConfig


def run_search(
    config: SearchConfig | Mapping[str, Any] | str | os.PathLike[str],
    *,
    trials: int | None = None,
    workers: int | None = None,
    name: str | None = None,
    runs: str | os.PathLike[str] = "runs",
    until: float | str | Mapping[str, Any] | None = None,
    sampler: str | None = None,
    prior: str | os.PathLike[str] | None = None,
    stopping: str | None = None,
    seed: int | None = None,
    cpus_per_trial: int | None = None,
    gpus_per_trial: float | Literal["auto"] | None = None,
    time_limit: float | None = None,
    data: str | os.PathLike[str] | None = None,
    address: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    study: str | None = None,
    enqueue: Sequence[Mapping[str, Any]] = (),
    progress: bool = False,
) -> Run:
    """Search a space of networks, and return when all trials have ended.

    Works in scripts, threads and notebooks, and prints nothing unless asked to. Ctrl-C leaves a run that
    `open_run(path).resume()` continues.

    Args:
        config: path of a search file, a mapping with the same keys, or a `SearchConfig`. Every key is explained in
            docs/space.md. The keywords below change single settings of it.
        trials: candidates to train in all.
        workers: trials at the same time, at most; default: as many as fit.
        name: of the run directory; default: the config's name and a number.
        runs: parent folder of the run directory.
        until: end earlier, when the next 20 trials are expected to add less than this share to the hypervolume: 0.005,
            "0.5%", or a mapping with `gain` and `trials`. "none": never.
        sampler: `ehvi`, `random`, `tpe`, `nsga2` or `gp`.
        prior: what an earlier search knows: a shipped table (`digits`, `cifar10`), a table's file, a run directory, or
            `none`.
        stopping: `pareto` or `none`.
        seed: of the sampler and the trainings.
        cpus_per_trial: CPU cores of a trial.
        gpus_per_trial: GPUs of a trial. `auto`: trials share the GPUs that there are, two or with NVIDIA's MPS up to
            eight if their memory suffices; without a GPU they train on CPUs. 0: CPUs only. 0.25: four trials share a
            GPU. Default: the config's, which is `auto` unless the config says otherwise.
        time_limit: seconds that a trial may take.
        data: the images: an .npz file, a folder, or an archive.
        address: Ray cluster: `auto`, `HOST:PORT` or `ray://HOST:PORT`; default: Ray is started on this machine.
        storage: folder or address that all nodes reach, for checkpoints; default: the run directory.
        study: database server for the study, `postgresql://USER@HOST/DATABASE`; default: SQLite in the run directory.
        enqueue: parameters of the first trials, a mapping each; the sampler chooses what a mapping does not name.
        progress: print a line for each trial that ends.

    Returns:
        the finished run. It has fewer trials than wanted if the space holds no further candidate.

    Raises:
        UserError: the config, the data or a keyword cannot be used.
        SearchStoppedError: something cannot be stored; the search can continue when that has been mended.
        KeyboardInterrupt: Ctrl-C; the message says how to continue.
    """
    changes = {
        "trials": trials,
        "workers": workers,
        "until": until,
        "sampler": sampler,
        "prior": prior,
        "stopping": stopping,
        "seed": seed,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "time_limit": time_limit,
        "path": data,
        "storage": storage,
    }
    wanted = configured(config, **changes)
    first = [plain(params, "", "enqueue") for params in enqueue]
    with undisturbed(), new_run(wanted, runs, name, address=address, study=study, enqueue=first) as directory:
        search_to_the_end(directory, PlainDisplay if progress else None, address)
    return Run(directory)


def open_run(path: str | os.PathLike[str], *, study: str | None = None) -> Run:
    """The run in a run directory, finished or not, to look at its results or to continue it.

    Args:
        path: the run directory.
        study: address of a database server with its study, in place of the one that the run knows.

    Raises:
        UserError: there is no run, or it cannot be read.
    """
    with undisturbed():
        return Run(RunDirectory(path, study))
