"""The samplers that a search can name: mgnas's own, and Optuna's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import optuna
from optuna.samplers import BaseSampler

from ...space.search_space import SearchSpace

if TYPE_CHECKING:
    from .transfer_prior import TransferPrior


Reference = tuple[float | None, float | None]
"""(accuracy, weights) that the hypervolume is measured from; None: as EHVISampler chooses it."""


def _ehvi(
    seed: int, space: SearchSpace | None, prior: TransferPrior | None, reference: Reference | None = None
) -> BaseSampler:
    # NOTE: Imported only when it is asked for: it brings torch, whose import takes seconds.
    from .candidate_pool import CandidatePool
    from .ehvi import EHVISampler
    from .outcome_transforms import LogErrorTransform

    if space is None:
        raise ValueError("the sampler ehvi needs the search space")
    pool, scale = CandidatePool(space, seed), LogErrorTransform()
    return EHVISampler(pool=pool, prior=prior, seed=seed, outcome_transform=scale, reference=reference)


def _tpe(seed: int, space: SearchSpace | None, prior: TransferPrior | None) -> BaseSampler:
    # The constant liar gives workers that ask at the same time different answers.
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


def _nsga2(seed: int, space: SearchSpace | None, prior: TransferPrior | None) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=20)


def _random(seed: int, space: SearchSpace | None, prior: TransferPrior | None) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _gp(seed: int, space: SearchSpace | None, prior: TransferPrior | None) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=seed)


SAMPLERS: dict[str, Callable[[int, SearchSpace | None, TransferPrior | None], BaseSampler]] = {
    "ehvi": _ehvi,
    "random": _random,
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
}


def make_sampler(
    name: str,
    seed: int,
    space: SearchSpace | None = None,
    prior: TransferPrior | None = None,
    reference: Reference | None = None,
) -> BaseSampler:
    """Make a sampler.

    Args:
        name: a key of SAMPLERS.
        seed: of its random choices.
        space: what it samples; needed by `ehvi` only.
        prior: knowledge of another data set; used by `ehvi` only.
        reference: that the hypervolume is measured from; used by `ehvi` only.

    Raises:
        KeyError: an unknown name.
        ValueError: `ehvi` without a space.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if reference is not None and name == "ehvi":
            return _ehvi(seed, space, prior, reference)
        return SAMPLERS[name](seed, space, prior)
