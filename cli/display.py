"""The running search on the terminal: a live view for people. Logs get the plain lines of mgnas/progress.py."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mgnas.errors import printable
from mgnas.progress import PlainDisplay
from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.text import clock
from mgnas.search.trial_record import CompletedTrial, TrialRecord, TrialState, last_gain

if TYPE_CHECKING:
    from mgnas.search.tuner.progress import SearchProgress

_FRONT_ROWS = 10
_TELLING = 0.02
"""A difference of accuracy and balanced accuracy that shows that the sizes of the classes make the accuracy high."""


def status_lines(records: Sequence[TrialRecord], trials: int, elapsed: float) -> list[str]:
    """Counts, and the front as a table of text."""
    counts = {state: sum(record.state is state for record in records) for state in TrialState}
    front, gain = pareto_front(records), last_gain(records)
    lines = [
        f"{counts[TrialState.COMPLETE]} of {trials} trials complete, {counts[TrialState.RUNNING]} running, "
        f"{counts[TrialState.PAUSED]} paused, {counts[TrialState.FAILED]} failed, {clock(elapsed)} searched"
    ]
    if gain is not None:
        lines.append(gain.in_words())
    if front:
        lines.append(f"Pareto front: {_networks(front)}")
        telling = any(_difference(trial) >= _TELLING for trial in front)
        lines += [
            f"  {trial.weights:>11,} weights  {100 * trial.accuracy:6.2f} %  "
            f"{_balanced(trial) if telling else ''}trial {trial.number:<4} {trial.architecture.describe()}"
            for trial in front
        ]
    return lines


def _networks(front: Sequence[CompletedTrial]) -> str:
    return f"{len(front)} network{'s' * (len(front) != 1)}"


def _difference(trial: CompletedTrial) -> float:
    return 0.0 if trial.balanced_accuracy is None else abs(trial.balanced_accuracy - trial.accuracy)


def _balanced(trial: CompletedTrial) -> str:
    value = "     -" if trial.balanced_accuracy is None else f"{100 * trial.balanced_accuracy:6.2f}"
    return f"(balanced {value} %)  "


def make_display(progress: SearchProgress) -> LiveDisplay | PlainDisplay:
    """A live view on a terminal, else plain lines."""
    console = Console()
    return LiveDisplay(progress, console) if console.is_terminal else PlainDisplay(progress)


class LiveDisplay:
    """Bar, counts, time left, and the front as it grows."""

    def __init__(self, progress: SearchProgress, console: Console) -> None:
        self._progress = progress
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):  # The terminal may be gone.
            self._live.stop()

    def event(self, record: TrialRecord) -> None:
        if record.state is TrialState.FAILED:
            self._live.console.print(Text(f"trial {record.number} failed: {printable(record.reason)}", style="red"))

    def render(self) -> RenderableType:
        progress = self._progress
        records = list(progress.records)
        complete, failed = progress.count(TrialState.COMPLETE), progress.count(TrialState.FAILED)
        running, paused = progress.count(TrialState.RUNNING), progress.count(TrialState.PAUSED)
        counts = Text.assemble(
            (f"{complete}", "bold"),
            f" of {progress.n_trials} complete   ",
            (f"{running}", "bold"),
            f" running   {paused} paused   ",
            (f"{failed} failed", "red" if failed else "dim"),
            f"   {clock(progress.elapsed)} elapsed",
            f"   about {clock(progress.seconds_left)} left" if progress.seconds_left is not None else "",
        )
        bar = ProgressBar(total=progress.n_trials, completed=complete + failed + paused, width=60)
        # A progress bar does not end its line; padding does.
        parts: list[RenderableType] = [Padding(bar, 0), counts]
        if (gain := last_gain(records)) is not None:
            parts.append(Text(gain.in_words()))
        front = pareto_front(records)
        if front:
            parts += [Text(), _front_table(front)]
        return Padding(Group(*parts), (1, 2))


def _front_table(front: Sequence[CompletedTrial]) -> Table:
    title = f"Pareto front: {_networks(front)}, best {100 * front[-1].accuracy:.2f} %"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("weights", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("network", overflow="ellipsis", no_wrap=True)
    for trial in front[-_FRONT_ROWS:]:
        table.add_row(f"{trial.weights:,}", f"{100 * trial.accuracy:.2f} %", trial.architecture.describe())
    return table
