"""A picture of a network, drawn from its config: resolution levels, channel levels, smoothing steps, shared operators.

Resolution levels lie below each other, the finest on top; within one, channel levels form a V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from ...models.config import ArchitectureConfig
from .svg import Box, Drawing, Label, Line, Shape

# Grouped levels are blue, paler from fine to coarse; what is fully coupled is vermilion. Every colour is dark enough
# for white text or light enough for black, and they keep their order in grey.
_FINE = ("#08457e", "#1f6fae", "#5ba3d0", "#9cc9e3", "#cfe3f0", "#e6f0f7")
_FULL, _OTHER = "#b84700", "#5f6b76"

_BOX, _HEIGHT, _GAP, _ROW = 92, 38, 16, 56
_LEFT, _BAND_GAP, _TITLE = 140, 40, 26
_MAX_STEPS = 5


def draw_architecture(config: ArchitectureConfig, image_size: int) -> Drawing:
    """The picture of a network.

    Args:
        config: the network.
        image_size: pixels per side of its images.
    """
    title, config = config.describe(), config.canonical()
    shapes: list[Shape] = [Label(8, 22, title, 14, bold=True)]
    y, right, sizes = 40.0, 0.0, config.level_sizes(image_size)
    kernel, stride = config.stem_kernel, f", stride {config.stem_stride}" if config.stem_stride > 1 else ""
    stem = f"{config.in_channels} → {config.channels[0]} channels"
    shapes.append(Box(_LEFT, y, 2 * _BOX, _HEIGHT, _OTHER, (f"stem: {kernel}x{kernel}{stride}, bn, ReLU", stem)))
    y += _HEIGHT
    for level, channels in enumerate(config.channels):
        word = "stage" if config.family in ("resnet", "mgic") else "level"
        shapes += _connection(config, level, y)
        y += _BAND_GAP
        content, width, height = _LEVELS[config.family](config, level, _LEFT + 14, y + _TITLE)
        shapes.append(Box(8, y, max(width + _LEFT + 22, 420), height + _TITLE + 14, "band"))
        shapes.append(Label(20, y + 24, f"{word} {level + 1}", 13, bold=True))
        shapes.append(Label(20, y + 42, f"{sizes[level]} x {sizes[level]} pixels", 11.5, role="soft"))
        shapes.append(Label(20, y + 58, f"{channels} channels", 11.5, role="soft"))
        shapes += content
        right = max(right, width + _LEFT + 30)
        y += height + _TITLE + 14
    shapes.append(Line(_LEFT + 40, y, _LEFT + 40, y + 22))
    head = f"{config.channels[-1]} → {config.num_classes} classes"
    shapes.append(Box(_LEFT, y + 22, 2 * _BOX, _HEIGHT, _OTHER, ("head: average, linear", head)))
    y += 22 + _HEIGHT + 14
    for line in _LEGENDS[config.family](config):
        y += 17
        shapes.append(Label(8, y, line, 11.5, role="soft"))
    widest = max(_right_end(shape) for shape in shapes if isinstance(shape, Label))
    return Drawing(shapes, max(right, 436, widest), y + 12, title)


def _right_end(label: Label) -> float:
    """Where a label ends at the latest, in the widest of the fonts that pages are shown in (DejaVu Sans)."""
    return label.x + len(label.text) * label.size * (0.7 if label.bold else 0.6)


def _connection(config: ArchitectureConfig, level: int, y: float) -> Iterator[Shape]:
    """The arrow into a level; into all but the first, a label says how the transfer works."""
    yield Line(_LEFT + 40, y, _LEFT + 40, y + _BAND_GAP)
    if level == 0:
        return
    if config.family == "resnet":
        text = "stride 2, 1x1 shortcut"
    elif config.family == "mgic":
        text = "depthwise 3x3, stride 2, bn, ReLU"
    else:
        residual = "ReLU(r)" if config.residual_activation else "r"
        text = f"u' = Π u, r' = R {residual}: {config.resolution_transfer}, stride 2"
    yield Label(_LEFT + 50, y + _BAND_GAP / 2 + 4, text, 11.5, role="soft")


def _fill(depth: int, coarsest: bool) -> str:
    return _FULL if coarsest else _FINE[min(depth, len(_FINE) - 1)]


def _chain(boxes: Sequence[Box]) -> Iterator[Shape]:
    """Boxes in a row, with arrows between them."""
    for before, after in pairwise(boxes):
        middle = before.y + before.height / 2
        yield Line(before.x + before.width, middle, after.x, middle)
    yield from boxes


def _bracket(boxes: Sequence[Box], text: str) -> Iterator[Shape]:
    """A line above several boxes, with a text that holds for all of them; nothing above a single box."""
    if len(boxes) > 1:
        left, right, y = boxes[0].x + 8, boxes[-1].x + boxes[-1].width - 8, boxes[0].y - 6
        yield Line(left, y, right, y, arrow=False)
        yield Label((left + right) / 2, y - 4, text, 11, "middle", "soft")


_Content = tuple[list[Shape], float, float]  # Shapes of a level, their width, their height.


def _mgnet_level(config: ArchitectureConfig, level: int, x: float, y: float) -> _Content:
    """Smoothing steps in a row, below the names of the operators that they share."""
    steps, last = config.steps[level], level == len(config.channels) - 1
    shown = min(steps, _MAX_STEPS)
    boxes = []
    for step in range(shown):
        if config.degree is None:
            a = "A" if config.sharing != "none" else f"A{step + 1}"
            b = "B" if config.sharing == "AB" else f"B{step + 1}"
            has_a = not (last and steps == 1) and not (config.sharing == "none" and level == 0 and step == 0)
            operators = f"{a}, {b}" if has_a else b
        else:
            operators = f"p{step + 1}(A)" if config.degree else "A, no B"
        name = f"step {step + 1}" if steps <= _MAX_STEPS or step + 1 < shown else f"... step {steps}"
        boxes.append(Box(x + step * (_BOX + _GAP), y + 14, _BOX, _HEIGHT, _FULL, (name, operators)))
    shared = {"AB": "A and B shared", "A": "A shared, own B", "none": "own A and B"}[config.sharing]
    if config.degree is not None:
        shared = "A shared, own coefficients" if config.degree else "A shared"
    shapes = [*_bracket(boxes, shared), *_chain(boxes)]
    return shapes, shown * (_BOX + _GAP), 14 + _HEIGHT


def _mgiad_level(config: ArchitectureConfig, level: int, x: float, y: float) -> _Content:
    """The V over channel levels: down on the left, up on the right; the two sides of a level share A and B."""
    hierarchy, steps = config.channel_hierarchies[level], config.steps[level]
    operators = "A, B" if config.degree is None else "p(A)" if config.degree else "A, no B"

    def box(depth: int, column: int) -> Box:
        channels, coarsest = hierarchy[depth], depth == len(hierarchy) - 1
        count = 2 * steps if coarsest else steps
        kind = "full" if coarsest else f"g_s {min(config.group_size, channels)}"
        lines = (f"{count} x ({operators})", f"{channels} ch, {kind}")
        return Box(x + column * (_BOX + _GAP), y + depth * _ROW, _BOX, _HEIGHT, _fill(depth, coarsest), lines)

    return _cycle(hierarchy, box, "same A, B" if config.degree is None else "same A")


def _mgic_level(config: ArchitectureConfig, level: int, x: float, y: float) -> _Content:
    """One block's V: restrictions on the left, smoothers on the right."""
    hierarchy = config.channel_hierarchies[level]

    def box(depth: int, column: int) -> Box:
        channels, coarsest = hierarchy[depth], depth == len(hierarchy) - 1
        kind = "full" if coarsest else f"g {min(config.group_size, channels)}"
        restricts = column < len(hierarchy) - 1
        lines = ("x", f"{channels} ch") if restricts else ("k1, k2", f"{channels} ch, {kind}")
        fill = "page" if restricts else _fill(depth, coarsest)
        return Box(x + column * (_BOX + _GAP), y + 14 + depth * _ROW, _BOX, _HEIGHT, fill, lines)

    shapes, width, height = _cycle(hierarchy, box, "x added")
    blocks = config.stage_blocks[level]
    text = "one block" if blocks == 1 else f"{blocks} such blocks, one after the other"
    times = Label(x, y + 4, text, 11, role="soft")
    return [times, *shapes], width, height + 14


def _cycle(hierarchy: tuple[int, ...], box: Callable[[int, int], Box], across: str) -> _Content:
    """A V of boxes.

    Args:
        hierarchy: channels of each channel level, the finest first.
        box: (channel level, column) -> a box.
        across: what the two boxes of a level have in common.
    """
    deepest = len(hierarchy) - 1
    path = [box(depth, depth) for depth in range(deepest + 1)]
    path += [box(depth, 2 * deepest - depth) for depth in reversed(range(deepest))]
    shapes: list[Shape] = []
    for depth in range(deepest):
        left, right = path[depth], path[2 * deepest - depth]
        middle = left.y + _HEIGHT / 2
        shapes.append(Line(left.x + _BOX, middle, right.x, middle, arrow=False, dashed=True))
        shapes.append(Label((left.x + _BOX + right.x) / 2, middle - 5, across, 10.5, "middle", "soft"))
    for before, after in pairwise(path):
        if after.y > before.y:
            shapes.append(Line(before.x + _BOX - 12, before.y + _HEIGHT, after.x + 12, after.y))
        else:
            shapes.append(Line(before.x + _BOX - 12, before.y, after.x + 12, after.y + _HEIGHT))
    return [*shapes, *path], (2 * deepest + 1) * (_BOX + _GAP), deepest * _ROW + _HEIGHT


def _resnet_level(config: ArchitectureConfig, level: int, x: float, y: float) -> _Content:
    """Residual blocks in a row."""
    blocks = config.stage_blocks[level]
    shown = min(blocks, _MAX_STEPS)
    channels = config.channels[level]
    names = [f"block {i + 1}" for i in range(shown)]
    if blocks > shown:
        names[-1] = f"... block {blocks}"
    boxes = [
        Box(x + i * (_BOX + _GAP), y, _BOX, _HEIGHT, _FULL, (name, f"2 x 3x3, {channels} ch"))
        for i, name in enumerate(names)
    ]
    return list(_chain(boxes)), shown * (_BOX + _GAP), _HEIGHT


_LEVELS = {"mgnet": _mgnet_level, "mgiad": _mgiad_level, "mgic": _mgic_level, "resnet": _resnet_level}


def _step(config: ArchitectureConfig) -> list[str]:
    """What a smoothing step computes."""
    if config.degree is None:
        return ["A smoothing step: u ← u + ReLU(bn2(B ReLU(bn1(f - A u)))); bn1 and bn2 are its own."]
    if config.degree == 0:
        return ["A smoothing step: u ← u + ReLU(bn2(ReLU(bn1(f - A u)))); bn1 and bn2 are its own."]
    powers = " + ".join(f"c{j} A{_POWERS[j]}" for j in range(1, config.degree + 1))
    return [
        "A smoothing step: u ← u + ReLU(bn2(p(A) ReLU(bn1(f - A u))));",
        f"p(A) = 1 + {powers}; bn1, bn2 and the coefficients of p are its own.",
    ]


_POWERS = ("", "", "²", "³")


def _grouped(config: ArchitectureConfig) -> str:
    """What the colours of an MGiaD's boxes stand for."""
    if config.kernel_size == 3:
        return "blue: grouped convolutions, red: fully coupled."
    return f"blue: grouped {config.kernel_size}x{config.kernel_size} convolutions, red: fully coupled 3x3 ones."


_LEGENDS: dict[str, Callable[[ArchitectureConfig], list[str]]] = {
    "mgnet": _step,
    "mgiad": lambda config: [
        *_step(config),
        ("n x (A, B): n steps with one A and one B; " if config.degree is None else "n x: n steps with one A; ")
        + _grouped(config),
        f"Between channel levels: {config.channel_transfer} transfers, P' down and P up.",
    ],
    "mgic": lambda config: [
        "Down: grouped 1x1 convolutions R. Up: z = x + bn(P(y - R x)), P a grouped 1x1.",
        "k1, k2: y = ReLU(z + bn(k2 ReLU(bn(k1 z)))); blue: grouped 3x3, red: fully coupled.",
    ],
    "resnet": lambda config: ["A block: ReLU(shortcut(x) + bn(conv ReLU(bn(conv x))))."],
}
