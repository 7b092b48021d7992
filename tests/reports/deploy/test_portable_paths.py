from pathlib import Path

import pytest

from mgnas.reports.deploy.portable_paths import locate, portable_path, shown_path, without_folders


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "alice"))
    (tmp_path / "home" / "alice" / "photos").mkdir(parents=True)
    return tmp_path / "home" / "alice"


def test_images_beside_the_network_are_relative_to_it(home):
    folder = home / "trained" / "net"
    assert portable_path(str(home / "photos"), folder) == "../../photos"
    assert locate("../../photos", folder) == str(home / "photos")


def test_images_in_the_home_of_a_network_elsewhere_do_not_tell_the_owner(home, tmp_path):
    folder = tmp_path / "shared" / "net"
    assert portable_path(str(home / "photos"), folder) == "~/photos"
    assert locate("~/photos", folder) == str(home / "photos")


def test_a_path_relative_to_the_working_directory_becomes_one_to_the_network(home, monkeypatch):
    monkeypatch.chdir(home)
    assert portable_path("photos", Path("trained/net")) == "../../photos"
    assert locate("../../photos", Path("trained/net")) == str(home / "photos")


def test_a_linked_folder_counts_as_the_one_that_it_leads_to(home, tmp_path):
    (home / "deep" / "down" / "net").mkdir(parents=True)
    (tmp_path / "link").symlink_to(home / "deep" / "down" / "net")
    path = portable_path(str(home / "photos"), tmp_path / "link")
    assert path == "../../../photos"
    assert locate(path, tmp_path / "link") == str(home / "photos")


def test_paths_of_version_0_1_0_are_found(home, monkeypatch):
    assert locate(str(home / "photos"), home / "trained" / "net") == str(home / "photos")
    monkeypatch.chdir(home)
    assert locate("photos", home / "trained" / "net") == "photos"


def test_without_images_of_the_user_there_is_no_path(home):
    assert portable_path(None, home) is None
    assert locate(None, home) is None


def test_a_user_without_a_home_keeps_the_relative_path(tmp_path, monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert portable_path(str(tmp_path / "photos"), tmp_path / "net") == "../photos"
    assert locate("~/photos", tmp_path / "net").endswith("net/~/photos")


def test_a_page_shows_what_was_given_or_the_end_of_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path("runs/first") == "runs/first"
    assert shown_path("s3://bucket/runs") == "s3://bucket/runs"
    assert shown_path(tmp_path / "runs" / "first") == "runs/first"
    assert shown_path(tmp_path.parent / "elsewhere" / "first") == "first"


def test_an_error_tells_no_folders(home, tmp_path):
    text = f"{tmp_path}/data/cat.png: damaged; {home}/photos is not"
    assert without_folders(text, tmp_path / "data", None) == "data/cat.png: damaged; ~/photos is not"
