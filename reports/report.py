"""Everything that `mgnas report` writes."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from mgnas.errors import UserError
from mgnas.files import write_text

from ..search.storage.run_directory import RunDirectory
from ..space.published import PUBLISHED, PublishedModel
from .analysis.importance import Importance, importance
from .analysis.pareto import reference_weights
from .analysis.run_data import LATENCY_SECONDS, RunData, distinct_names, load_run_data
from .analysis.select import select
from .analysis.tables import as_csv, as_json, as_markdown, front_rows
from .deploy.latency.device import add_device_latencies
from .figures.architecture import draw_architecture
from .figures.front import attainment_figure, front_figure, latency_figure
from .figures.importance import effects_figure, importance_figure, interaction_figure, parallel_figure
from .figures.progress import curves_figure, hypervolume_figure
from .figures.style import save_figure
from .figures.svg import to_svg
from .page.render import render_page

PAGE = "report.html"

_Figures = dict[str, Callable[[], Figure | None]]  # Name -> draws the figure; None: there is nothing to draw.


def report_folder(run: RunDirectory) -> Path:
    """The folder in a run directory that its report is written to."""
    return run.path / "report"


def write_report(
    runs: RunDirectory | Sequence[RunDirectory],
    folder: Path | None = None,
    latency_seconds: float = LATENCY_SECONDS,
    latencies: Sequence[Path] = (),
) -> Path:
    """Write the fronts as tables (CSV, JSON, Markdown), figures (PNG, SVG) and the page; the same for the same runs.

    Args:
        runs: one or several, finished or not.
        folder: to write to; default: `report/` in the run directory, `comparison/` for several runs.
        latency_seconds: how long to measure new latencies at most, for each run.
        latencies: files that measure.py has written on other devices. The run, which must be the only one, keeps them.

    Returns:
        the page's path.

    Raises:
        UserError: the folder cannot be written, or a file is damaged or of another run.
    """
    runs = [runs] if isinstance(runs, RunDirectory) else list(runs)
    if latencies and len(runs) > 1:
        raise UserError("--latency: belongs to one run; give that run alone first, which keeps it for later reports")
    if latencies:
        add_device_latencies(runs[0].path, latencies, [record.candidate for record in runs[0].load()])
    folder = folder or (report_folder(runs[0]) if len(runs) == 1 else Path("comparison"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    loaded = [load_run_data(run, latency_seconds) for run in runs]
    data = [replace(run, name=name) for run, name in zip(loaded, distinct_names(loaded), strict=True)]
    published = [model for model in PUBLISHED if model.dataset in {run.dataset for run in data}]
    suffixes = [""] if len(data) == 1 else [f"-{re.sub(r'[^A-Za-z0-9_.-]', '-', run.name)}" for run in data]
    importances = [importance(run.finished, run.space.parameters) for run in data]
    figures = _shared_figures(data, published)
    for run, shown, suffix in zip(data, importances, suffixes, strict=True):
        figures |= {f"{name}{suffix}": draw for name, draw in _figures_of(run, shown).items()}
    try:
        svgs = dict(_saved(figures, folder))
    except OSError as error:
        raise _unwritable(folder, error) from None
    for run, suffix in zip(data, suffixes, strict=True):
        _write_tables(run, folder, suffix)
        _write_drawing(run, folder, suffix)
    page = folder / PAGE
    write_text(page, render_page(data, published, svgs, importances, suffixes))
    return page


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --output")


def _shared_figures(runs: Sequence[RunData], published: Sequence[PublishedModel]) -> _Figures:
    """Figures of all runs."""
    title = f"{runs[0].name}: accuracy against weights" if len(runs) == 1 else ""
    figures: _Figures = {"front": lambda: front_figure(runs, published, title)}
    weights, accuracy = _reference(runs)
    figures["hypervolume"] = lambda: hypervolume_figure(runs, weights, accuracy)
    # An attainment surface only makes sense for searches of the same images.
    (dataset, count), *_ = collections.Counter(run.dataset for run in runs if run.front).most_common(1) or [("", 0)]
    if count > 1:
        figures["attainment"] = lambda: attainment_figure([run for run in runs if run.dataset == dataset])
    if any(run.latencies for run in runs):
        figures["latency"] = lambda: latency_figure(runs)
    return figures


def _reference(runs: Sequence[RunData]) -> tuple[int, float]:
    """(weights, accuracy) that hypervolumes are measured from: the corner of the focus, if all runs have the same."""
    weights = max(reference_weights(run.records, run.space.limits.max_weights) for run in runs)
    focus = runs[0].config.search.focus
    if focus is None or any(run.config.search.focus != focus for run in runs):
        return weights, 0.0
    return focus.max_weights or weights, focus.min_accuracy or 0.0


def _figures_of(run: RunData, shown: Importance | None) -> _Figures:
    """Figures of one run."""
    trials, parameters = run.finished, run.space.parameters
    figures: _Figures = {"curves": lambda: curves_figure(run)}
    if shown is not None:
        figures["importance"] = lambda: importance_figure(shown)
        figures["effects"] = lambda: effects_figure(trials, parameters)
    figures["interaction"] = lambda: interaction_figure(trials, parameters)
    if len(run.front) > 1:
        figures["parallel"] = lambda: parallel_figure(trials, parameters)
    return figures


def _saved(figures: _Figures, folder: Path) -> Iterator[tuple[str, str]]:
    """Draw and save each figure; yields its name and SVG text."""
    for name, draw in figures.items():
        figure = draw()
        if figure is not None:
            save_figure(figure, folder / name)
            yield name, (folder / f"{name}.svg").read_text(encoding="utf-8")


def _write_tables(run: RunData, folder: Path, suffix: str) -> None:
    rows = front_rows(run.front, run.retrained)
    write_text(folder / f"front{suffix}.csv", as_csv(rows))
    write_text(folder / f"front{suffix}.json", as_json(run.front, run.retrained))
    write_text(folder / f"front{suffix}.md", as_markdown(rows))


def _write_drawing(run: RunData, folder: Path, suffix: str) -> None:
    """Draw the network at the knee of the front."""
    if run.front:
        candidate = select(run.records).record.candidate
        drawing = draw_architecture(candidate.architecture, candidate.image_size)
        write_text(folder / f"architecture{suffix}.svg", to_svg(drawing) + "\n")
