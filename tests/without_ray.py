"""Python for tests of what must run on a machine that has torch and little else."""

import os
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What such a machine has or is brought: see benchmarks/README.md.
_THERE = {"click", "filelock", "fsspec", "numpy", "pillow", "pydantic", "pyyaml", "scikit-learn", "scipy", "torch"}
_THERE |= {"torchvision"}
_HIDE = """
import sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *arguments):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, *arguments)

sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
"""


def environment_without_ray(folder: Path) -> dict[str, str]:
    """Environment variables of a Python that cannot import mgnas's dependencies but those that such a machine has."""
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {dependency.partition(">")[0].partition("[")[0] for dependency in needed}
    hidden = sorted(names - _THERE)
    assert {"ray", "optuna", "pandas", "matplotlib"} <= set(hidden)
    (folder / "sitecustomize.py").write_text(f"HIDDEN = {hidden}\n{_HIDE}")
    return os.environ | {"PYTHONPATH": str(folder)}
