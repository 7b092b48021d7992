from dataclasses import replace

import pytest

from mgnas.reports.analysis.run_data import load_run_data
from mgnas.reports.analysis.summary import compute_cost, ever_paused, failed, states_in_words, training_images
from mgnas.search.data.dataset import DataSettings
from mgnas.search.trial_record import TrialState


def test_cost_in_device_hours_and_images(run):
    cost = compute_cost(load_run_data(run, 0))
    assert cost.epochs == 5 * 3 + 1
    assert cost.wasted_epochs == 0
    assert (cost.device, cost.device_hours) == ("CPU core", pytest.approx(5 / 3600))
    # 1,437 digits less a fifth, 15 timed epochs in 5 s.
    assert cost.images_per_second == pytest.approx(15 * (1437 - 287) / 5)


def test_cost_on_a_shared_gpu(run):
    data = load_run_data(run, 0)
    resources = replace(data.config.resources, gpus_per_trial=0.25, cpus_per_trial=3)
    cost = compute_cost(replace(data, config=replace(data.config, resources=resources)))
    assert (cost.device, cost.device_hours) == ("GPU", pytest.approx(0.25 * 5 / 3600))


def test_epochs_of_failed_and_paused_trials_are_wasted(run):
    data = load_run_data(run, 0)
    data.records[0].state, data.records[1].state = TrialState.PAUSED, TrialState.FAILED
    assert compute_cost(data).wasted_epochs == 2 * 3


@pytest.mark.parametrize(("name", "expected"), [("digits", 1150), ("cifar10", 40_000)])
def test_training_images_need_no_download(name, expected):
    assert training_images(DataSettings(name=name)) == expected
    assert training_images(DataSettings(name=name, train_images=1000)) == 800


def test_images_that_are_gone_are_not_counted(tmp_path):
    assert training_images(DataSettings(name="npz", path=str(tmp_path / "gone.npz"))) is None


def test_states_of_the_trials(run):
    records = run.load()
    assert states_in_words(records) == "7 trials, 5 complete, 1 failed, 1 running"
    assert [record.number for record in failed(records)] == [5]
    assert ever_paused(records) == []
    records[0].decisions.append("epoch 1: paused")
    assert ever_paused(records) == [records[0]]
