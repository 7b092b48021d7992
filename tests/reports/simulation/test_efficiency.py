"""How many epochs searches need, as a table, as JSON and as a figure."""

import json

import pytest
from toy_tables import replay, scored, toy_table

from mgnas.errors import UserError
from mgnas.reports.simulation.efficiency import TableResult, as_json, as_text, efficiency_figure, write_results


@pytest.fixture
def result() -> TableResult:
    """Two searches that find everything, after 6 and 12 epochs; two that never find the light network."""
    good = [replay(1, 0), replay(2, 3, 1, 0)]
    return TableResult.of(scored(toy_table()), {"good": good, "poor": [replay(3, 1), replay(1, 3)]})


def test_the_table_for_the_terminal(result):
    assert as_text(result).splitlines() == [
        "toy: 4 architectures, reference 1,000 weights at 50.00 %; median (quartiles) of 2 searches each",
        "strategy   epochs until 90 %   of 2   epochs until 95 %   of 2   epochs until 99 %   of 2   final share",
        "good       9 (8 to 10)         2      9 (8 to 10)         2      9 (8 to 10)         2      100.0 %",
        "poor       -                   0      -                   0      -                   0      80.0 %",
        "oracle     6                          6                          6                          100.0 %",
    ]


def test_a_median_is_a_dash_where_too_few_searches_arrived():
    searches = [replay(1, 0), replay(1), replay(1), replay(1, 0)]
    text = as_text(TableResult.of(scored(toy_table()), {"half": searches}))
    assert "half       - (6 to -)          2 " in text


def test_the_json_holds_every_search(result):
    content = json.loads(as_json([result], {"seeds": 2}))
    assert content["settings"] == {"seeds": 2}
    (entry,) = content["tables"]
    assert entry["surrogate"] is False
    assert entry["reference"] == {"weights": 1000, "accuracy": 0.5}
    assert entry["oracle"]["epochs_until"] == {"0.9": 6, "0.95": 6, "0.99": 6}
    good, poor = entry["strategies"]["good"], entry["strategies"]["poor"]
    assert good["epochs_until"]["0.95"] == {"lower": 7.5, "median": 9.0, "upper": 10.5, "reached": 2}
    assert poor["epochs_until"]["0.9"] == {"lower": None, "median": None, "upper": None, "reached": 0}
    assert poor["final"]["median"] == pytest.approx(0.8)
    assert good["searches"][1]["trace"] == {"epochs": [6, 9, 12], "shares": [0.4, 0.8, 1.0]}
    assert (good["searches"][1]["epochs"], good["searches"][1]["complete"]) == (12, 4)


def test_the_figure_has_a_panel_for_each_table(result):
    figure = efficiency_figure([result, result, result])
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["oracle (bound)", "good", "poor"]
    assert "median and quartiles of 2 searches" in figure.axes[0].texts[0].get_text()
    assert figure.axes[0].get_title(loc="left") == "toy: 4 architectures\n"


def test_a_surrogate_is_called_one_everywhere():
    surrogate = toy_table(name="toy-surrogate", surrogate=True)
    result = TableResult.of(scored(surrogate), {"good": [replay(1, 0)]})
    assert as_text(result).startswith("toy-surrogate: 4 architectures (surrogate: most accuracies predicted)")
    assert "surrogate" in efficiency_figure([result]).axes[0].get_title(loc="left")
    assert json.loads(as_json([result], {}))["tables"][0]["surrogate"] is True


def test_equal_results_give_equal_files(result, tmp_path):
    for folder in ("first", "second"):
        write_results([result], {}, tmp_path / folder)
    for name in ("simulation.json", "hypervolume.png", "hypervolume.svg"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_a_folder_that_cannot_be_written_is_refused(result, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another folder with --out"):
        write_results([result], {}, tmp_path / "file" / "below")
