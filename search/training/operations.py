"""The operations of a policy, on a batch of images on its device.

The images are grouped by their operation. The results are those of torchvision's functions on single images, bit for
bit, because the tables are made by these functions: operations that move pixels are tables of where each pixel comes
from, and operations that change each value by itself are tables of the new values. All images of such a group change
together, whatever the strength. The other operations are called for all images of the same strength.

NOTE: torchvision's sharpness copies its kernel to the device in every call, so the host waits for a GPU there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from .policy import Operation, Policy

_Function = Callable[[Tensor], Tensor]


class PolicyOperations:
    """Applies operations of a policy to a batch.

    Args:
        policy: whose operations.
        size: pixels per side of the images.
        device: the device of the images.
    """

    def __init__(self, policy: Policy, size: int, device: torch.device) -> None:
        self._functions = [function_of(operation) for operation in policy.operations]
        self._kinds = [operation.kind for operation in policy.operations]
        # Row of each code in the table of its kind.
        rows, sources, values = [], [_sources(lambda image: image, size)], [torch.arange(256, dtype=torch.uint8)]
        for kind, function in zip(self._kinds, self._functions, strict=True):
            table = {"moving": sources, "tonal": values}.get(kind)
            rows.append(0 if table is None else len(table))
            if table is sources:
                sources.append(_sources(function, size))
            elif table is values:
                values.append(function(values[0].view(1, 1, 256)).flatten())
        self._rows = torch.tensor(rows, device=device)
        self._sources, self._values = torch.stack(sources).to(device), torch.stack(values).to(device)

    def __call__(self, images: Tensor, order: Tensor, codes: Tensor, host_codes: Tensor) -> Tensor:
        """The images after their operations: uint8, n x c x h x w.

        Args:
            images: uint8, n x c x h x w, on the device.
            order: int64, n, on the device: the images by their codes.
            codes: int64, n, on the device: the codes in that order, ascending.
            host_codes: the same on the CPU.
        """
        changed, start = images[order], 0
        present, counts = (tensor.tolist() for tensor in host_codes.unique_consecutive(return_counts=True))
        groups: list[tuple[str, int, int, int]] = []
        for code, count in zip(present, counts, strict=True):
            kind, stop = self._kinds[code], start + count
            if groups and kind == groups[-1][0] and kind in ("moving", "tonal"):
                groups[-1] = (kind, code, groups[-1][2], stop)
            else:
                groups.append((kind, code, start, stop))
            start = stop
        for kind, code, start, stop in groups:
            if kind == "moving":
                changed[start:stop] = self._moved(changed[start:stop], codes[start:stop])
            elif kind == "tonal":
                changed[start:stop] = self._toned(changed[start:stop], codes[start:stop])
            elif code:
                changed[start:stop] = self._functions[code](changed[start:stop])
        return torch.empty_like(changed).index_copy_(0, order, changed)

    def _moved(self, images: Tensor, codes: Tensor) -> Tensor:
        # Source 0 is a black pixel.
        pixels = torch.nn.functional.pad(images.flatten(2), (1, 0))
        sources = self._sources[self._rows[codes]].long()[:, None].expand(-1, images.shape[1], -1)
        return pixels.gather(2, sources).view(images.shape)

    def _toned(self, images: Tensor, codes: Tensor) -> Tensor:
        return self._values[self._rows[codes]].gather(1, images.flatten(1).long()).view(images.shape)


def _sources(function: _Function, size: int) -> Tensor:
    """Where an operation takes each pixel from: int32, size * size. Pixels count from 1; 0 is outside the image."""
    numbers = torch.arange(1, size * size + 1, dtype=torch.float32).view(1, size, size)
    return function(numbers).flatten().int()


def function_of(operation: Operation) -> _Function:
    """torchvision's function for an operation, as its policies call it: n x c x h x w -> n x c x h x w."""
    name, magnitude = operation.name, operation.magnitude
    degrees, shift = math.degrees(math.atan(magnitude)), int(magnitude)
    functions: dict[str, _Function] = {
        "Identity": lambda images: images,
        "ShearX": partial(F.affine, angle=0.0, translate=[0, 0], scale=1.0, shear=[degrees, 0.0], center=[0, 0]),
        "ShearY": partial(F.affine, angle=0.0, translate=[0, 0], scale=1.0, shear=[0.0, degrees], center=[0, 0]),
        "TranslateX": partial(F.affine, angle=0.0, translate=[shift, 0], scale=1.0, shear=[0.0, 0.0]),
        "TranslateY": partial(F.affine, angle=0.0, translate=[0, shift], scale=1.0, shear=[0.0, 0.0]),
        "Rotate": partial(F.rotate, angle=magnitude),
        "Brightness": partial(F.adjust_brightness, brightness_factor=1.0 + magnitude),
        "Color": partial(F.adjust_saturation, saturation_factor=1.0 + magnitude),
        "Contrast": partial(F.adjust_contrast, contrast_factor=1.0 + magnitude),
        "Sharpness": partial(F.adjust_sharpness, sharpness_factor=1.0 + magnitude),
        "Posterize": partial(F.posterize, bits=int(magnitude)),
        "Solarize": partial(F.solarize, threshold=255 * magnitude),
        "AutoContrast": F.autocontrast,
        "Equalize": F.equalize,
        "Invert": F.invert,
    }
    return functions[name]
