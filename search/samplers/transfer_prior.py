"""What trainings on another data set say about an architecture: a prior for the search on this one.

Notation:
    n    trainings on the other data set
    m    architectures to predict
    k    added features
    x    features, n or m x len(FEATURES) + k

The added features (`ADDED_FEATURES`) are those that differ among the trainings. What the trainings do not vary, the
prior cannot tell.

Accuracies are modelled on the scale of the logarithm of the error.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mgnas.errors import UserError

from ...models.config import ArchitectureConfig
from .features import ADDED_FEATURES, FEATURES, LEAST_TRAININGS, added_features, architecture_features
from .gaussian_process import AccuracyModel, ModelFitError
from .gp_hyperparameters import Hyperparameters
from .outcome_transforms import LogErrorTransform

_LOG_ERROR = LogErrorTransform()


class TransferPrior:
    """Predicts the accuracy of architectures on another data set from those that were trained there.

    Usually made by `from_accuracies`.

    Args:
        x: features of the trained architectures, n x len(FEATURES) + k; architectures may repeat.
        accuracies: their final accuracies, n, as fractions.
        added: names of the added features, k.

    Attributes:
        trust: 0 to 1, how well it predicts each of its own architectures from the others: the correlation of these
            predictions with the accuracies, or 0 if that is negative.

    Raises:
        UserError: fewer than LEAST_TRAININGS trainings, or nothing can be learned from them.
    """

    def __init__(self, x: np.ndarray, accuracies: np.ndarray, added: Sequence[str] = ()) -> None:
        if len(x) < LEAST_TRAININGS:
            raise UserError(f"a prior needs at least {LEAST_TRAININGS} finished trainings; this one has {len(x)}")
        self._x, self._accuracies, self.added = x, accuracies, tuple(added)
        try:
            self._posterior = AccuracyModel().fit(x, _LOG_ERROR.transform(accuracies), np.zeros(len(x)))
        except ModelFitError as error:
            raise UserError(f"nothing can be learned from this prior: {error}") from error
        self.trust = self._own_correlation()

    def hyperparameters(self, added: Sequence[str] = ()) -> Hyperparameters:
        """Those of its model, for a model that has these added features after the others.

        Lengthscales end before the first added feature that the prior does not have.
        """
        own = self._posterior.hyperparameters
        by_name = dict(zip(self.added, own.lengthscales[len(FEATURES) :].tolist(), strict=True))
        shared = [by_name[name] for name in itertools.takewhile(by_name.__contains__, added)]
        return replace(own, lengthscales=np.append(own.lengthscales[: len(FEATURES)], shared))

    def _own_correlation(self) -> float:
        _, architectures = np.unique(self._x, axis=0, return_inverse=True)
        predicted = self._posterior.leave_one_group_out(architectures.reshape(-1))
        observed = _LOG_ERROR.transform(self._accuracies)
        if not (np.ptp(predicted) > 0 and np.ptp(observed) > 0):
            return 0.0
        return max(float(np.corrcoef(predicted, observed)[0, 1]), 0.0)

    @classmethod
    def from_accuracies(cls, configs: Sequence[ArchitectureConfig], accuracies: Sequence[float]) -> TransferPrior:
        """From trainings: architectures and final accuracies, n each; one entry for each training of an architecture.

        Raises:
            UserError: as for TransferPrior.
        """
        if len(configs) != len(accuracies):
            raise ValueError(f"{len(configs)} configs, but {len(accuracies)} accuracies")
        x, added = _features(configs), _added(configs)
        varied = np.flatnonzero((added != added[:1]).any(axis=0))
        names = [list(ADDED_FEATURES)[index] for index in varied]
        return cls(np.hstack([x, added[:, varied]]), np.asarray(accuracies, dtype=np.float64), names)

    def mean(self, configs: Sequence[ArchitectureConfig]) -> np.ndarray:
        """Predicted accuracies on the other data set, m, as fractions."""
        return self.mean_of_features(np.hstack([_features(configs), _added(configs)]), list(ADDED_FEATURES))

    def mean_of_features(self, x: np.ndarray, added: Sequence[str] = ()) -> np.ndarray:
        """Predicted accuracies, m, of architectures with features x.

        Args:
            x: m rows; FEATURES, then the added features, then perhaps others, which the prior does not know.
            added: names of the added features in x; those that are not there are 0.
        """
        columns = {name: x[:, len(FEATURES) + index] for index, name in enumerate(added)}
        own = [columns.get(name, np.zeros(len(x))) for name in self.added]
        return _LOG_ERROR.untransform(self._posterior.mean(np.column_stack([x[:, : len(FEATURES)], *own])))

    def shuffled(self, seed: int) -> TransferPrior:
        """A wrong prior: the same accuracies, permuted among the architectures.

        The trainings of one architecture stay together, so that it is as sure of itself as this one.
        """
        distinct, which = np.unique(self._x, axis=0, return_inverse=True)
        permuted = np.random.default_rng(seed).permutation(distinct)
        return TransferPrior(permuted[which.reshape(-1)], self._accuracies, self.added)


def _features(configs: Sequence[ArchitectureConfig]) -> np.ndarray:
    return np.array([architecture_features(config) for config in configs]).reshape(-1, len(FEATURES))


def _added(configs: Sequence[ArchitectureConfig]) -> np.ndarray:
    return np.array([added_features(config) for config in configs]).reshape(-1, len(ADDED_FEATURES))
