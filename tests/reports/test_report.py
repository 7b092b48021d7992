import csv
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import matplotlib.image
import pytest

from mgnas.errors import UserError
from mgnas.reports.report import report_folder, write_report
from mgnas.search.config import SearchConfig
from mgnas.search.data.dataset import Dataset
from mgnas.search.storage.run_directory import RunDirectory
from mgnas.search.trial_record import TrialState


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


FIGURES = ("front", "hypervolume", "latency", "curves", "parallel")


@pytest.fixture(scope="module")
def page(reported_run):
    return read(report_folder(reported_run) / "report.html")


def test_every_file_is_written(reported_run):
    folder = report_folder(reported_run)
    expected = {f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")}
    tables = {"front.csv", "front.json", "front.md"}
    assert {path.name for path in folder.iterdir()} == expected | tables | {"architecture.svg", "report.html"}
    for name in (*FIGURES, "architecture"):
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    for name in FIGURES:
        assert matplotlib.image.imread(folder / f"{name}.png").shape[1] > 600


def test_report_is_the_same_for_the_same_run(reported_run, tmp_path):
    second = write_report(reported_run, tmp_path / "again").parent
    for path in report_folder(reported_run).iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_the_page_says_what_always_answering_the_largest_class_would_give(run, numbered):
    images = numbered([99, 1])
    run.check_data(Dataset(images, images, None, ("<b>cat", "dog")))
    text = " ".join(read(write_report(run, latency_seconds=0)).text.split())
    assert "largest class99.00 %of the validation images: the accuracy of always answering <b>cat" in text


def test_page_is_self_contained_and_escapes_what_it_shows(page):
    assert "b" not in page.tags
    assert "<b>& loss became nan" in page.text
    links = [value for name, value in page.attributes if name in ("src", "href", "xlink:href") and value]
    assert all(link.startswith(("#", "data:image/")) for link in links)


def test_ids_of_inlined_figures_are_unique_and_found(page):
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for name, value in page.attributes if name == "xlink:href" and value.startswith("#")}
    assert targets <= set(ids)


def test_page_tells_trials_front_and_failures(page):
    text = " ".join(page.text.split())
    assert "7 trials, 5 complete, 1 failed, 1 running" in text
    assert "96.00 %" in text
    assert "1:15 min" in text


def test_a_run_without_complete_trials_has_a_report(tmp_path, config_file):
    empty = RunDirectory.create(SearchConfig.load(config_file), tmp_path / "runs")
    assert "No trial is complete yet." in read(write_report(empty)).text


def test_unwritable_folder_is_one_line(run, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run, blocker / "report")


def test_retrained_networks_are_in_page_and_tables(reported_run, page):
    text = " ".join(page.text.split())
    assert "92.00 %" in text
    assert "+2.00" in text
    with (report_folder(reported_run) / "front.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["trial"] == "2")
    assert (row["seeds"], row["retrained_accuracy"]) == ("2", "0.92")


def test_several_runs_side_by_side(run, tmp_path):
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "elsewhere" / run.path.name))
    third = RunDirectory(shutil.copytree(run.path, tmp_path / "third"))
    folder = write_report([run, other, third], tmp_path / "all", latency_seconds=0).parent
    names = {path.name for path in folder.iterdir()}
    assert {"attainment.svg", "hypervolume.png", "curves-third.svg", "front-third.csv"} <= names
    text = read(folder / "report.html").text
    assert f"runs/{run.path.name}: front (4)" in text
    assert f"elsewhere/{run.path.name}: front (4)" in text
    assert "third: front (4)" in text


def test_no_file_of_a_report_holds_an_absolute_path(run, tmp_path):
    """A report is passed on; the names of its owner's folders are not."""
    config = run.config.override(
        storage=str(tmp_path / "secret" / "checkpoints"), prior=str(tmp_path / "secret" / "run")
    )
    run.change_config(config)
    run.store_config()
    (failed,) = (record for record in run.load() if record.number == 6)
    failed.state, failed.reason = (
        TrialState.FAILED,
        f"{tmp_path}/secret/checkpoints/1.pt: cannot be read; see {run.path}",
    )
    run.record_end(failed)
    folder = write_report(RunDirectory(run.path), tmp_path / "report", 0).parent
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
    text = read(folder / "report.html").text
    assert "checkpoints/1.pt: cannot be read; see known" in text
    assert "storage: checkpoints" in text
