"""benchmarks/search/public_tables.py and nas_bench_macro.py, on a small file of the form of NAS-Bench-Macro's."""

import itertools
import json
import sys
from pathlib import Path

import optuna
import pytest

from mgnas.errors import UserError
from mgnas.reports.simulation.scoring import HypervolumeScorer

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "search"))
import public_tables
from nas_bench_macro import MacroTable, canonical

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def entry(code: str) -> dict:
    """Equal for equal networks: more of the wide blocks are better and heavier."""
    blocks = [int(digit) for digit in code]
    accuracy = 60 + 2.0 * sum(blocks) + blocks[0]
    return {"test_acc": [accuracy + 1, accuracy, accuracy + 2], "params": 1000 * (1 + sum(b * b for b in blocks))}


@pytest.fixture
def file(tmp_path) -> Path:
    """The strings that end in three layers of any kind before five fixed ones: 27 strings of 21 networks."""
    path = tmp_path / "small.json"
    codes = ["012" + "".join(digits) + "01" for digits in itertools.product("012", repeat=3)]
    path.write_text(json.dumps({code: entry(code) for code in codes}))
    return path


@pytest.fixture
def table(file) -> MacroTable:
    return MacroTable.load(file)


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("00000001", "00000010"),
        ("00002000", "00020000"),
        ("12002001", "12020010"),
        ("00100000", "00100000"),
        ("01000100", "01000100"),
        ("12212212", "12212212"),
    ],
)
def test_blocks_come_before_identities_within_layers_4_5_and_7_8(code, form):
    assert canonical(code) == form == canonical(form)


def test_there_are_3969_distinct_networks():
    assert len({canonical("".join(digits)) for digits in itertools.product("012", repeat=8)}) == 3969


def test_a_search_sees_the_first_training_and_is_scored_by_the_mean_of_the_others(table):
    assert len(table.by_id) == len({canonical(code) for code in table.codes()}) == 21
    assert len(table.codes()) == 54  # The last two layers, 01, may also be 10.
    code = canonical("01200001")
    assert table.first_accuracies()[code] == pytest.approx(entry(code)["test_acc"][0] / 100)
    assert table.mean_accuracies()[code] == pytest.approx(sum(entry(code)["test_acc"][1:]) / 200)
    assert table.weights()[code] == entry(code)["params"]


@pytest.mark.parametrize("name", ["EHVISampler", "TPE", "NSGA-II", "evolution", "random"])
def test_no_method_trains_a_network_twice_so_that_all_are_found_in_as_many_trainings(table, name):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    scorer, compared = HypervolumeScorer(table), public_tables.METHODS[name]
    entry = public_tables.search(table, scorer, public_tables.Compared(compared.factory, 21), 0)
    assert entry["shares"][-1] == 1.0
    assert entry["shares"] == sorted(entry["shares"])


@pytest.mark.parametrize(("repeats", "networks"), [(True, 1), (False, 5)])
def test_only_without_the_layer_a_repeated_proposal_costs_a_training_of_the_same_network(table, repeats, networks):
    def always(table, seed):
        fixed = {f"layer_{layer}": digit for layer, digit in enumerate("01200001", start=1)}
        return optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler(seed))

    method = public_tables.OptunaMethod(table, 0, make=always, repeats=repeats)
    for _ in range(5):
        code = method.ask()
        method.tell(code, table.first_accuracies()[canonical(code)])
    assert len(method.trained) == networks


def test_a_proposal_that_was_trained_is_replaced_by_the_string_with_the_fewest_changes(table):
    method = public_tables.Evolution(table, 0)
    method.tell("01200001", 0.5)
    for _ in range(5):
        new = method.nearest_new("01200001")
        assert sum(a != b for a, b in zip(new, "01200001", strict=True)) == 1
        assert canonical(new) in table.by_id
    assert method.nearest_new("01222201") == "01222201"


def run(monkeypatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["public_tables.py", *args])
    public_tables.main()


def test_a_call_continues_where_the_last_one_ended_and_writes_table_and_picture(file, tmp_path, monkeypatch, capsys):
    short = {name: public_tables.Compared(public_tables.METHODS[name].factory, 15) for name in ("random", "evolution")}
    monkeypatch.setattr(public_tables, "METHODS", short)
    arguments = [str(file), "--methods", "random", "evolution", "--out", str(tmp_path / "out.jsonl")]
    run(monkeypatch, *arguments, "--seeds", "1")
    first = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)[:3] for line in first] == [["small", "random", 0], ["small", "evolution", 0]]
    run(monkeypatch, *arguments, "--seeds", "2")
    assert (tmp_path / "out.jsonl").read_text().splitlines()[:2] == first
    capsys.readouterr()
    run(monkeypatch, *arguments, "--seeds", "9", "--show")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 4
    assert "| random | 2 | 15 |" in capsys.readouterr().out
    assert (tmp_path / "out.svg").stat().st_size > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable file"),
        ("[]", "expected a mapping from strings"),
        ('{"0123": {"test_acc": [1, 2], "params": 3}}', "0123: expected a string of 8 digits from 012"),
        ('{"00000000": {"test_acc": [1, 2]}}', "00000000: expected test_acc, a list of accuracies, and params"),
        ('{"00000000": {"test_acc": [1], "params": 3}}', "at least 2 accuracies of 0 to 100"),
        ('{"00000000": {"test_acc": [1, 200], "params": 3}}', "at least 2 accuracies of 0 to 100"),
        (json.dumps({"00000001": {"test_acc": [1, 2], "params": 3}, "00000010": {"test_acc": [1, 2], "params": 4}}),
         "00000010: another string of the same network has other trainings"),
    ],
)  # fmt: skip
def test_another_file_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        MacroTable.load(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a readable file"):
        MacroTable.load(tmp_path / "none.json")
