"""The report as one self-contained HTML page: no network, one inlined script that the page's policy names by its hash.

Every name is escaped by Jinja; the script sets text as text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ...models.cost import count_weights
from ...search.trial_record import TrialRecord
from ...space.published import PublishedModel
from ..analysis.importance import LEAST_TRIALS, Importance
from ..analysis.run_data import RunData
from ..analysis.select import select
from ..analysis.summary import clock, compute_cost, failed, states_in_words, stopped
from ..analysis.tables import front_rows
from ..figures.front import spearman
from ..figures.style import inlined
from .data import as_script_block, page_data

# The marks that report.js draws, for the legend.
_MARKS = (
    "M-6,0A6,6 0 1,0 6,0A6,6 0 1,0 -6,0Z",
    "M-6,-6H6V6H-6Z",
    "M0,-7L7,6H-7Z",
    "M0,-7L7,0L0,7L-7,0Z",
    "M0,7L7,-6H-7Z",
    "M-6,-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z",
)


def render_page(
    runs: Sequence[RunData],
    published: Sequence[PublishedModel],
    figures: Mapping[str, str],
    importances: Sequence[Importance | None],
    suffixes: Sequence[str],
) -> str:
    """The page's text.

    Args:
        runs: at least one.
        published: models to compare with.
        figures: SVG text by name; those of a single run end in its suffix.
        importances: of each run; None: too few trials.
        suffixes: of each run.
    """
    environment = Environment(
        loader=PackageLoader(__package__, "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script, style = (files(__package__).joinpath("assets", name).read_text("utf-8") for name in _ASSETS)
    shown = [_run(*each) for each in zip(runs, importances, suffixes, strict=True)]
    return environment.get_template("report.html.jinja").render(
        title=", ".join(run.name for run in runs),
        runs=shown,
        rows=[row for run in shown for row in run["rows"]],
        expected=any(run.expected for run in runs),
        retrained=[row for run in runs for row in _retrained(run)],
        published=[vars(model) | {"counted": count_weights(model.config)} for model in published],
        figures={name: Markup(inlined(svg, name)) for name, svg in figures.items()},
        machine=runs[0].machine,
        least_trials=LEAST_TRIALS,
        marks=_MARKS,
        style=Markup(style),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(as_script_block(page_data(runs, published))),
    )


_ASSETS = ("report.js", "report.css")


def _run(run: RunData, importance: Importance | None, suffix: str) -> dict[str, Any]:
    """What the template shows of a run."""
    front = run.front
    known = [run.expected[record.number] for record in front if record.number in run.expected]
    ranks = [spearman(front, run.latencies, batch) for batch in (1, 32)]
    return {
        "name": run.name,
        "suffix": suffix,
        "dataset": run.dataset,
        "states": states_in_words(run.records),
        "facts": _facts(run, front),
        "rows": front_rows(front),
        "knee": select(run.records).record.number if front else None,
        "expected": run.expected,
        "curse": sum(each.curse for each in known) / len(known) if known else None,
        "noise": sum(each.noise for each in known) / len(known) if known else None,
        "importance": importance,
        "effort": compute_cost(run),
        "clock": clock(run.elapsed),
        "stopped": stopped(run.records),
        "failed": failed(run.records),
        "measured": len(run.latencies),
        "rank": None if None in ranks else ranks,
        "config": yaml.safe_dump(run.config.to_dict(), sort_keys=False, default_flow_style=None, width=100),
    }


def _facts(run: RunData, front: list[TrialRecord]) -> list[dict[str, Any]]:
    facts = []
    if front:
        best, knee, lightest = front[-1], select(run.records).record, front[0]
        for label, record in (("best accuracy", best), ("knee", knee), ("lightest", lightest)):
            value = f"{100 * record.accuracy:.2f} %"
            facts.append({"label": label, "value": value, "detail": f"{record.weights:,} weights"})
    trained = sum(len(record.curve) for record in run.records)
    facts.append({"label": "time", "value": clock(run.elapsed), "detail": f"{trained:,} epochs trained"})
    return facts


def _retrained(run: RunData) -> list[dict[str, Any]]:
    records = {record.number: record for record in run.records}
    return [
        {
            "run": run.name,
            "trial": found.trial,
            "weights": records[found.trial].weights,
            "seeds": len(found.accuracies),
            "mean": found.mean,
            "spread": found.spread,
            "estimate": found.estimate,
            "shift": found.shift,
            "part": found.part,
            "network": records[found.trial].candidate.architecture.describe(),
        }
        for found in run.retrained.values()
        if found.trial in records
    ]
