"""The `mgnas` command."""

from .main import main

__all__ = ["main"]
