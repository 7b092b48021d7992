"""docs/example.md as a reader follows it in a notebook: all cells in one namespace, while an event loop is running."""

import ast
import asyncio
import re
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "example.md"


def run_cell(text, namespace):
    """Execute a cell; returns the value of its last expression, as a notebook shows it."""
    cell = ast.parse(text)
    last = cell.body.pop() if isinstance(cell.body[-1], ast.Expr) else None
    exec(compile(cell, str(EXAMPLE), "exec"), namespace)
    return None if last is None else eval(compile(ast.Expression(last.value), str(EXAMPLE), "eval"), namespace)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """(namespace after the last cell, the values that cells have shown)."""
    cells = re.findall(r"^```python\n(.*?)^```", EXAMPLE.read_text(), re.MULTILINE | re.DOTALL)
    namespace = {}

    async def follow():
        return [run_cell(cell, namespace) for cell in cells]

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        patch.setenv("COLUMNS", "120")
        yield namespace, [value for value in asyncio.run(follow()) if value is not None]


@pytest.mark.slow
def test_every_cell_runs_in_a_running_event_loop(notebook):
    namespace, shown = notebook
    weights, run, table, page, share, exported, n_best = shown
    assert weights == 24_506
    assert re.fullmatch(r"<Run runs/digits-1: 6 of 6 trials complete, \d on the front>", repr(run))
    assert len(table) == 6
    assert str(page) == "runs/digits-1/report/report.html"
    assert share > 0.7
    assert exported.name == "model.safetensors"
    assert n_best == 12
    assert len(namespace["retrained"].accuracies) == 2
