"""The running search on the terminal: a live view for people, plain lines for logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..reports.analysis.pareto import pareto_front
from ..reports.text import clock
from ..search.trial_record import CompletedTrial, TrialRecord, TrialState

if TYPE_CHECKING:
    from ..search.tuner.progress import SearchProgress

_FRONT_ROWS = 10


def status_lines(records: Sequence[TrialRecord], trials: int, elapsed: float) -> list[str]:
    """Counts, and the front as a table of text."""
    counts = {state: sum(record.state is state for record in records) for state in TrialState}
    front = pareto_front(records)
    lines = [
        f"{counts[TrialState.COMPLETE]} of {trials} trials complete, {counts[TrialState.RUNNING]} running, "
        f"{counts[TrialState.PAUSED]} paused, {counts[TrialState.FAILED]} failed, {clock(elapsed)} searched"
    ]
    if front:
        lines.append(f"Pareto front: {len(front)} networks")
        lines += [
            f"  {record.weights:>11,} weights  {100 * record.accuracy:6.2f} %  trial {record.number:<4} "
            f"{record.candidate.architecture.describe()}"
            for record in front
        ]
    return lines


def make_display(progress: SearchProgress) -> LiveDisplay | PlainDisplay:
    """A live view on a terminal, else plain lines."""
    console = Console()
    return LiveDisplay(progress, console) if console.is_terminal else PlainDisplay(progress)


class PlainDisplay:
    """One line per ended trial."""

    def __init__(self, progress: SearchProgress) -> None:
        self._progress = progress

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def event(self, record: TrialRecord) -> None:
        progress = self._progress
        done = progress.count(TrialState.COMPLETE) + progress.count(TrialState.FAILED)
        if record.state is TrialState.COMPLETE:
            mark = "*" if record.number in {trial.number for trial in pareto_front(progress.records)} else " "
            outcome = f"{100 * record.accuracy:6.2f} %{mark} {record.weights:>9,} weights"
        elif record.state is TrialState.PAUSED:
            outcome = f"paused at {record.decisions[-1].removeprefix('epoch ').replace(': paused', '', 1)};"
        else:
            outcome = f"failed: {record.reason}"
        left = progress.seconds_left
        remaining = f", about {clock(left)} left" if left else ""
        network = record.candidate.architecture.describe()
        print(f"[{done}/{progress.n_trials}{remaining}] trial {record.number}: {outcome}  {network}", flush=True)


class LiveDisplay:
    """Bar, counts, time left, and the front as it grows."""

    def __init__(self, progress: SearchProgress, console: Console) -> None:
        self._progress = progress
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=2)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def event(self, record: TrialRecord) -> None:
        if record.state is TrialState.FAILED:
            self._live.console.print(Text(f"trial {record.number} failed: {record.reason}", style="red"))

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
        parts: list[RenderableType] = [bar, counts]
        front = pareto_front(records)
        if front:
            parts += [Text(), _front_table(front)]
        return Padding(Group(*parts), (1, 2))


def _front_table(front: Sequence[CompletedTrial]) -> Table:
    title = f"Pareto front: {len(front)} networks, best {100 * front[-1].accuracy:.2f} %"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("weights", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("network", overflow="ellipsis", no_wrap=True)
    for record in list(front)[-_FRONT_ROWS:]:
        accuracy = f"{100 * record.accuracy:.2f} %"
        table.add_row(f"{record.weights:,}", accuracy, record.candidate.architecture.describe())
    return table
