"""Documentation that follows from the code is what `python docs/generate.py` writes."""

import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest

import mgnas
from mgnas.models.config import ArchitectureConfig
from mgnas.search.config import Resources, SearchSettings
from mgnas.search.data.dataset import DataSettings
from mgnas.space.candidate import TrainingSettings
from mgnas.space.limits import Limits

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generated():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        return runpy.run_path(str(DOCS / "generate.py"))


def test_space_page_is_up_to_date(generated):
    assert (DOCS / "space.md").read_text() == generated["space_page"](), "run: python docs/generate.py"


def test_api_page_is_up_to_date(generated):
    assert (DOCS / "api.md").read_text() == generated["api_page"](), "run: python docs/generate.py"


def test_api_page_explains_every_public_name_once(generated):
    headings = re.findall(r"^### (\w+)$", generated["api_page"](), re.MULTILINE)
    assert sorted(headings) == sorted(mgnas.__all__)


def test_api_page_has_a_call_with_its_arguments_results_and_errors(generated):
    _, entry = generated["api_page"]().split("### count_macs\n")
    expected = """
```python
count_macs(config: ArchitectureConfig | Mapping[str, Any] | str, image_size: int) -> int
```

The number of multiply-accumulates of an architecture on one image.

**Arguments**

- `config`: as for `build_model`.
- `image_size`: pixels per side.

**Raises**

- `UserError`: an unknown name, or settings that cannot be used.
"""
    assert entry.startswith(expected)


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
