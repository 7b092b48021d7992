"""mgnas: multigrid CNN architectures with the best accuracy at the fewest weights."""

from importlib.metadata import version

__version__ = version("mgnas")
