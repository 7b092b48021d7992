"""What the strategy and a sampler that models the accuracy tell each other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from optuna.samplers import BaseSampler
from optuna.study import Study

from ..trial_record import GaussianPrediction


class ModelBasedSampler(BaseSampler):
    """An Optuna sampler that models the accuracy of what it proposes.

    Before an ask it can be told what is predicted of unfinished trials; after the ask it says what it expected of its
    proposal. Both are optional for the caller: without them it works as any other sampler does.
    """

    @abstractmethod
    def set_predictions(self, study: Study, predictions: Mapping[int, GaussianPrediction]) -> None:
        """Take these predictions of the final accuracies of unfinished trials, in place of those set before.

        Args:
            study: the study that is about to be asked.
            predictions: the trial's number in that study -> mean and standard deviation, on the scale of the first
                objective. A trial that has ended counts with its result, or not at all if it has failed.
        """

    @abstractmethod
    def expectation(self, study: Study, number: int) -> GaussianPrediction | None:
        """The final accuracy that the model expected when it proposed a trial, noise between seeds included.

        Args:
            study: the study that was asked.
            number: the trial's number in that study.

        Returns:
            Mean and standard deviation on the scale of LogErrorTransform; None if the model had no part in the
            proposal, or works on another scale.
        """

    def expected_gain(self, study: Study, trials: int) -> float | None:
        """What further trials are expected to add to the hypervolume that the trials so far will have reached.

        Args:
            study: the study that was asked.
            trials: number of further trials, beyond those that are running.

        Returns:
            a share of the hypervolume; None if the model cannot tell, or cannot tell yet.
        """
        return None
