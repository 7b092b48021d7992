import csv
import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import matplotlib.image
import pytest

from mgnas.models.cost import count_weights
from mgnas.models.errors import UserError
from mgnas.reports.figures import front_figure, short_count
from mgnas.reports.report import write_report
from mgnas.space.published import PUBLISHED

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


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


def test_every_file_is_written(run):
    folder = write_report(run).parent
    expected = {f"{name}.{kind}" for name in ("front", "hypervolume", "curves") for kind in ("png", "svg")}
    assert {path.name for path in folder.iterdir()} == expected | {"front.csv", "front.json", "front.md", "report.html"}
    for name in ("front", "hypervolume", "curves"):
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        assert matplotlib.image.imread(folder / f"{name}.png").shape[1] > 1000


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
    assert "script" not in reader.tags
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
    from mgnas.search.run_directory import RunDirectory
    from mgnas.search.search_config import SearchConfig

    empty = RunDirectory.create(SearchConfig.load(config_file), tmp_path / "runs")
    assert "No trial is complete yet." in read(write_report(empty)).text


def test_unwritable_folder_is_one_line(run, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run, blocker / "report")


def test_published_models_are_drawn_with_counted_weights(run):
    models = [model for model in PUBLISHED if model.dataset == "cifar10"]
    axes = front_figure(run.load(), models).axes[0]
    places = [list(c.get_offsets()[0]) for c in axes.collections if len(c.get_offsets()) == 1]
    for model in models:
        assert [count_weights(model.config), pytest.approx(100 * model.accuracy)] in places
    labels = " ".join(text.get_text() for text in axes.texts)
    assert all(model.label in labels for model in models)


def test_far_outliers_do_not_squash_the_front(run):
    records = run.load()
    records[1].curve = [0.1] * 3
    records += [records[0]] * 8
    low, _ = front_figure(records).axes[0].get_ylim()
    assert low > 50


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), (999, "999"), (1000, "1k"), (1234, "1.23k"), (20000, "20k"), (999_900, "1M"), (1_500_000, "1.5M")],
)
def test_short_count(value, expected):
    assert short_count(value) == expected


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [400, 1400])
def test_page_opens_in_a_browser_without_errors(run, tmp_path, width):
    page = write_report(run)
    picture = tmp_path / "page.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += ["--no-first-run", "--disable-sync", "--disable-component-update", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000", f"--screenshot={picture}"]
    shown = subprocess.run(
        [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert "CONSOLE" not in shown.stderr
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[1] == width
    # The front's blue staircase is on the picture.
    blue = (abs(pixels[..., :3] - [0, 0x72 / 255, 0xB2 / 255]) < 0.02).all(axis=2)
    assert blue.sum() > 100
