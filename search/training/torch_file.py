"""Reading files that torch.save has written, and what it raises for others."""

from __future__ import annotations

import os
import pickle
import struct
import warnings
from typing import Any
from zipfile import BadZipFile, is_zipfile

import torch

# What torch.load and load_state_dict raise for a file that is truncated, garbled, or of another network.
UNREADABLE = (AssertionError, OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError)
UNREADABLE += (OverflowError, pickle.UnpicklingError, BadZipFile, struct.error)


def read_torch_file(path: str | os.PathLike, device: str | torch.device) -> Any:
    """What `torch.save` has written into a file, read without running any code in it.

    Args:
        path: the file.
        device: that gets its tensors.

    Raises:
        an error of UNREADABLE: the file is missing, damaged, or of another kind.
    """
    # Anything else torch would take for a pickle of its early versions.
    if not is_zipfile(path):
        raise ValueError("not written by torch.save")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location=device, weights_only=True)
