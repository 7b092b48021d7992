"""What tests of several commands share."""

from pathlib import Path

import pytest
import yaml

from mgnas.search.data.dataset import DataSettings, load_dataset

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="session", autouse=True)
def _digits_are_converted(_own_cache):
    """The first use of a data set is announced, which is no command's own output."""
    load_dataset(DataSettings(name="digits"))


@pytest.fixture
def edited(tmp_path):
    """The digits search with some of its keys changed, as a file."""

    def write(**changes):
        content = yaml.safe_load((CONFIGS / "digits.yaml").read_text())
        for dotted, value in changes.items():
            *path, last = dotted.split("__")
            section = content
            for key in path:
                section = section[key]
            if value is None:
                section.pop(last)
            else:
                section[last] = value
        path = tmp_path / "edited.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture(scope="session")
def refused():
    """Asserts that a command printed nothing but one line of error, exit code 2, with these parts; returns the line."""

    def check(result, *parts) -> str:
        code, out, err = result
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert err.startswith("mgnas: error: ")
        for part in parts:
            assert str(part) in err
        return err

    return check
