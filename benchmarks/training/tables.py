"""Rows of results as Markdown tables. This module imports nothing, so that a process without torch can use it."""

from __future__ import annotations

from typing import Any


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of a Markdown table. Its columns are the keys of all rows; a cell without a value is empty."""
    titles = list(dict.fromkeys(title for row in rows for title in row))
    cells = [[str(row.get(title, "")).replace("|", "\\|").replace("\n", " ") for title in titles] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in (titles, ["---"] * len(titles), *cells)]
