"""The `mgnas` command. It imports mgnas as any program does, by absolute names."""

from .main import main

__all__ = ["main"]
