"""The report as one self-contained HTML page that loads nothing.

Its one script is inlined, and the page's content security policy allows only that script, by its hash. Jinja escapes
every name; the script sets text as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from statistics import fmean
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mgnas.errors import UserError, printable

from ...models.cost import count_weights
from ...search.trial_record import CompletedTrial, last_gain
from ...space.published import PublishedModel
from ..analysis.front_confidence import INTERVAL
from ..analysis.importance import MIN_TRIALS, Importance
from ..analysis.int8 import int8_front, int8_networks
from ..analysis.run_data import RunData
from ..analysis.select import select
from ..analysis.summary import compute_cost, ever_paused, failed, states_in_words
from ..analysis.tables import front_rows
from ..deploy.latency.device import DeviceLatencies
from ..deploy.portable_paths import shown_path, without_folders
from ..figures.front import spearman
from ..figures.style import inlined
from ..text import clock
from .data import MARKS, PUBLISHED_MARK, as_script_block, page_data

_PACKAGE = __name__.rpartition(".")[0]
_ASSETS = ("report.js", "report.css")
_RIVAL, _MAX_RIVALS = 0.3, 6
"""Trials off the front that belong to it with this probability are named, the likeliest ones."""
_RETRAINED = 3
"""Networks that the page proposes to retrain, at most."""


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
        figures: name -> SVG text; the name of a single run's figure ends in the run's suffix.
        importances: of each run; None: too few trials.
        suffixes: of the runs.
    """
    environment = Environment(
        loader=PackageLoader(_PACKAGE, "assets"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script, style = (files(_PACKAGE).joinpath("assets", name).read_text("utf-8") for name in _ASSETS)
    shown = [_run(*parts) for parts in zip(runs, importances, suffixes, strict=True)]
    return environment.get_template("report.html.jinja").render(
        title=", ".join(run.name for run in runs),
        runs=shown,
        rows=[row for run in shown for row in run["rows"]],
        expected=any(run.expected for run in runs),
        interval=INTERVAL,
        retrained=[row for run in runs for row in _retrained(run)],
        int8=[row for run in runs for row in _int8(run)],
        published=[vars(model) | {"counted": count_weights(model.config)} for model in published],
        figures={name: Markup(inlined(svg, name)) for name, svg in figures.items()},
        machine=runs[0].machine,
        min_trials=MIN_TRIALS,
        marks=MARKS,
        published_mark=PUBLISHED_MARK,
        style=Markup(style),
        script=Markup(script),
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(as_script_block(page_data(runs, published))),
    )


def _run(run: RunData, importance: Importance | None, suffix: str) -> dict[str, Any]:
    """What the template shows of a run."""
    front = run.front
    expected = [run.expected[trial.number] for trial in front if trial.number in run.expected]
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
        "winners_curse": fmean(e.winners_curse for e in expected) if expected else None,
        "noise": fmean(e.noise for e in expected) if expected else None,
        "rivals": _rivals(run, front),
        "doubtful": 0 if run.confidence is None else len(run.confidence.doubtful(run.finished, _RETRAINED)),
        "path": shown_path(run.path),
        "importance": importance,
        "cost": compute_cost(run),
        "gain": last_gain(run.records),
        "searched": clock(run.elapsed, unit=True),
        "ever_paused": ever_paused(run.records),
        "failed": failed(run.records),
        "measured": len(run.latencies),
        "devices": [_device(device, front) for device in run.devices],
        "rank_correlations": None if None in ranks else ranks,
        "reasons": {record.number: _reason(run, record.reason) for record in run.records},
        "config": yaml.safe_dump(_config(run), sort_keys=False, default_flow_style=None, width=100),
    }


def _int8(run: RunData) -> list[dict[str, Any]]:
    """The int8 networks, by ascending size."""
    networks = int8_networks(run.finished, run.retrained)
    front = int8_front(networks)
    return [vars(network) | {"run": run.name, "on_front": network in front} for network in networks]


def _device(device: DeviceLatencies, front: Sequence[CompletedTrial]) -> dict[str, Any]:
    """What the template shows of a device: for each network of the front its latencies, and if they were measured."""
    rows = []
    for trial in front:
        measured = device.quartiles(trial.candidate)
        try:
            single, many = device.latencies(trial.candidate).values()
        except UserError:  # Too few networks were measured to predict others.
            continue
        int8 = device.quartiles(trial.candidate, "int8")
        rows.append({"trial": trial, "measured": measured, "single": single, "many": many, "int8": int8})
    fitted = device.fitted() if device.predicts else None
    return {"name": device.name, "machine": device.machine, "rows": rows, "fitted": fitted}


def _rivals(run: RunData, front: Sequence[CompletedTrial]) -> list[CompletedTrial]:
    """The trials off the front that most probably belong to it, at most _MAX_RIVALS."""
    parts = {number: expected.on_front for number, expected in run.expected.items()}
    others = [trial for trial in run.finished if trial not in front and parts.get(trial.number, 0.0) >= _RIVAL]
    return sorted(others, key=lambda trial: -parts[trial.number])[:_MAX_RIVALS]


def _config(run: RunData) -> dict[str, Any]:
    """The search's settings, without the names of the user's folders."""
    config = run.config.to_dict()
    for section, key in (("data", "path"), ("search", "prior"), ("resources", "storage")):
        if config[section][key] is not None:
            config[section][key] = shown_path(config[section][key])
    return config


def _reason(run: RunData, reason: str) -> str:
    """Why a trial failed, without the names of the user's folders."""
    return printable(without_folders(reason, run.path, run.config.data.path, run.config.resources.storage))


def _facts(run: RunData, front: Sequence[CompletedTrial]) -> list[dict[str, str]]:
    """The numbers at the top of the page."""
    facts = []
    if front:
        best, knee, lightest = front[-1], select(run.records).record, front[0]
        for label, trial in (("best accuracy", best), ("knee", knee), ("lightest", lightest)):
            value = f"{100 * trial.accuracy:.2f} %"
            balanced = trial.balanced_accuracy
            detail = f"{trial.weights:,} weights" + ("" if balanced is None else f", balanced {100 * balanced:.2f} %")
            facts.append({"label": label, "value": value, "detail": detail})
    if run.largest_class is not None:
        name, share = run.largest_class
        detail = f"of the validation images: the accuracy of always answering {printable(name)}"
        facts.append({"label": "largest class", "value": f"{100 * share:.2f} %", "detail": detail})
    trained = sum(len(record.curve) for record in run.records)
    facts.append({"label": "time", "value": clock(run.elapsed, unit=True), "detail": f"{trained:,} epochs trained"})
    return facts


def _retrained(run: RunData) -> list[dict[str, Any]]:
    """Rows of the table of fully trained networks."""
    records = {record.number: record for record in run.records}
    return [
        {
            "run": run.name,
            "trial": network.trial,
            "weights": records[network.trial].weights,
            "seeds": len(network.accuracies),
            "mean": network.mean,
            "std": network.std,
            "estimate": network.estimate,
            "shift": network.shift,
            "part": network.part,
            "network": records[network.trial].candidate.architecture.describe(),
        }
        for network in run.retrained.values()
        if network.trial in records
    ]
