import pytest

from mgnas.models.errors import UserError
from mgnas.reports.select import height_above_chord, select


def label(record):
    return record.candidate.values["base_channels"]


def weights_of(run, wanted):
    return next(record.weights for record in run.load() if label(record) == wanted)


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [("accuracy", "32"), ("weights", "4"), ("knee", "8")],
)
def test_each_preference(run, prefer, expected):
    # The knee by hand: 8 channels have 0.10 of the front's 0.16 at 0.34 of its log weights: 0.29 above the chord.
    # 16 channels have 0.15 of it at 0.66: 0.27.
    assert label(select(run.load(), prefer=prefer)) == expected


def test_limits_are_kept(run):
    assert label(select(run.load(), max_weights=weights_of(run, "16") - 1, prefer="accuracy")) == "8"
    assert label(select(run.load(), max_weights=weights_of(run, "16"), prefer="accuracy")) == "16"
    assert label(select(run.load(), min_accuracy=0.951, prefer="weights")) == "32"
    assert label(select(run.load(), min_accuracy=0.95, prefer="weights")) == "16"


def test_knee_is_measured_on_the_whole_front(run):
    records = run.load()
    assert label(select(records, max_weights=weights_of(run, "8"), prefer="knee")) == "8"


def test_ends_of_the_front_lie_on_the_chord(run):
    front = sorted((r for r in run.load() if r.accuracy and label(r) != "12"), key=lambda record: record.weights)
    assert height_above_chord(front[0], front) == pytest.approx(0)
    assert height_above_chord(front[-1], front) == pytest.approx(0)
    assert height_above_chord(front[0], front[:1]) == 0


def test_impossible_limits_say_what_there_is(run):
    records = run.load()
    with pytest.raises(UserError, match=f"at most 10 weights; the smallest of the 4 .* has {weights_of(run, '4')}"):
        select(records, max_weights=10)
    with pytest.raises(UserError, match=r"--min-accuracy: no network reaches 0.97; the best has 0.9600"):
        select(records, min_accuracy=0.97)
    with pytest.raises(UserError, match=r"the best within .* weights has 0.9000"):
        select(records, max_weights=weights_of(run, "8"), min_accuracy=0.95)


def test_nothing_complete_yet(run):
    unfinished = [record for record in run.load() if record.accuracy is None]
    with pytest.raises(UserError, match="no trial of this run is complete"):
        select(unfinished)
