"""Everything that `mgnas report` writes."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from mgnas.errors import UserError
from mgnas.files import write_text

from ..search.storage.run_directory import RunDirectory
from ..space.published import PUBLISHED
from .analysis.importance import Importance, importance
from .analysis.pareto import reference_weights
from .analysis.run_data import LATENCY_SECONDS, RunData, distinct_names, load_run_data
from .analysis.select import select
from .analysis.tables import as_csv, as_json, as_markdown, front_rows
from .figures.architecture import draw_architecture, to_figure, to_svg
from .figures.front import attainment_figure, front_figure, latency_figure
from .figures.importance import effects_figure, importance_figure, interaction_figure, parallel_figure
from .figures.progress import curves_figure, hypervolume_figure
from .figures.style import save_figure
from .page.render import render_page

PAGE = "report.html"


def report_folder(run: RunDirectory) -> Path:
    """Where the report of a run belongs."""
    return run.path / "report"


def write_report(
    runs: RunDirectory | Sequence[RunDirectory],
    folder: Path | None = None,
    latency_seconds: float = LATENCY_SECONDS,
) -> Path:
    """Write fronts as tables (CSV, JSON, Markdown), figures (PNG, SVG) and the page; the same for the same runs.

    Args:
        runs: one or several, finished or not.
        folder: where to; default: `report/` in the run directory, `comparison/` for several.
        latency_seconds: how long latencies that are not known yet may be measured, for each run.

    Returns:
        the page.

    Raises:
        UserError: the folder cannot be written, or a file of a run is damaged.
    """
    runs = [runs] if isinstance(runs, RunDirectory) else list(runs)
    folder = folder or (report_folder(runs[0]) if len(runs) == 1 else Path("comparison"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None
    views = [load_run_data(run, latency_seconds) for run in runs]
    views = [replace(each, name=name) for each, name in zip(views, distinct_names(views), strict=True)]
    published = [model for model in PUBLISHED if model.dataset in {each.dataset for each in views}]
    suffixes = [""] if len(views) == 1 else [f"-{re.sub(r'[^A-Za-z0-9_.-]', '-', each.name)}" for each in views]
    importances = [importance(each.records, each.space.parameters) for each in views]
    figures = _shared_figures(views, published)
    for each, found, suffix in zip(views, importances, suffixes, strict=True):
        figures |= {f"{name}{suffix}": draw for name, draw in _figures_of(each, found).items()}
    try:
        svgs = dict(_saved(figures, folder))
    except OSError as error:
        raise _unwritable(folder, error) from None
    for each, suffix in zip(views, suffixes, strict=True):
        _write_tables(each, folder, suffix)
    page = folder / PAGE
    write_text(page, render_page(views, published, svgs, importances, suffixes))
    return page


def _unwritable(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder}: cannot be written ({error.strerror}); choose another folder with --output")


def _shared_figures(views: Sequence[RunData], published) -> dict[str, Callable[[], Figure | None]]:
    """Name -> draws a figure of all runs."""
    title = f"{views[0].name}: accuracy against weights" if len(views) == 1 else ""
    figures: dict[str, Callable[[], Figure | None]] = {"front": lambda: front_figure(views, published, title)}
    budgets = [each.space.limits.max_weights for each in views]
    reference = max(reference_weights(each.records, budget) for each, budget in zip(views, budgets, strict=True))
    figures["hypervolume"] = lambda: hypervolume_figure(views, reference)
    # Only searches of the same images attain the same thing.
    (dataset, count), *_ = collections.Counter(each.dataset for each in views if each.front).most_common(1) or [("", 0)]
    if count > 1:
        figures["attainment"] = lambda: attainment_figure([each for each in views if each.dataset == dataset])
    if any(each.latencies for each in views):
        figures["latency"] = lambda: latency_figure(views)
    return figures


def _figures_of(run: RunData, found: Importance | None) -> dict[str, Callable[[], Figure | None]]:
    """Name -> draws a figure of one run."""
    records, parameters = run.records, run.space.parameters
    figures: dict[str, Callable[[], Figure | None]] = {"curves": lambda: curves_figure(run)}
    if found is not None:
        figures["importance"] = lambda: importance_figure(found)
        figures["effects"] = lambda: effects_figure(records, parameters)
    figures["interaction"] = lambda: interaction_figure(records, parameters)
    if len(run.front) > 1:
        figures["parallel"] = lambda: parallel_figure(records, parameters)
    if run.front:
        figures["architecture"] = lambda: to_figure(_knee_drawing(run))
    return figures


def _knee_drawing(run: RunData):
    candidate = select(run.records).record.candidate
    return draw_architecture(candidate.architecture, candidate.image_size)


def _saved(figures: dict[str, Callable[[], Figure | None]], folder: Path):
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
    if run.front:
        write_text(folder / f"architecture{suffix}.svg", to_svg(_knee_drawing(run)) + "\n")
