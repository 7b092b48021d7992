"""The report as one self-contained HTML page: no scripts, no network, every name escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..models.cost import count_weights
from ..search.run_directory import RunDirectory
from ..search.trial_record import TrialRecord, TrialState
from ..space.published import PublishedModel
from .pareto import pareto_front
from .select import select
from .tables import front_rows


def render_page(
    run: RunDirectory, records: Sequence[TrialRecord], published: Sequence[PublishedModel], figures: dict[str, str]
) -> str:
    """The page's text.

    Args:
        run: the run.
        records: its trials.
        published: models to compare with.
        figures: SVG text by name: `front`, `hypervolume`, `curves`.
    """
    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    front = pareto_front(records)
    return environment.get_template("report.html.jinja").render(
        name=run.path.resolve().name,
        dataset=run.config.data.name,
        states=states_in_words(records),
        facts=_facts(run, records, front),
        rows=front_rows(front),
        knee=select(records).record.number if front else None,
        published=[vars(model) | {"counted": count_weights(model.config)} for model in published],
        failures=[record for record in records if record.state is TrialState.FAILED],
        config=yaml.safe_dump(run.config.to_dict(), sort_keys=False, default_flow_style=None, width=100),
        **{f"{name}_svg": Markup(_inline(svg, name)) for name, svg in figures.items()},
    )


def states_in_words(records: Sequence[TrialRecord]) -> str:
    """`60 trials, 57 complete, 2 failed, 1 running`."""
    counts = {state: sum(record.state is state for record in records) for state in TrialState}
    shown = [f"{count} {state}" for state, count in counts.items() if count and state is not TrialState.COMPLETE]
    return ", ".join([f"{len(records)} trials", f"{counts[TrialState.COMPLETE]} complete", *reversed(shown)])


def _facts(run: RunDirectory, records: Sequence[TrialRecord], front: list[TrialRecord]) -> list[dict[str, Any]]:
    facts = []
    if front:
        best, knee, lightest = front[-1], select(records).record, front[0]
        for label, record in (("best accuracy", best), ("knee", knee), ("lightest", lightest)):
            value = f"{100 * record.accuracy:.2f} %"
            facts.append({"label": label, "value": value, "detail": f"{record.weights:,} weights"})
    minutes, seconds = divmod(round(run.elapsed), 60)
    trained = sum(len(record.curve) for record in records)
    facts.append({"label": "time", "value": f"{minutes}:{seconds:02d} min", "detail": f"{trained:,} epochs trained"})
    return facts


def _inline(svg: str, name: str) -> str:
    """The <svg> element alone, with ids that differ between the figures of a page."""
    element = svg[svg.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = re.sub(r'(xlink:href|href)="#', rf'\1="#{name}-', element)
    return re.sub(r"url\(#", f"url(#{name}-", element)
