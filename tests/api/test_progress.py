"""The lines that a search and full trainings print."""

from mgnas.progress import PlainDisplay, RetrainingLines
from mgnas.reports.analysis.pareto import pareto_front
from mgnas.reports.deploy.retraining import Outcome, Unfinished
from mgnas.reports.deploy.training_progress import TrainingProgress
from mgnas.search.trial_record import ExpectedGain, TrialState


class Progress:
    """Of the run with known trials, after all of them."""

    def __init__(self, run) -> None:
        self.records, self.n_trials, self.seconds_left = run.load(), 8, 75.0

    def count(self, state: TrialState) -> int:
        return sum(record.state is state for record in self.records)


def test_each_trial_is_a_line(run, capsys):
    progress = Progress(run)
    records = progress.records
    paused = records[6]
    paused.state, paused.decisions = TrialState.PAUSED, ["epoch 1: paused, 0.91 is not expected"]
    with PlainDisplay(progress) as display:
        for number in (1, 2, 5, 6):
            display.event(records[number])
        progress.seconds_left = None
        display.event(records[5])
    network = "MgNet [{}], nu=2, sharing AB, depthwise transfers"
    assert capsys.readouterr().out.splitlines() == [
        f"[6/8, about 1:15 left] trial 1:  88.00 %  {records[1].weights:>9,} weights  {network.format(12)}",
        f"[6/8, about 1:15 left] trial 2:  90.00 %* {records[2].weights:>9,} weights  {network.format(8)}",
        f"[6/8, about 1:15 left] trial 5: failed: <b>& loss became nan  {network.format(24)}",
        f"[6/8, about 1:15 left] trial 6: paused at 1, 0.91 is not expected;  {network.format(28)}",
        f"[6/8] trial 5: failed: <b>& loss became nan  {network.format(24)}",
    ]


def test_a_line_says_what_more_trials_are_expected_to_bring(run, capsys):
    progress = Progress(run)
    progress.records[1].gain = ExpectedGain(20, 0.0083)
    PlainDisplay(progress).event(progress.records[1])
    assert capsys.readouterr().out.endswith("; 20 more trials: about +0.83 % expected\n")


def test_each_full_training_is_a_line(run, capsys):
    trial = pareto_front(run.load())[0]
    lines = RetrainingLines(1, 3)
    lines.show(Outcome(trial, 0, 0.915, finished_before=True))
    lines.show(Outcome(trial, 1, 0.925))
    lines.show(Outcome(trial, 2, None, "the loss diverged"))
    network = trial.architecture.describe()
    assert capsys.readouterr().out.splitlines() == [
        "1 network, 3 seeds each",
        f"[1/3] trial 0, seed 0: 91.50 % (finished before)  {network}",
        f"[2/3] trial 0, seed 1: 92.50 %  {network}",
        f"[3/3] trial 0, seed 2: failed: the loss diverged  {network}",
    ]
    assert (lines.total, len(lines.outcomes)) == (3, 3)


def test_long_trainings_say_how_far_they_are_and_short_ones_do_not(capsys):
    def shown(seed, seconds_an_epoch, epochs=30):
        lines = RetrainingLines(1, 1)
        capsys.readouterr()
        for epoch in range(1, epochs + 1):
            progress = TrainingProgress(epoch=epoch, epochs=epochs, seconds=seconds_an_epoch * epoch)
            lines.show_progress(Unfinished(3, seed, progress))
        return capsys.readouterr().out.splitlines()

    assert shown(0, 1.9) == []
    hours = shown(1, 120)
    assert hours[:2] == [
        "trial 3, seed 1: epoch 1/30, about 58:00 left",
        "trial 3, seed 1: epoch 3/30, about 54:00 left",
    ]
    assert [line.split()[5] for line in hours] == ["1/30,", *(f"{epoch}/30," for epoch in range(3, 31, 3))]
    minutes = shown(2, 10)
    assert [line.split()[5] for line in minutes] == [f"{epoch}/30," for epoch in (6, 12, 18, 24, 30)]
