"""Replays on small tables whose trainings are known: what is spent, in which order, and that nothing comes twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_table import EPOCHS, META, NETWORKS, strategy, trained

from mgnas.search.history.table import TabularBenchmark
from mgnas.search.simulation.simulator import simulate
from mgnas.search.strategy.pausing import PausingRule
from mgnas.search.strategy.strategy import Decision
from mgnas.search.trial_record import TrialRecord, TrialState


@st.composite
def tables(draw) -> TabularBenchmark:
    """2 to 10 architectures with accuracies in steps of 5 %, some trained twice or three times."""
    networks = draw(st.lists(st.sampled_from(range(len(NETWORKS))), min_size=2, max_size=10, unique=True))
    accuracies = st.integers(2, 20).map(lambda twentieths: twentieths / 20)
    rows = []
    for network in networks:
        finals = draw(st.lists(accuracies, min_size=1, max_size=3))
        seconds = draw(st.sampled_from([0.5, 3.0, 7.0]))
        rows += [trained(network, accuracy, seed, seconds) for seed, accuracy in enumerate(finals)]
    return TabularBenchmark(META, tuple(rows))


class InTurn:
    """A search that hands out these architectures one after the other; decisions by (number, epoch) when they are not
    to go on."""

    def __init__(self, table: TabularBenchmark, networks: list[int], decisions: dict | None = None) -> None:
        candidates = {candidate.id: candidate for candidate in table.space().enumerate()}
        self.waiting = [
            TrialRecord(number, candidates[NETWORKS[network].id], seed=0) for number, network in enumerate(networks)
        ]
        self.records = list(self.waiting)
        self.decisions = decisions or {}
        self.calls = []

    def ask(self) -> TrialRecord | None:
        return self.waiting.pop(0) if self.waiting else None

    def report(self, number, curve, seconds=0.0) -> Decision:
        self.calls.append((number, len(curve), round(seconds, 9)))
        self.records[number].curve = list(curve)
        decision = self.decisions.get((number, len(curve)), Decision.CONTINUE)
        if decision is Decision.PAUSE:
            self.waiting.append(self.records[number])
        return decision

    def complete(self, number: int) -> None:
        self.calls.append((number, "complete"))
        self.records[number].state = TrialState.COMPLETE


# ------------------------------------------------------------------------------------------------------ time and epochs


def test_one_worker_trains_one_after_the_other():
    table = TabularBenchmark(META, (trained(0, 0.3, seconds=3.0), trained(4, 0.6, seconds=6.0)))
    search = InTurn(table, [0, 4])
    replay = simulate(table, search)
    expected = [(0, 1, 1.0), (0, 2, 2.0), (0, 3, 3.0), (0, "complete"), (1, 1, 2.0), (1, 2, 4.0), (1, 3, 6.0)]
    assert search.calls == [*expected, (1, "complete")]
    assert search.records[1].curve == pytest.approx([0.2, 0.4, 0.6])
    ends = [(done.seconds, done.epochs, done.number, done.architecture) for done in replay.completions]
    assert ends == [(3.0, 3, 0, NETWORKS[0].id), (9.0, 6, 1, NETWORKS[4].id)]
    assert (replay.epochs, replay.seconds, replay.trials, replay.pauses, replay.paused) == (6, 9.0, 2, 0, 0)


def test_two_workers_report_in_the_order_of_time():
    """Epochs take 1, 2 and 1 seconds; the third trial starts when the first ends, at 3."""
    table = TabularBenchmark(
        META, (trained(0, 0.3, seconds=3.0), trained(4, 0.6, seconds=6.0), trained(8, 0.6, seconds=3.0))
    )
    search = InTurn(table, [0, 4, 8])
    replay = simulate(table, search, workers=2)
    # At 2, 4 and 6 two epochs end at once: the one that began first is first.
    order = [call[:2] for call in search.calls if call[1] != "complete"]
    assert order == [(0, 1), (1, 1), (0, 2), (0, 3), (1, 2), (2, 1), (2, 2), (1, 3), (2, 3)]
    assert [(done.number, done.seconds, done.epochs) for done in replay.completions] == [
        (0, 3.0, 4),
        (1, 6.0, 8),
        (2, 6.0, 9),
    ]
    assert replay.seconds == 6.0


def test_a_budget_cuts_the_search_off():
    table = TabularBenchmark(META, (trained(0, 0.3), trained(4, 0.6)))
    replay = simulate(table, InTurn(table, [0, 4]), until=5)
    assert (replay.epochs, replay.trials, len(replay.completions)) == (5, 2, 1)
    assert replay.seconds == 5.0


def test_a_paused_trial_leaves_its_worker_and_goes_on_after_its_curve():
    table = TabularBenchmark(META, (trained(0, 0.3), trained(4, 0.6)))
    search = InTurn(table, [0, 4], {(0, 2): Decision.PAUSE})
    replay = simulate(table, search)
    assert [call[:2] for call in search.calls] == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
        (1, 3),
        (1, "complete"),
        (0, 3),
        (0, "complete"),
    ]
    assert (replay.epochs, replay.trials, replay.pauses, replay.paused) == (6, 2, 1, 0)


def test_a_trial_that_stays_paused_is_counted():
    table = TabularBenchmark(META, (trained(0, 0.3), trained(4, 0.6)))

    class Forgetful(InTurn):
        def report(self, number, curve, seconds=0.0) -> Decision:
            decision = super().report(number, curve, seconds)
            self.waiting = [record for record in self.waiting if not record.curve]
            return decision

    replay = simulate(table, Forgetful(table, [0, 4], {(0, 2): Decision.PAUSE}))
    assert (replay.epochs, replay.trials, replay.pauses, replay.paused) == (5, 2, 1, 1)
    assert [done.number for done in replay.completions] == [1]


def test_a_stopped_trial_never_completes():
    table = TabularBenchmark(META, (trained(0, 0.3), trained(4, 0.6)))
    replay = simulate(table, InTurn(table, [0, 4], {(0, 1): Decision.STOP, (1, 3): Decision.STOP}))
    assert (replay.epochs, replay.completions) == (4, ())


def test_a_worker_with_nothing_to_do_asks_again():
    """The second trial comes only after the first has completed, although two workers are free."""
    table = TabularBenchmark(META, (trained(0, 0.3), trained(4, 0.6)))

    class Hesitant(InTurn):
        def ask(self) -> TrialRecord | None:
            ready = all(record.state is TrialState.COMPLETE for record in self.records[: 2 - len(self.waiting)])
            return super().ask() if ready else None

    replay = simulate(table, Hesitant(table, [0, 4]), workers=2)
    assert [(done.number, done.seconds) for done in replay.completions] == [(0, 3.0), (1, 6.0)]


# ---------------------------------------------------------------------------------------------------- which training


def test_the_same_architecture_again_is_shown_its_next_training():
    table = TabularBenchmark(META, tuple(trained(0, accuracy, seed) for seed, accuracy in enumerate([0.3, 0.6, 0.9])))
    shown = {}
    for seed in range(8):
        search = InTurn(table, [0, 0, 0, 0])
        simulate(table, search, seed=seed)
        shown[seed] = [record.curve[-1] for record in search.records]
        assert sorted(shown[seed][:3]) == [0.3, 0.6, 0.9]
        assert shown[seed][3] == shown[seed][0]
    assert len(set(map(tuple, shown.values()))) > 3


def test_one_seed_shows_the_same_trainings_whatever_the_order():
    table = TabularBenchmark(META, tuple(trained(n, a, seed) for n in (0, 4) for seed, a in enumerate([0.3, 0.6, 0.9])))
    first, second = InTurn(table, [0, 4]), InTurn(table, [4, 0])
    simulate(table, first, seed=3)
    simulate(table, second, seed=3)
    assert first.records[0].curve == second.records[1].curve
    assert first.records[1].curve == second.records[0].curve


# ----------------------------------------------------------------------------------------- searches of the product


@settings(max_examples=40)
@given(tables(), st.integers(1, 5), st.integers(0, 3), st.sampled_from(["random", "tpe", "nsga2"]))
def test_a_search_without_a_budget_trains_the_table_once(table, workers, seed, sampler):
    one = simulate(table, strategy(table, sampler, seed), 1, seed)
    many = simulate(table, strategy(table, sampler, seed), workers, seed)
    for replay in (one, many):
        assert sorted(done.architecture for done in replay.completions) == sorted(table.by_id)
        assert replay.epochs == EPOCHS * len(table.by_id)
        assert [done.epochs for done in replay.completions][-1] == replay.epochs
        assert replay.trials == len(table.by_id)
    assert many.seconds <= one.seconds + 1e-9
    assert many.seconds >= one.seconds / workers - 1e-9


class Impatient(PausingRule):
    """Pauses after the first epoch every trial of an odd number, and resumes them at the end or never."""

    def __init__(self, forgiving: bool) -> None:
        self.forgiving = forgiving

    def pause(self, record, records):
        return "odd" if record.number % 2 and len(record.curve) == 1 else None

    def resume(self, records, last, spare):
        paused = [record for record in records if record.state is TrialState.PAUSED]
        return (paused[0], "at last") if paused and last and self.forgiving else None


@settings(max_examples=40)
@given(tables(), st.integers(1, 5), st.booleans(), st.integers(1, 30))
def test_epochs_add_up_with_pauses_and_budgets(table, workers, forgiving, budget):
    search = strategy(table, pausing_rule=Impatient(forgiving))
    replay = simulate(table, search, workers, until=budget)
    assert replay.epochs == sum(len(record.curve) for record in search.records)
    assert replay.epochs <= budget
    assert replay.paused == sum(record.state is TrialState.PAUSED for record in search.records)
    handed_out = [record.candidate.id for record in search.records]
    assert len(set(handed_out)) == len(handed_out)
    assert set(handed_out) <= set(table.by_id)
    whole = simulate(table, strategy(table, pausing_rule=Impatient(forgiving)), workers)
    odd = len(table.by_id) // 2
    assert whole.pauses == odd
    assert whole.epochs == EPOCHS * len(table.by_id) - (0 if forgiving else (EPOCHS - 1) * odd)


def test_the_same_seed_gives_the_same_replay():
    table = TabularBenchmark(META, tuple(trained(n, 0.3 + n / 40, seed) for n in range(20) for seed in range(2)))
    first, again, other = (simulate(table, strategy(table, "tpe", seed), 3, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_search_ends_when_it_has_enough():
    table = TabularBenchmark(META, tuple(trained(n, 0.3 + n / 40) for n in range(6)))
    told = []
    replay = simulate(table, strategy(table), workers=2, enough=lambda name: told.append(name) or len(told) == 3)
    assert [done.architecture for done in replay.completions] == told
    assert len(told) == 3
    # What the other worker had begun is left where it was.
    assert 9 <= replay.epochs < 12
