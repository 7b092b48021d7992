import pytest

from mgnas.errors import UserError
from mgnas.reports.deploy.classifier import Classifier
from mgnas.reports.deploy.export import as_safetensors
from mgnas.reports.deploy.latency.meter import LatencyMeter, _spread_out
from mgnas.search.trial_record import completed_trials


def test_latencies_are_remembered_for_this_machine_only(run, tmp_path):
    file = tmp_path / "latency.json"
    candidate = run.load()[0].candidate
    first = LatencyMeter(file).latencies(candidate)
    assert first[1] > 0
    assert LatencyMeter(file).latencies(candidate) == first
    file.write_text(file.read_text().replace("thread", "thumb").replace(str(first[1]), "1e9"))
    assert LatencyMeter(file).latencies(candidate)[1] < 1e9
    file.write_text("[]")
    with pytest.raises(UserError, match=r"latency\.json: is damaged; delete it"):
        LatencyMeter(file)


@pytest.mark.parametrize("times", ["[1]", "[1, 2, 3]", '"ab"', "5", "null", "[1, NaN]", "[-1, 2]", "[1, Infinity]"])
def test_remembered_latencies_that_are_none_are_one_line(tmp_path, refusal, times):
    file = tmp_path / "latency.json"
    file.write_text(f'{{"machine": "", "milliseconds": {{"some network": {times}}}}}')
    assert refusal(lambda: LatencyMeter(file)).startswith(f"{file}: is damaged; delete it")


def test_the_ends_are_measured_first_and_then_the_middle_of_the_largest_gap():
    assert _spread_out(9) == [0, 8, 4, 2, 6, 1, 3, 5, 7]
    assert (_spread_out(0), _spread_out(1), _spread_out(2)) == ([], [0], [0, 1])


def test_without_time_only_remembered_latencies_are_given(run):
    trials = completed_trials(run.load())[:2]
    meter = LatencyMeter()
    assert meter.measured(trials, seconds=0) == {}
    latencies = {trials[1].number: meter.latencies(trials[1].candidate)}
    assert meter.measured(trials, seconds=0) == latencies
    assert set(meter.measured(trials, seconds=60)) == {trial.number for trial in trials}


def test_size_is_that_of_the_export(run):
    candidate = run.load()[2].candidate
    exact = len(as_safetensors(Classifier(candidate.architecture, [0.5], [0.25], image_size=8)))
    assert LatencyMeter().size(candidate) == exact
    assert exact > 4 * candidate.weights
