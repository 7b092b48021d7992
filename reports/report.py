"""Everything that `mgnas report` writes."""

from __future__ import annotations

from pathlib import Path

from ..models.errors import UserError
from ..models.settings import write_text
from ..search.run_directory import RunDirectory
from ..space.published import PUBLISHED
from .figures import curves_figure, front_figure, hypervolume_figure, save_figure
from .html import render_page
from .pareto import pareto_front, reference_weights
from .tables import as_csv, as_json, as_markdown, front_rows


def write_report(run: RunDirectory, folder: Path | None = None) -> Path:
    """Write the front as tables (CSV, JSON, Markdown), the figures (PNG, SVG) and the page; the same for the same run.

    Args:
        run: finished or not.
        folder: where to; default: `report/` in the run directory.

    Returns:
        the page.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = folder or run.path / "report"
    records = run.load()
    front = pareto_front(records)
    published = [model for model in PUBLISHED if model.dataset == run.config.data.name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        figures = {
            "front": front_figure(records, published, f"{run.path.resolve().name}: accuracy against weights"),
            "hypervolume": hypervolume_figure(records, reference_weights(records, run.space.limits.max_weights)),
            "curves": curves_figure(records),
        }
        for name, figure in figures.items():
            save_figure(figure, folder / name)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --output"
        ) from None
    rows = front_rows(front)
    write_text(folder / "front.csv", as_csv(rows))
    write_text(folder / "front.json", as_json(front))
    write_text(folder / "front.md", as_markdown(rows))
    svgs = {name: (folder / f"{name}.svg").read_text(encoding="utf-8") for name in figures}
    page = folder / "report.html"
    write_text(page, render_page(run, records, published, svgs))
    return page
