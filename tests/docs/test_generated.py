"""Documentation that follows from the code is what `python docs/generate.py` writes."""

import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest

from mgnas.models.config import ArchitectureConfig
from mgnas.search.config import Resources, SearchSettings
from mgnas.search.data.dataset import DataSettings
from mgnas.space.candidate import TrainingSettings
from mgnas.space.limits import Limits

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generated():
    return runpy.run_path(str(DOCS / "generate.py"))


def test_space_page_is_up_to_date(generated):
    assert (DOCS / "space.md").read_text() == generated["space_page"](), "run: python docs/generate.py"


def test_pictures_are_up_to_date(generated):
    for file, text in generated["pictures"]().items():
        assert file.read_text() == text, "run: python docs/generate.py"
        assert f"images/{file.name}" in (DOCS / "architectures.md").read_text()


def test_space_page_explains_every_key(generated):
    page = generated["space_page"]()
    for section in (DataSettings, Limits, ArchitectureConfig, TrainingSettings, SearchSettings, Resources):
        for field in fields(section):
            row = re.search(rf"^\| `{field.name}` \|.*\| (.+) \|$", page, re.MULTILINE)
            assert row, field.name
            assert len(row[1]) > 10


@pytest.mark.parametrize("page", sorted([*DOCS.glob("*.md"), DOCS.parent / "README.md"]), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
