"""The journal: what is noted comes back, and damage costs no more than the lines that it hits."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgnas.errors import SearchStoppedError, UserError
from mgnas.search.storage.journal import Journal
from mgnas.search.trial_record import ExpectedGain, GaussianPrediction, TrialRecord, TrialState

RUNNING, PAUSED, COMPLETE, FAILED = TrialState

_fractions, _seconds = st.floats(0, 1), st.floats(0, 1e6)
_text = st.text(st.characters(codec="utf-8"), max_size=40)
_ended = st.fixed_dictionaries(
    {
        "state": st.sampled_from([PAUSED, COMPLETE, FAILED]),
        "curve": st.lists(_fractions, min_size=1, max_size=3),
        "reason": _text,
        "seconds": _seconds,
        "finished": st.none() | _seconds,
        "decisions": st.lists(_text, max_size=2),
        "balanced_accuracy": st.none() | _fractions,
        "gain": st.none() | st.builds(ExpectedGain, st.integers(1, 1000), _fractions),
    }
)
_started = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**31),
        "sampler_notes": st.dictionaries(_text, st.integers() | _text | st.lists(_fractions), max_size=2),
        "expected": st.none() | st.builds(GaussianPrediction, st.floats(-5, 5), st.floats(0, 5)),
    }
)
_histories = st.lists(st.tuples(_started, st.none() | _ended), min_size=1, max_size=5)


@pytest.fixture(scope="session")
def records_with(small_space):
    """(fields at the start, fields at the end or None) -> records with the numbers 0, 1, ..."""
    candidates = list(small_space.enumerate())
    return lambda histories: [
        TrialRecord(number, candidates[number], **start, **(end or {})) for number, (start, end) in enumerate(histories)
    ]


@pytest.fixture
def journal(tmp_path, some_records) -> Journal:
    """The starts of five trials, then the ends of three."""
    made = Journal(tmp_path / "journal.jsonl")
    for record in some_records:
        made.start(record)
    for record in some_records:
        if record.state is not RUNNING:
            made.end(record)
    return made


@given(_histories)
def test_any_records_come_back_exactly(new_path, small_space, records_with, histories):
    records, journal = records_with(histories), Journal(new_path("journal.jsonl"))
    for record in records:
        journal.start(record)
        if record.state is not RUNNING:
            journal.end(record)
    assert journal.read(small_space) == records
    appended = journal.path.read_bytes()
    journal.rewrite(records)
    assert journal.path.read_bytes() == appended


def test_a_missing_or_empty_journal_knows_no_trial(tmp_path, small_space):
    journal = Journal(tmp_path / "journal.jsonl")
    assert journal.read(small_space) == []
    journal.path.write_text("")
    assert journal.read(small_space) == []


def test_a_trial_that_goes_on_is_running_again_with_its_curve(tmp_path, small_space, some_records):
    (record, *_), journal = some_records, Journal(tmp_path / "journal.jsonl")
    journal.start(record)
    record.state, record.curve = PAUSED, [0.1]
    journal.end(record)
    journal.start(record)
    (read,) = journal.read(small_space)
    assert (read.state, read.curve) == (RUNNING, [0.1])


def test_a_journal_that_was_cut_anywhere_is_the_journal_of_its_whole_lines(journal, small_space):
    content = journal.path.read_bytes()
    lines = content.splitlines(keepends=True)
    expected = []
    for count in range(len(lines) + 1):
        journal.path.write_bytes(b"".join(lines[:count]))
        expected.append(journal.read(small_space))
    for cut in range(len(content)):
        journal.path.write_bytes(content[:cut])
        # A line without its newline is whole already.
        whole = content[: cut + 1].count(b"\n")
        assert journal.read(small_space) == expected[whole], cut


@settings(max_examples=30)
@given(st.data())
def test_a_damaged_line_costs_no_other_trial(new_path, small_space, records_with, data):
    records, journal = records_with(data.draw(_histories)), Journal(new_path("journal.jsonl"))
    journal.rewrite(records)
    lines = journal.path.read_bytes().splitlines()
    ends = [index for index, line in enumerate(lines) if json.loads(line)["event"] == "end"]
    if not ends:
        return
    damaged = data.draw(st.sampled_from(ends))
    number = json.loads(lines[damaged])["number"]
    lines[damaged] = data.draw(st.binary(max_size=80).filter(lambda garbage: b'"' not in garbage))
    journal.path.write_bytes(b"\n".join(lines))
    read = journal.read(small_space)
    assert read[number].state is RUNNING
    assert read[:number] + read[number + 1 :] == records[:number] + records[number + 1 :]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "7",
        "null",
        '"start"',
        "{}",
        '{"event":"end","number":1}',
        '{"event":"end","number":[1]}',
        '{"event":"end","number":99,"state":"complete"}',
        '{"event":"end","number":1,"state":"asleep","curve":[],"reason":"","seconds":0,"finished":null,"decisions":[]}',
        '{"event":"end","number":1,"state":"failed","curve":["x"],"reason":"","seconds":0,"finished":1,"decisions":[]}',
        '{"event":"start","number":5,"values":{},"seed":1,"notes":{}}',
        '{"event":"start","number":5,"values":7,"seed":1,"notes":{}}',
        '{"event":"start","number":5,"values":{"sharing":"none"},"seed":1,"notes":{}}',
    ],
)
def test_a_line_that_is_none_changes_nothing(journal, small_space, some_records, line):
    with journal.path.open("a") as file:
        file.write(line + "\n")
    assert [record.state for record in journal.read(small_space)] == [record.state for record in some_records]
    assert len(journal.read(small_space)) == 5


def test_trials_after_a_missing_one_are_left_out(journal, small_space):
    lines = journal.path.read_text().splitlines()
    journal.path.write_text("\n".join(line for line in lines if '"start","number":2' not in line))
    assert [record.number for record in journal.read(small_space)] == [0, 1]


def test_a_journal_that_cannot_be_written_stops_the_search(tmp_path, some_records):
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path / "file" / "journal.jsonl")
    for note in (journal.start, journal.end):
        with pytest.raises(SearchStoppedError, match=r"journal.jsonl: cannot be written \(Not a directory\)"):
            note(some_records[0])
    with pytest.raises(UserError, match="cannot be written"):
        journal.rewrite(some_records)
