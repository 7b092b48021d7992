import csv
import json
import shutil
import statistics
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.image
import pytest

from mgnas.errors import UserError
from mgnas.models.cost import count_weights
from mgnas.reports.analysis.pareto import hypervolume
from mgnas.reports.analysis.run_data import load_run_data
from mgnas.reports.analysis.summary import compute_cost, training_images
from mgnas.reports.deploy.retraining import Retrained
from mgnas.reports.figures.front import attainment_figure, front_figure
from mgnas.reports.figures.progress import growth
from mgnas.reports.figures.style import short_count
from mgnas.reports.report import write_report
from mgnas.search.data.dataset import DataSettings
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.space.published import PUBLISHED


class Reader(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.attributes = [], "", []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def read(page):
    reader = Reader()
    reader.feed(page.read_text())
    return reader


FIGURES = ("front", "hypervolume", "latency", "curves", "parallel", "architecture")


def test_every_file_is_written(run):
    folder = write_report(run).parent
    expected = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == expected | {"front.csv", "front.json", "front.md", "report.html"}
    for name in FIGURES:
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        assert matplotlib.image.imread(folder / f"{name}.png").shape[1] > 600


def test_tables_agree_with_the_front(run):
    folder = write_report(run).parent
    with (folder / "front.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [0.80, 0.90, 0.95, 0.96]
    entries = json.loads((folder / "front.json").read_text())
    assert [entry["weights"] for entry in entries] == [int(row["weights"]) for row in rows]
    assert entries[0]["architecture"]["base_channels"] == [4]
    assert entries[0]["curve"][-1] == 0.80
    markdown = (folder / "front.md").read_text().splitlines()
    assert len(markdown) == 2 + 4
    assert "96.00 %" in markdown[-1]


def test_report_is_the_same_for_the_same_run(run, tmp_path):
    first = write_report(run, tmp_path / "a").parent
    second = write_report(run, tmp_path / "b").parent
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_page_is_self_contained_and_escapes_what_it_shows(run):
    reader = read(write_report(run))
    assert "b" not in reader.tags
    assert "<b>& loss became nan" in reader.text
    links = [value for name, value in reader.attributes if name in ("src", "href", "xlink:href") and value]
    assert all(link.startswith(("#", "data:image/")) for link in links)


def test_ids_of_inlined_figures_are_unique_and_found(run):
    reader = read(write_report(run))
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for name, value in reader.attributes if name == "xlink:href" and value.startswith("#")}
    assert targets <= set(ids)


def test_page_tells_trials_front_and_failures(run):
    text = " ".join(read(write_report(run)).text.split())
    assert "7 trials, 5 complete, 1 failed, 1 running" in text
    assert "96.00 %" in text
    assert "1:15 min" in text


def test_a_run_without_complete_trials_has_a_report(tmp_path, config_file):
    from mgnas.search.config import SearchConfig
    from mgnas.search.storage.run_directory import RunDirectory

    empty = RunDirectory.create(SearchConfig.load(config_file), tmp_path / "runs")
    assert "No trial is complete yet." in read(write_report(empty)).text


def test_unwritable_folder_is_one_line(run, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run, blocker / "report")


def test_published_models_are_drawn_with_counted_weights(run):
    models = [model for model in PUBLISHED if model.dataset == "cifar10"]
    axes = front_figure([load_run_data(run)], models).axes[0]
    places = [list(c.get_offsets()[0]) for c in axes.collections if len(c.get_offsets()) == 1]
    for model in models:
        assert [count_weights(model.config), pytest.approx(100 * model.accuracy)] in places
    labels = " ".join(text.get_text() for text in axes.texts)
    assert all(model.label in labels for model in models)


def test_far_outliers_do_not_squash_the_front(run):
    seen = load_run_data(run)
    records = seen.records
    records[1].curve = [0.1] * 3
    records += [records[0]] * 8
    low, _ = front_figure([seen]).axes[0].get_ylim()
    assert low > 50


def test_full_trainings_are_error_bars(run, tmp_path):
    seen = replace(load_run_data(run), retrained={0: Retrained(0, 0.80, "test", (0.90, 0.94), tmp_path)})
    axes = front_figure([seen]).axes[0]
    (bar,) = axes.containers
    (low, high) = sorted(y for _, y in bar.lines[2][0].get_segments()[0])
    spread = 100 * statistics.stdev([0.90, 0.94])
    assert (low, high) == (pytest.approx(92 - spread), pytest.approx(92 + spread))
    bottom, top = axes.get_ylim()
    assert bottom < low
    assert high < top


def test_growth_counts_epochs_of_all_that_ended(run):
    epochs, hours, volumes = growth(load_run_data(run), 10**6)
    # Five complete trials of 3 epochs, 10 s apart; the failed one has no epoch, the running one has not ended.
    assert epochs.tolist() == [3, 6, 9, 12, 15]
    assert hours.tolist() == pytest.approx([0, 10 / 3600, 20 / 3600, 30 / 3600, 40 / 3600])
    assert volumes[-1] == pytest.approx(hypervolume(run.load(), 10**6))


def test_effort_in_device_hours_and_images(run):
    found = compute_cost(load_run_data(run))
    assert found.epochs == 5 * 3 + 1
    assert found.wasted_epochs == 0
    assert found.training_hours == pytest.approx(5 / 3600)
    assert (found.device, found.device_hours) == ("CPU core", pytest.approx(5 / 3600))
    # 1,437 digits less a fifth, 15 timed epochs in 5 s.
    assert found.images_per_second == pytest.approx(15 * (1437 - 287) / 5)
    assert found.wall_hours == pytest.approx(75 / 3600)


@pytest.mark.parametrize(("name", "expected"), [("digits", 1150), ("cifar10", 40_000)])
def test_training_images_need_no_download(name, expected):
    assert training_images(DataSettings(name=name)) == expected
    assert training_images(DataSettings(name=name, train_images=1000)) == 800


def test_retrained_networks_are_in_page_and_tables(run):
    record = run.load()[0]
    folder = run.path / "retrained" / record.candidate.id
    for seed, accuracy in enumerate((0.91, 0.93)):
        (folder / f"seed-{seed}").mkdir(parents=True)
        (folder / f"seed-{seed}" / "result.json").write_text(json.dumps({"test_accuracy": accuracy}))
    (folder / "choice.json").write_text(json.dumps({"trial": 0, "validation_accuracy": 0.80}))
    report = write_report(run).parent
    text = " ".join(read(report / "report.html").text.split())
    assert "92.00 %" in text
    assert "+12.00" in text
    with (report / "front.csv").open() as file:
        row = next(csv.DictReader(file))
    assert (row["seeds"], row["retrained_accuracy"], row["retrained_sd"]) == ("2", "0.92", "0.014142")
    assert "92.00 % +- 1.41 (2 seeds)" in (report / "front.md").read_text()


def test_several_runs_side_by_side(run, tmp_path):
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "elsewhere" / run.path.name))
    third = RunDirectory(shutil.copytree(run.path, tmp_path / "third"))
    folder = write_report([run, other, third], tmp_path / "all").parent
    names = {path.name for path in folder.iterdir()}
    assert {"attainment.svg", "hypervolume.png", "curves-third.svg", "front-third.csv"} <= names
    text = read(folder / "report.html").text
    assert f"runs/{run.path.name}: front (4)" in text
    assert f"elsewhere/{run.path.name}: front (4)" in text
    assert "third: front (4)" in text


def test_attainment_of_equal_runs_is_their_front(run):
    seen = load_run_data(run)
    axes = attainment_figure([seen, seen, seen]).axes[0]
    line = axes.lines[0]
    weights, accuracies = line.get_data()
    front = [(record.weights, 100 * record.accuracy) for record in seen.front]
    assert [(pytest.approx(w), pytest.approx(a)) for w, a in front] == list(zip(weights, accuracies, strict=True))[:4]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), (999, "999"), (1000, "1k"), (1234, "1.23k"), (20000, "20k"), (999_900, "1M"), (1_500_000, "1.5M")],
)
def test_short_count(value, expected):
    assert short_count(value) == expected
