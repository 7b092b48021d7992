"""`import mgnas`: cheap, and every public name is there for programs and for type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mgnas
from mgnas.search.samplers.ehvi import EHVISampler

LOADS = """
import sys
import mgnas
heavy = {"torch", "ray", "optuna", "matplotlib", "pandas", "numpy", "scipy", "sklearn", "pydantic", "click", "yaml"}
print(sorted(heavy & set(sys.modules)))
mgnas.UserError
mgnas.ArchitectureConfig
mgnas.count_weights({"family": "mgnet", "base_channels": [4]})
print(sorted(heavy & set(sys.modules)))
"""


def test_the_import_loads_nothing_and_a_count_no_torch():
    run = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    first, second = run.stdout.splitlines()
    assert first == "[]"
    assert second == "['pydantic', 'yaml']"


@pytest.mark.parametrize("name", mgnas.__all__)
def test_every_public_name_can_be_used_and_explains_itself(name):
    assert name in dir(mgnas)
    assert getattr(mgnas, name).__doc__


def test_type_checkers_see_the_names_that_programs_see():
    tree = ast.parse(Path(mgnas.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    imports = [node for node in checked.body if isinstance(node, ast.ImportFrom)]
    assert sorted(alias.name for node in imports for alias in node.names) == sorted(mgnas.__all__)
    modules = {alias.name: f"{'.' * node.level}{node.module}" for node in imports for alias in node.names}
    assert {name: f"mgnas.{module}" for name, module in mgnas._MODULES.items()} == {
        name: module if module.startswith("mgnas.") else f"mgnas{module}" for name, module in modules.items()
    }


def test_a_checkout_is_complete_on_its_own():
    """In a checkout Ray's workers find its folder first, also if mgnas is installed elsewhere."""
    checkout = Path(mgnas.__file__).resolve().parents[1]
    script = (
        "import sys\n"
        "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
        f"sys.path.insert(0, {str(checkout)!r})\n"
        "import mgnas.cli, mgnas.models, mgnas.reports, mgnas.search, mgnas.space\n"
        "print(mgnas.space.__file__)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()).resolve().parents[1] == checkout


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'mgnas' has no attribute 'serach'"):
        mgnas.serach  # noqa: B018 - the access is what is tested


def test_the_sampler_is_the_one_that_searches_use():
    assert mgnas.EHVISampler is EHVISampler
