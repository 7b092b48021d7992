"""BoTorch's qLogNEHVI with the weights as a deterministic model: what a BoTorch user would write first.

A Gaussian process models the accuracy over the parameters, scaled and one-hot; log10 of the weights is known. The
reference point is the one that the search is judged by; a user would not know it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.deterministic import GenericDeterministicModel
from botorch.models.model import ModelList
from botorch.models.transforms import Standardize
from botorch.posteriors import Posterior, TorchPosterior
from botorch.sampling.base import MCSampler
from botorch.sampling.get_sampler import get_sampler
from gpytorch.mlls import ExactMarginalLogLikelihood

from mgnas.reports.simulation.scoring import reference
from mgnas.search.history.table import TabularBenchmark
from mgnas.search.samplers.candidate_pool import scaled
from mgnas.search.strategy.strategy import Decision
from mgnas.search.trial_record import TrialRecord, TrialState, completed_trials
from mgnas.space.search_space import SearchSpace

_STARTUP = 8
_SAMPLES = 64
_BATCH = 2048


class NoisyEHVI:
    """Chooses the unseen candidate with the largest qLogNEHVI; after _STARTUP random ones.

    Args:
        x: features of the candidates; the last one is the negative log10 of the weights, n x (d + 1).
        reference: (accuracy, negative log10 of the weights) that hypervolumes are measured from.
        seed: of the random start and of the Monte Carlo samples.
    """

    def __init__(self, x: np.ndarray, reference: Sequence[float], seed: int) -> None:
        self._x, self._reference, self._seed = torch.tensor(x), list(reference), seed
        self._order = list(np.random.default_rng(seed).permutation(len(x)))

    def choose(self, seen: Sequence[int], trained: Sequence[int], accuracies: Sequence[float]) -> int | None:
        """The row of the next candidate; None if all were seen.

        Args:
            seen: rows not to choose again.
            trained: those of them that have an accuracy, m.
            accuracies: theirs, m.
        """
        excluded = set(seen)
        unseen = [row for row in self._order if row not in excluded]
        if not unseen:
            return None
        return unseen[0] if len(trained) < _STARTUP else self._best(unseen, trained, accuracies)

    def _best(self, unseen: list[int], trained: Sequence[int], accuracies: Sequence[float]) -> int:
        x = self._x[list(trained)]
        y = torch.tensor([[accuracy] for accuracy in accuracies], dtype=torch.float64)
        d = x.shape[1] - 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gp = SingleTaskGP(x, y, covar_module=_kernel(d), outcome_transform=Standardize(1))
            fit_gpytorch_mll(ExactMarginalLogLikelihood(gp.likelihood, gp))
            model = ModelList(gp, GenericDeterministicModel(lambda inputs: inputs[..., -1:]))
            acquisition = qLogNoisyExpectedHypervolumeImprovement(
                model,
                ref_point=self._reference,
                X_baseline=x,
                sampler=self._sampler(model.posterior(x[:1])),
                prune_baseline=True,
            )
            with torch.no_grad():
                values = torch.cat([acquisition(self._x[part][:, None]) for part in torch.tensor(unseen).split(_BATCH)])
        return unseen[int(values.argmax())]

    def _sampler(self, posterior: Posterior) -> MCSampler:
        # BoTorch's annotation is narrower than what it takes: a list of models has a PosteriorList.
        posterior_list = cast(TorchPosterior, posterior)
        return get_sampler(posterior_list, torch.Size([_SAMPLES]), seed=self._seed)


class NoisyEHVISearch:
    """A search of a table by NoisyEHVI.

    Args:
        table, space: what is searched; all of it.
        seed: of NoisyEHVI.
    """

    def __init__(self, table: TabularBenchmark, space: SearchSpace, seed: int) -> None:
        self.records: list[TrialRecord] = []
        self._candidates = list(space.enumerate())
        distributions = {parameter.name: parameter.distribution for parameter in space.parameters}
        rows = [[*scaled(c.params, distributions), -np.log10(c.weights)] for c in self._candidates]
        log_weights, accuracy = reference(table)
        self._chooser = NoisyEHVI(np.array(rows), [accuracy, -log_weights], seed)
        self._rows: list[int] = []

    def ask(self) -> TrialRecord | None:
        trials = completed_trials(self.records)
        trained, accuracies = [self._rows[trial.number] for trial in trials], [trial.accuracy for trial in trials]
        row = self._chooser.choose(self._rows, trained, accuracies)
        if row is None:
            return None
        number = len(self.records)
        self._rows.append(row)
        self.records.append(TrialRecord(number, self._candidates[row], number))
        return self.records[-1]

    def report(self, number: int, curve: Sequence[float], seconds: float = 0.0) -> Decision:
        self.records[number].curve = list(curve)
        return Decision.CONTINUE

    def complete(self, number: int) -> None:
        self.records[number].state = TrialState.COMPLETE


def _kernel(d: int):
    """Matern 5/2 over the parameters, without the weights, with BoTorch's default lengthscale prior."""
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior

    return get_covar_module_with_dim_scaled_prior(ard_num_dims=d, use_rbf_kernel=False, active_dims=list(range(d)))
