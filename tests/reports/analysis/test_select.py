import pytest

from mgnas.errors import UserError
from mgnas.reports.analysis.constraints import Constraints
from mgnas.reports.analysis.select import by_preference, exchange, height_above_chord, select
from mgnas.reports.deploy.latency.meter import LatencyMeter
from mgnas.search.trial_record import completed_trials


def label(record):
    return record.candidate.params["base_channels"]


def weights_of(run, wanted):
    return next(record.weights for record in run.load() if label(record) == wanted)


def chosen(run, prefer="knee", meter=None, **limits):
    return label(select(run.load(), Constraints(**limits), prefer, meter).record)


class TableMeter(LatencyMeter):
    """Latencies and sizes out of a table: batch 1, batch 32, bytes by base channels."""

    def __init__(self, table):
        super().__init__()
        self.table, self.asked = table, []

    def latencies(self, candidate):
        self.asked.append(candidate.params["base_channels"])
        return dict(zip((1, 32), self.table[candidate.params["base_channels"]], strict=True))


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [("accuracy", "32"), ("weights", "4"), ("knee", "8")],
)
def test_each_preference(run, prefer, expected):
    # The knee by hand: 8 channels have 0.10 of the front's 0.16 at 0.34 of its log weights: 0.29 above the chord.
    # 16 channels have 0.15 of it at 0.66: 0.27.
    choice = select(run.load(), prefer=prefer)
    assert label(choice.record) == expected
    assert choice.why.startswith(prefer)
    assert "of the 5 trials that keep the limits" in choice.why


def test_limits_are_kept(run):
    assert chosen(run, "accuracy", max_weights=weights_of(run, "16") - 1) == "8"
    assert chosen(run, "accuracy", max_weights=weights_of(run, "16")) == "16"
    assert chosen(run, "weights", min_accuracy=0.951) == "32"
    assert chosen(run, "weights", min_accuracy=0.95) == "16"


def test_knee_is_measured_on_the_whole_front(run):
    assert chosen(run, "knee", max_weights=weights_of(run, "8")) == "8"


def test_a_front_of_two_has_no_knee(run):
    why = select(run.load()[:2]).why
    assert why == "knee: of the 2 trials that keep the limits, the lightest on the front, which is too short for a knee"


def test_macs_leave_a_front_of_their_own(run):
    macs = {label(record): record.candidate.macs for record in run.load()}
    assert chosen(run, "accuracy", max_macs=macs["12"]) == "8"
    assert chosen(run, "accuracy", max_macs=macs["8"] - 1) == "4"
    with pytest.raises(UserError, match=rf"--max-macs: no network has at most 10 MACs; the least is {macs['4']:,}"):
        chosen(run, max_macs=10)


def test_memory_leaves_a_front_of_its_own(run):
    # The second level's step of 2 c channels holds at most 4 tensors.
    memory = {label(record): record.candidate.activation_memory() for record in run.load()}
    assert chosen(run, "accuracy", max_memory=memory["12"]) == "8"
    assert chosen(run, "accuracy", max_memory_int8=memory["12"] // 4) == "8"
    assert chosen(run, "accuracy", max_memory=memory["8"] - 1) == "4"
    message = r"^--max-memory-int8: no network needs at most 10 bytes for its activations; the least of .* is 768$"
    with pytest.raises(UserError, match=message):
        chosen(run, max_memory_int8=10)


def test_neighbours_are_what_the_limits_leave(run):
    choice = select(run.load(), Constraints(max_weights=weights_of(run, "16")))
    assert [label(record) for record in choice.front] == ["4", "8", "16"]
    (lighter, less), (heavier, more) = choice.neighbours()
    assert (label(lighter), label(heavier)) == ("4", "16")
    w4, w8, w16 = (weights_of(run, name) for name in ("4", "8", "16"))
    assert less == f"{w4 - w8:+,} weights ({100 * (w4 - w8) / w8:+.0f} %), -10.00 points of accuracy"
    assert more.startswith(f"+{w16 - w8:,} weights")
    assert more.endswith("+5.00 points of accuracy")
    assert exchange(choice.record, choice.record) == "+0 weights (+0 %), +0.00 points of accuracy"


def test_measured_limits(run):
    # 8 channels are slow one by one, 32 channels are slow in batches; a dominated network may take their place.
    table = {"4": (1.0, 10.0), "8": (5.0, 20.0), "12": (2.0, 20.0), "16": (3.0, 40.0), "32": (4.0, 200.0)}
    assert chosen(run, "knee", TableMeter(table), max_latency=4.5) == "16"
    assert chosen(run, "accuracy", TableMeter(table), max_latency_32=100.0) == "16"
    assert chosen(run, "accuracy", TableMeter(table), max_latency=2.5) == "12"
    choice = select(run.load(), Constraints(max_latency=2.5), "accuracy", TableMeter(table))
    assert [label(record) for record in choice.front] == ["4", "12"]
    with pytest.raises(UserError, match=r"--max-latency: no network keeps 0.5 ms; the least of those .* is 1$"):
        chosen(run, "knee", TableMeter(table), max_latency=0.5)
    with pytest.raises(UserError, match=r"--max-latency-32: no network keeps 15 ms; .* is 20$"):
        chosen(run, "knee", TableMeter({**table, "4": (9.0, 1.0)}), max_latency=2.5, max_latency_32=15.0)


def test_only_what_may_be_chosen_is_measured(run):
    meter = TableMeter({"16": (1.0, 1.0), "32": (9.0, 9.0)})
    assert chosen(run, "accuracy", meter, max_latency=5.0, min_accuracy=0.95) == "16"
    assert set(meter.asked) == {"16", "32"}


def test_impossible_limits_say_what_there_is(run):
    with pytest.raises(UserError, match=f"at most 10 weights; the smallest of the 4 .* has {weights_of(run, '4')}"):
        chosen(run, max_weights=10)
    with pytest.raises(UserError, match=r"--min-accuracy: no network reaches 0.97; the best has 0.9600"):
        chosen(run, min_accuracy=0.97)
    with pytest.raises(UserError, match=r"the best within .* weights has 0.9000"):
        chosen(run, max_weights=weights_of(run, "8"), min_accuracy=0.95)


def test_size_is_limited_by_the_exported_file(run):
    size = LatencyMeter().size(run.load()[2].candidate)  # Of 8 channels.
    assert chosen(run, "accuracy", max_size=size) == "8"
    assert chosen(run, "accuracy", max_size=size - 1) == "4"


def test_expected_takes_luck_off(lucky_records):
    limit = Constraints(max_weights=lucky_records[14].weights)
    assert select(lucky_records, limit, "accuracy").record.number == 12
    choice = select(lucky_records, limit, "expected")
    assert choice.record.number == 14
    assert choice.expected[12].accuracy < choice.expected[14].accuracy
    assert "expected of another training" in choice.why


def test_expected_needs_trials_to_learn_from(run):
    with pytest.raises(UserError, match="learned from at least 8 complete trials; this run has 5"):
        chosen(run, "expected")


def test_of_equally_preferred_trials_the_lighter_comes_first(run):
    trials = completed_trials(run.load())
    front = [trial for trial in trials if label(trial) != "12"]
    front.sort(key=lambda trial: trial.weights)
    orders = {prefer: by_preference(trials, front, prefer, {}) for prefer in ("accuracy", "weights", "knee")}
    assert [label(trial) for trial in orders["accuracy"]] == ["32", "16", "8", "12", "4"]
    assert [label(trial) for trial in orders["weights"]] == ["4", "8", "12", "16", "32"]
    # Both ends lie on the chord, at height 0: the lighter one first. 12 channels have 0.5 at 0.53 of its log weights.
    assert [label(trial) for trial in orders["knee"]] == ["8", "16", "4", "32", "12"]


def test_ends_of_the_front_lie_on_the_chord(run):
    front = [trial for trial in completed_trials(run.load()) if label(trial) != "12"]
    front.sort(key=lambda trial: trial.weights)
    assert height_above_chord(front[0], front) == pytest.approx(0)
    assert height_above_chord(front[-1], front) == pytest.approx(0)
    assert height_above_chord(front[0], front[:1]) == 0


def test_nothing_complete_yet(run):
    unfinished = [record for record in run.load() if record.completed is None]
    with pytest.raises(UserError, match="no trial of this run is complete"):
        select(unfinished)
