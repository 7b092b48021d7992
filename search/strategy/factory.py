"""From a search's config to its strategy, with sampler, prior and pausing rule."""

from __future__ import annotations

from collections.abc import Sequence

from mgnas.errors import ConfigError

from ...space.search_space import SearchSpace
from ..config import SearchConfig
from ..history.past_trainings import TaskEvaluations
from ..samplers.factory import make_sampler
from ..trial_record import TrialRecord
from .pausing import make_pausing_rule
from .strategy import Strategy


def make_strategy(config: SearchConfig, space: SearchSpace, records: Sequence[TrialRecord] = ()) -> Strategy:
    """The strategy of a search.

    Args:
        config: the search.
        space: its space.
        records: trials of an earlier part of it.

    Raises:
        UserError: the prior cannot be read, or the pausing rule does not fit the space.
    """
    settings = config.search
    if settings.stopping != "none" and "epochs" in space.searched_training_settings:
        problem = f"{settings.stopping} compares trainings of equal length, but the space varies epochs; use none"
        raise ConfigError("search.stopping", problem, config.file)
    past = None if settings.prior == "none" else TaskEvaluations.load(settings.prior)
    prior = past.prior() if past and settings.sampler == "ehvi" else None
    reference, focus = None, settings.focus
    if focus is not None:
        space, reference = config.focused(space), (focus.min_accuracy, focus.max_weights)
    # NOTE: A seed of its own for each part of a search; a resumed one must not draw its first proposals again.
    sampler = make_sampler(settings.sampler, settings.seed + len(records), space, prior, reference)
    rule = make_pausing_rule(settings.stopping, space.training.epochs, past.curves if past else ())
    return Strategy(space, sampler, settings.trials, settings.seed, records, rule, settings.until)
