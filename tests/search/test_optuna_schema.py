"""What mgnas writes into Optuna studies."""

from optuna.study import StudyDirection

from mgnas.search.optuna_schema import DIRECTIONS, EXPECTED, OPTUNA_STATE
from mgnas.search.trial_record import TrialState


def test_every_state_has_its_own_name_in_optuna():
    assert set(OPTUNA_STATE) == set(TrialState)
    assert len(set(OPTUNA_STATE.values())) == len(TrialState)


def test_optuna_knows_the_directions():
    assert [StudyDirection[name.upper()] for name in DIRECTIONS] == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]


def test_the_key_of_version_0_1_0_stays():
    """Studies on disk have it."""
    assert EXPECTED == "mgnas:belief"
