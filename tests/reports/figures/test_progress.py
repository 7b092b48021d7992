import pytest

from mgnas.reports.analysis.pareto import hypervolume
from mgnas.reports.analysis.run_data import load_run_data
from mgnas.reports.figures.progress import curves_figure, growth, hypervolume_figure


def test_growth_counts_epochs_of_all_that_ended(run):
    data = load_run_data(run, 0)
    epochs, hours, volumes = growth(data, 10**6)
    # Five complete trials of 3 epochs, 10 s apart; the failed one has no epoch, the running one has not ended.
    assert epochs.tolist() == [3, 6, 9, 12, 15]
    assert hours.tolist() == pytest.approx([0, 10 / 3600, 20 / 3600, 30 / 3600, 40 / 3600])
    assert volumes[-1] == pytest.approx(hypervolume(data.finished, 10**6))


def test_a_trial_of_an_early_version_has_no_place_in_the_growth(run):
    data = load_run_data(run, 0)
    data.records[3].finished = None
    assert [len(part) for part in growth(data, 10**6)] == [4, 4, 4]


def test_three_runs_have_a_median_and_a_band(run):
    data = load_run_data(run, 0)
    labels = [[text.get_label() for text in hypervolume_figure([data] * n, 10**6).axes[0].lines] for n in (2, 3)]
    assert ["median" in found for found in labels] == [False, True]


def test_curves_show_errors_of_the_front_in_colour_and_all_others_faint(run):
    data = load_run_data(run, 0)
    axes = curves_figure(data).axes[0]
    # Curves of 3 epochs that rise to the final accuracy.
    errors = [line.get_ydata()[-1] for line in axes.lines]
    assert errors == pytest.approx([20, 10, 5, 4])
    # Trial 1 is dominated, trial 6 is still running; trial 5 failed before its first epoch.
    assert len(axes.collections[0].get_segments()) == 2
