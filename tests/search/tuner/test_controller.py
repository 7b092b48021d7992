"""The controller without Ray: every event of a trial's life, with a real run directory and a real strategy."""

import math
from pathlib import Path

import optuna
import pytest

from mgnas.search.samplers.factory import make_sampler
from mgnas.search.storage.journal import Journal
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.strategy.pausing import PausingRule
from mgnas.search.strategy.strategy import Decision, Strategy
from mgnas.search.trial_record import ExpectedGain, TrialState
from mgnas.search.tuner.controller import FURTHER_TRIALS, TrialController
from mgnas.search.tuner.progress import SearchProgress

RUNNING, PAUSED, COMPLETE, FAILED = TrialState
ERROR_FILES = Path(__file__).parent / "error_files"
NOTHING = {"curve": [], "loss": None, "seconds": 0.0, "finished": False, "failure": None, "stop": None, "note": ""}


class PauseOnce(PausingRule):
    """Pauses each trial after its first epoch until no new candidate will come."""

    def pause(self, record, records):
        return None if record.decisions else "told to"

    def resume(self, records, last, spare):
        return next(((record, "at the end") for record in records if last and record.state is PAUSED), None)


@pytest.fixture
def run(small_search, tmp_path) -> RunDirectory:
    """A search of three trials with two epochs each."""
    return RunDirectory.create(small_search(resources={"time_limit": 1000.0}), tmp_path / "runs")


@pytest.fixture
def make_controller(run):
    def make(rule: PausingRule | None = None, limit: int = 2, elapsed: float = 0.0, entry: str | None = None):
        trials = run.config.search.trials
        strategy = Strategy(run.space, make_sampler("random", 0, run.space), trials, 0, run.load(), rule)
        progress = SearchProgress(trials, strategy.records, 1, elapsed)
        return TrialController(run, strategy, progress, entry, lambda: limit)

    return make


@pytest.fixture
def controller(make_controller) -> TrialController:
    return make_controller()


def epoch(*curve: float, **changes) -> dict:
    """The result of a worker after these epochs of two."""
    return (
        NOTHING
        | {"curve": list(curve), "loss": 1.0, "seconds": 3.0 * len(curve), "finished": len(curve) == 2}
        | changes
    )


def stored(run: RunDirectory) -> list[TrialState]:
    """The states of the trials, which another process would find in the study and in the journal alike."""
    other = RunDirectory(run.path)
    study, journal = other.load(), Journal(run.path / "journal.jsonl").read(run.space)
    other.close()
    assert [record.state for record in study] == [record.state for record in journal]
    return [record.state for record in study]


# --------------------------------------------------------------------------------------------------------- a trial ends


def test_a_trial_is_stored_before_its_worker_has_it(run, controller):
    handed = controller.ask("a")
    (record,) = controller.strategy.records
    assert stored(run) == [RUNNING]
    assert handed["task"].number == handed["trial"] == 0
    assert (handed["weights"], handed["seed"]) == (record.weights, record.seed)
    assert record.candidate.params.items() <= handed.items()


def test_the_task_has_all_that_a_worker_needs(run, make_controller):
    task = make_controller(entry="digits-1234").ask("a")["task"]
    (record,) = run.load()
    assert task.architecture == record.candidate.architecture
    assert (task.training, task.data, task.seed) == (record.candidate.training, run.config.data, record.seed)
    assert Path(task.checkpoint) == run.checkpoint(0)
    assert (task.entry, task.epochs_done, task.threads, task.gpus) == ("digits-1234", 0, 1, 0.0)


def test_every_epoch_is_stored_when_it_is_reported(run, controller):
    controller.ask("a")
    controller.started("a")
    assert controller.result("a", epoch(0.25)) is Decision.CONTINUE
    (record,) = RunDirectory(run.path).load()
    assert (record.state, record.curve) == (RUNNING, [0.25])


def test_a_finished_trial_is_complete_and_leaves_no_checkpoint(run, make_controller):
    controller, ended = make_controller(elapsed=500.0), []
    controller.on_end = ended.append
    controller.ask("a")
    run.checkpoint(0).write_bytes(b"progress")
    controller.result("a", epoch(0.25))
    assert controller.result("a", epoch(0.25, 0.5)) is Decision.STOP
    (record,) = run.load()
    assert (record.state, record.curve, record.seconds) == (COMPLETE, [0.25, 0.5], 6.0)
    assert ended == [record]
    assert stored(run) == [COMPLETE]
    assert not run.checkpoint(0).exists()
    # The clock counts the earlier sessions, too, and stands at the end of the trial.
    assert 500.0 <= record.finished == run.elapsed < 600.0


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (NOTHING | {"failure": "the loss became nan in epoch 1"}, "the loss became nan in epoch 1"),
        (epoch(0.25, math.nan), "the accuracy became nan in epoch 2"),
        (epoch(0.25) | {"finished": True}, "ended after 1 of 2 epochs"),
    ],
    ids=["failure", "nan", "too short"],
)
def test_a_failed_trial_ends_with_its_reason(run, controller, result, reason):
    controller.ask("a")
    assert controller.result("a", result) is Decision.STOP
    (record,) = run.load()
    assert (record.state, record.reason) == (FAILED, reason)
    assert stored(run) == [FAILED]
    assert controller.stopped is None


def test_what_happened_to_a_checkpoint_is_kept_with_the_trial(run, controller):
    controller.ask("a")
    controller.result("a", epoch(0.25, note="its checkpoint lost, epochs 1 to 1 repeated"))
    controller.result("a", epoch(0.25, 0.5))
    assert run.load()[0].decisions == ["epoch 1: its checkpoint lost, epochs 1 to 1 repeated"]


def test_a_trial_that_has_ended_is_changed_no_more(run, controller):
    controller.ask("a")
    controller.result("a", epoch(0.25, 0.5))
    before = run.load()
    assert controller.result("a", epoch(0.75, 1.0)) is Decision.STOP
    assert not controller.worker_lost("a", ERROR_FILES / "node_terminated.txt")
    controller.started("a")
    controller.given_up("a")
    assert run.load() == before


# -------------------------------------------------------------------------------------------------- which trial is next


def test_no_more_trials_are_handed_out_than_may_run(controller):
    assert controller.ask("a")
    assert controller.ask("b")
    assert controller.ask("c") is None
    assert not controller.finished
    controller.result("a", epoch(0.25, 0.5))
    assert controller.ask("c")
    assert controller.progress.workers == 2


def test_a_search_is_finished_when_all_its_trials_are_handed_out(run, controller):
    for key in "abc":
        assert not controller.finished
        controller.ask(key)
        controller.result(key, epoch(0.25, 0.5))
    assert controller.finished
    assert controller.ask("d") is None
    assert stored(run) == [COMPLETE] * 3


def test_a_paused_trial_keeps_its_checkpoint_and_goes_on_under_another_key(run, make_controller):
    controller, events = make_controller(PauseOnce()), []
    controller.on_end = lambda record: events.append((record.number, record.state))
    for number, key in enumerate("abc"):
        controller.ask(key)
        run.checkpoint(number).write_bytes(b"progress")
        assert controller.result(key, epoch(0.25)) is Decision.PAUSE
    assert stored(run) == [PAUSED] * 3
    assert all(run.checkpoint(number).exists() for number in range(3))
    task = controller.ask("d")["task"]
    assert (task.number, task.epochs_done) == (0, 1)
    assert stored(run) == [RUNNING, PAUSED, PAUSED]
    controller.result("d", epoch(0.25, 0.5))
    assert stored(run) == [COMPLETE, PAUSED, PAUSED]
    assert events == [(0, PAUSED), (1, PAUSED), (2, PAUSED), (0, COMPLETE)]
    assert run.load()[0].decisions == ["epoch 1: paused, told to", "epoch 1: resumed, at the end"]


def test_an_interrupted_trial_is_the_first_of_the_next_session(run, make_controller):
    first = make_controller()
    first.ask("a")
    first.ask("b")
    first.result("b", epoch(0.25))
    second = make_controller()
    tasks = [second.ask(key)["task"] for key in "ab"]
    assert [(task.number, task.epochs_done) for task in tasks] == [(0, 0), (1, 1)]
    assert stored(run) == [RUNNING, RUNNING]


# --------------------------------------------------------------------------------------------------------- lost workers


@pytest.mark.parametrize(
    ("name", "machine_lost", "reason"),
    [
        ("worker_killed", False, "the worker died: The actor died unexpectedly before finishing this task."),
        ("step", False, "the worker died: ValueError: a bug in the worker"),
        ("node_terminated", True, "the worker died: The actor died unexpectedly before finishing this task."),
    ],
)
def test_a_lost_worker_is_the_trials_reason_only_when_it_is_given_up(run, controller, name, machine_lost, reason):
    controller.ask("a")
    controller.started("a")
    assert controller.worker_lost("a", ERROR_FILES / f"{name}.txt") is machine_lost
    assert stored(run) == [RUNNING]
    controller.given_up("a")
    (record,) = run.load()
    assert (record.state, record.reason) == (FAILED, reason)


def test_a_trial_goes_on_after_its_worker_was_lost(run, controller):
    controller.ask("a")
    controller.result("a", epoch(0.25))
    controller.worker_lost("a", ERROR_FILES / "worker_killed.txt")
    controller.started("a")
    assert controller.result("a", epoch(0.25, 0.5)) is Decision.STOP
    (record,) = run.load()
    assert (record.state, record.reason) == (COMPLETE, "")


@pytest.mark.parametrize("comes_further", [False, True])
def test_a_trial_whose_worker_is_lost_at_the_handover_is_handed_out_once_more(run, controller, comes_further):
    """A worker that has ended another trial dies while it is given this one, for which Tune has no retry."""

    def lose(key: str) -> None:
        assert not controller.worker_lost(key, ERROR_FILES / "worker_killed.txt", at_handover=True)
        controller.given_up(key)

    controller.ask("a")
    lose("a")
    assert controller.ask("b")["trial"] == 0
    if comes_further:
        controller.result("b", epoch(0.25))
        lose("b")
        assert controller.ask("c")["trial"] == 0
        lose("c")
    else:
        lose("b")
    assert stored(run) == [FAILED]
    assert controller.ask("d")["trial"] == 1


def test_a_trial_may_be_handed_out_whenever_its_machine_is_lost_at_the_handover(run, controller):
    for key in "abc":
        assert controller.ask(key)["trial"] == 0
        assert controller.worker_lost(key, ERROR_FILES / "node_terminated.txt", at_handover=True)
        controller.given_up(key)
    assert stored(run) == [RUNNING]


def test_a_trial_without_an_error_file_is_given_up_all_the_same(run, controller):
    controller.ask("a")
    assert not controller.worker_lost("a", None)
    controller.given_up("a")
    assert run.load()[0].reason == "the worker died: no reason known"


def test_a_trial_over_its_time_limit_is_named_once_and_fails_for_it(run, controller):
    for key in "ab":
        controller.ask(key)
    assert list(controller.overdue()) == []
    # The 2000 s of the epochs that an earlier worker finished count; time without a worker does not.
    controller.result("a", epoch(0.25, seconds=2000.0))
    assert list(controller.overdue()) == []
    for key in "ab":
        controller.started(key)
    assert list(controller.overdue()) == ["a"]
    assert list(controller.overdue()) == []
    assert not controller.worker_lost("a", ERROR_FILES / "killed_by_time_limit.txt")
    controller.given_up("a")
    assert run.load()[0].reason == "over its time limit of 1000 s (1 of 2 epochs done)"
    assert stored(run) == [FAILED, RUNNING]


# ----------------------------------------------------------------------------------------------------- the search stops


def test_a_result_that_no_trial_could_have_stops_the_search_and_fails_none(run, controller):
    for key in "ab":
        controller.ask(key)
    assert controller.result("a", NOTHING | {"stop": "no disk, on node-1"}) is Decision.STOP
    assert controller.stopped == "no disk, on node-1"
    assert controller.finished
    assert controller.ask("c") is None
    # What is reported afterwards is left to the next session.
    assert controller.result("b", epoch(0.25, 0.5)) is Decision.STOP
    controller.given_up("a")
    assert stored(run) == [RUNNING, RUNNING]


def test_the_first_reason_to_stop_stays(controller):
    controller.stop("first")
    controller.stop("second")
    assert controller.stopped == "first"


@pytest.mark.parametrize("event", ["ask", "result", "given_up"])
def test_what_cannot_be_stored_stops_the_search(run, controller, event):
    controller.ask("a")
    (run.path / "study.db").unlink()
    if event == "ask":
        assert controller.ask("b") is None
    elif event == "result":
        assert controller.result("a", epoch(0.25)) is Decision.STOP
    else:
        controller.given_up("a")
    expected = f"{run.path / 'study.db'}: is no longer there; has the run directory been moved or deleted?"
    assert controller.stopped == expected
    assert controller.finished


# -------------------------------------------------------------------------------------------- the queue of the study


def test_an_enqueued_trial_of_another_program_runs_next_and_useless_ones_are_taken_out(run, controller, caplog):
    study = optuna.load_study(study_name="mgnas", storage=f"sqlite:///{run.path / 'study.db'}")
    study.enqueue_trial({"smoothing_steps": 9, "sharing": "A"})
    study.enqueue_trial({"smoothing_steps": 2, "sharing": "A"})
    study.enqueue_trial({"smoothing_steps": 2, "sharing": "A"})
    task = controller.ask("one")
    assert (task["smoothing_steps"], task["sharing"], task["trial"]) == (2, "A", 0)
    assert "enqueued trial 0 is ignored: smoothing_steps: expected one of 1, 2, got 9" in caplog.text
    assert controller.ask("two")["trial"] == 1
    assert "enqueued trial 2 is ignored: is the network of trial 0 already" in caplog.text
    outcomes = [trial.user_attrs.get("mgnas", "").partition(":")[0] for trial in study.get_trials()]
    assert outcomes == ["ignored", "runs as trial 0", "ignored", "", ""]
    assert stored(run) == [RUNNING, RUNNING]
    for key in ("one", "two"):
        controller.result(key, epoch(0.1, 0.2))
    assert stored(run) == [COMPLETE, COMPLETE]


def test_a_trial_enqueued_while_the_search_runs_is_next(run, controller):
    controller.ask("one")
    controller.result("one", epoch(0.1, 0.2))
    run.queue.add({"sharing": "AB"})
    assert controller.ask("two")["sharing"] == "AB"


def test_what_no_longer_fits_into_the_search_stays_enqueued(run, make_controller):
    controller = make_controller(limit=9)
    for key in "abc":
        controller.ask(key)
        controller.result(key, epoch(0.1, 0.2))
    run.queue.add({"sharing": "AB"})
    assert controller.ask("d") is None
    assert len(run.queue.waiting()) == 1


# -------------------------------------------------------------------------------------------------------- the display


@pytest.mark.parametrize(
    ("error", "closed"), [(BrokenPipeError(32, "Broken pipe"), True), (OSError(28, "No space left on device"), False)]
)
def test_an_output_that_cannot_be_written_stops_the_search_and_loses_nothing(run, controller, error, closed):
    def fail(record):
        raise error

    controller.on_end = fail
    controller.ask("one")
    controller.result("one", epoch(0.1, 0.2))
    assert controller.stopped == f"the output cannot be written ({error.strerror})"
    assert controller.pipe_closed is closed
    assert controller.ask("two") is None
    assert stored(run) == [COMPLETE]


def test_what_further_trials_would_bring_is_stored_with_the_trial_and_takes_little_time(run, make_controller):
    controller = make_controller()
    controller.strategy.expected_gain = lambda trials: ExpectedGain(trials, 0.008)
    controller.ask("a")
    controller.ask("b")
    for curve in ((0.5,), (0.5, 0.6)):
        controller.result("a", epoch(*curve))
    assert run.load()[0].gain == ExpectedGain(FURTHER_TRIALS, 0.008)
    controller._gain_seconds = 1e9
    for curve in ((0.5,), (0.5, 0.6)):
        controller.result("b", epoch(*curve))
    assert run.load()[1].gain is None
