"""Searches started and continued: what `mgnas search`, `mgnas resume`, `run_search` and `Run.resume` share."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import load_dataset
from mgnas.search.history.past_trainings import TaskEvaluations, shipped_tables
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.strategy.enough import gains_so_far, is_enough
from mgnas.search.strategy.factory import make_strategy
from mgnas.search.trial_record import TrialState

from .errors import ConfigError, SearchStoppedError, UserError
from .files import short
from .machine import check_cores
from .signals import held_interrupts, restore_handlers, termination_as_interrupt

if TYPE_CHECKING:
    from mgnas.search.tuner.controller import SearchProgress


def configured(config: SearchConfig | Mapping[str, Any] | str | os.PathLike[str], **changes: Any) -> SearchConfig:
    """A search with some of its settings changed.

    Args:
        config: the search, a mapping with the keys of a search file, or the path of such a file. In a mapping tuples,
            paths and NumPy's numbers stand for what YAML has.
        changes: settings of `search`, `resources` and `data` by their names; None changes nothing.

    Raises:
        UserError: no such file, or a setting that cannot be used; the message names the key.
    """
    if isinstance(config, Mapping):
        file = "<config>"
        config = SearchConfig.from_mapping(plain(config, "", file), file)
    elif not isinstance(config, SearchConfig):
        config = SearchConfig.load(config)
    return config.override(**_absolute(changes))


def plain(value: Any, key: str, file: str) -> Any:
    """A copy of a user's value in the types that YAML has, so that the run's config.yaml can hold it.

    Raises:
        ConfigError: YAML has no such type.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {name: plain(inner, f"{key}.{name}".lstrip("."), file) for name, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [plain(inner, key, file) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise ConfigError(key, f"expected numbers, text, lists and mappings, got {short(value)}", file)


def _absolute(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes with files and folders as absolute paths, because a run may be resumed from another folder."""
    changed = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in changes.items()}
    for name in ("path", "storage"):
        value = changed.get(name)
        if isinstance(value, str) and "://" not in value:
            changed[name] = str(Path(value).absolute())
    prior = changed.get("prior")
    if isinstance(prior, str) and prior not in shipped_tables() and Path(prior).exists():
        changed["prior"] = str(Path(prior).absolute())
    return changed


@contextmanager
def new_run(
    config: SearchConfig,
    runs: str | os.PathLike[str],
    name: str | None = None,
    *,
    address: str | None = None,
    study: str | None = None,
    enqueue: Sequence[Mapping[str, Any]] = (),
) -> Iterator[RunDirectory]:
    """A context with a new run directory, which no other process can search in meanwhile.

    If the search fails before its first trial, no run directory is left.

    Everything that the user can have got wrong is checked first, so that it costs neither a run directory nor the
    seconds that Ray takes to start.

    Args:
        config: what to search.
        runs: parent folder of the run directory.
        name: of the run directory; default: the config's name and a number.
        address: Ray cluster that the search will run on.
        study: address of a database server for the study.
        enqueue: parameters of the first trials.

    Raises:
        UserError: the data, the space, the prior, the address, the folder or the parameters cannot be used.
    """
    dataset = load_dataset(config.data)
    _check_enqueued(enqueue, config)
    if config.search.prior != "none":
        TaskEvaluations.load(config.search.prior)
    if address is not None:
        from mgnas.search.tuner.cluster import check_reachable

        check_reachable(address)
    if address in (None, "local"):
        check_cores(config.resources.cpus_per_trial, config.file)
    directory = None
    try:
        with held_interrupts():
            directory = RunDirectory.create(config, runs, name, study)
    except KeyboardInterrupt:
        if directory is not None:
            directory.remove_if_empty()
        raise
    try:
        with resumable(directory.path), directory.lock:
            directory.check_data(dataset)
            for params in enqueue:
                directory.queue.add(params)
            yield directory
    except SearchStoppedError:  # Its message says how to continue.
        raise
    except Exception:
        directory.remove_if_empty()
        raise


def _check_enqueued(enqueue: Sequence[Mapping[str, Any]], config: SearchConfig) -> None:
    """Refuse parameters that cannot be the first trials of a search.

    Raises:
        ConfigError: they are not of the space, a network is invalid, or there are more than trials.
    """
    space = config.focused(config.search_space())
    if len(enqueue) > config.search.trials:
        raise ConfigError("search.trials", f"{config.search.trials} is less than the {len(enqueue)} networks to try")
    for number, params in enumerate(enqueue, start=1):
        try:
            labels = space.labels(params)
            if len(labels) == len(space.parameters):
                space.candidate(labels)
        except ConfigError as error:
            raise ConfigError(error.key, error.problem, f"network {number} to try") from None


@contextmanager
def resumed_run(path: str | os.PathLike[str], *, study: str | None = None, **changes: Any) -> Iterator[RunDirectory]:
    """A context with an existing run directory, which no other process can search in meanwhile.

    Args:
        path: the run directory.
        study: address of a database server with its study, in place of the one that the run knows.
        changes: settings of `search` and `resources` by their names; None changes nothing. They are
            stored when the search goes on with them, or by `store_config`.

    Raises:
        UserError: the run cannot be opened, or has more trials than wanted.
    """
    with resumable(Path(path)), RunDirectory.open_for_resume(path, study) as directory:
        n_started, trials = len(directory.load()), changes.get("trials")
        config = directory.config.override(**_absolute(changes))
        if trials is not None and trials < n_started:
            raise UserError(f"--trials: {trials} is less than the {n_started} trials that {path} has started already")
        directory.change_config(config)
        yield directory


def is_finished(directory: RunDirectory) -> bool:
    """Whether the run has all its trials, and none of them is running or would be continued."""
    records = directory.load()
    if len(records) < directory.config.search.trials and not found_enough(directory):
        return False
    if any(record.state is TrialState.RUNNING for record in records):
        return False
    # Only the strategy knows whether a paused trial is worth continuing; its prior takes seconds to fit.
    return make_strategy(directory.config, directory.space, records).finished


def found_enough(directory: RunDirectory) -> bool:
    """Whether `search.until` holds a run to have found enough."""
    until = directory.config.search.until
    return until is not None and is_enough(gains_so_far(directory.load()), until)


def search(
    directory: RunDirectory, display: Callable[[SearchProgress], Any] | None = None, address: str | None = None
) -> SearchProgress:
    """Search until the run has its trials or is interrupted.

    Args:
        directory: the run, with its lock taken.
        display: called once with the progress; returns a context manager with `event(record)`. Default: silence.
        address: Ray cluster; default: Ray is started on this machine, for this search alone.

    Returns:
        the progress at the end. Trials that are still RUNNING say that Ctrl-C has ended the search.

    Raises:
        UserError: no cluster at the address, or trials that need more than there is.
        SearchStoppedError: something cannot be stored; the search can continue when that has been mended.
        KeyboardInterrupt: Ctrl-C was pressed before the first trial began, or twice.
    """
    with undisturbed(), termination_as_interrupt(), resumable(directory.path):
        with held_interrupts():
            from mgnas.search.tuner.ray_tune import run_search
        return run_search(directory, display, address)


def search_to_the_end(
    directory: RunDirectory, display: Callable[[SearchProgress], Any] | None = None, address: str | None = None
) -> None:
    """Search as `search` does, until the run has its trials.

    Raises:
        KeyboardInterrupt: Ctrl-C has ended the search.
    """
    if search(directory, display, address).count(TrialState.RUNNING):
        # Ray has taken the first Ctrl-C for a wish to stop and store; the program that called must hear of it, too.
        raise SearchInterrupt(directory.path)


class SearchInterrupt(KeyboardInterrupt):
    """Ctrl-C has ended a search, which can go on.

    Args:
        path: of its run directory.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: interrupted; continue with mgnas.open_run({str(path)!r}).resume()")
        self.path = path


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """A context in which Ctrl-C says how the search in this run directory continues."""
    try:
        yield
    except SearchInterrupt:
        raise
    except KeyboardInterrupt:
        raise SearchInterrupt(path) from None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Ray and Optuna quiet for a while, and undo what they change in this process."""
    import optuna

    verbosity, ray_logger, optuna_logger = (
        optuna.logging.get_verbosity(),
        logging.getLogger("ray"),
        logging.getLogger("optuna"),
    )
    ray_level, handlers, propagate = ray_logger.level, optuna_logger.handlers, optuna_logger.propagate
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Optuna prints by a handler of its own. Its warnings go to the program's handlers, if it has any.
    optuna_logger.handlers, optuna_logger.propagate = [logging.NullHandler()], True
    ray_logger.setLevel(logging.CRITICAL)
    # NOTE: Ray Tune leaves its handler of Ctrl-C in place, which would swallow the next one of the user's program.
    in_main_thread = threading.current_thread() is threading.main_thread()
    actions = {number: signal.getsignal(number) for number in _signals()} if in_main_thread else {}
    try:
        yield
    finally:
        restore_handlers(actions)
        ray_logger.setLevel(ray_level)
        optuna_logger.handlers, optuna_logger.propagate = handlers, propagate
        optuna.logging.set_verbosity(verbosity)


def _signals() -> list[signal.Signals]:
    """What Ray Tune and Ray install handlers for; not every system has all of them."""
    return [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1") if name in signal.Signals.__members__]
