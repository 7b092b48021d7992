"""A picture of a network, drawn from its config: resolution levels, channel levels, smoothing steps, shared operators.

The layout is a list of shapes; `to_svg` makes an SVG of them for a page or a file, `to_figure` a matplotlib figure.
Resolution levels lie below each other, the finest on top; within one, channel levels form a V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...models.config import ArchitectureConfig
from .style import make_figure

# Role -> (variable of the page, colour in print).
ROLES = {
    "ink": ("--ink", "#1f2328"),
    "soft": ("--soft", "#59636e"),
    "line": ("--edge", "#8a9299"),
    "band": ("--panel", "#f3f5f7"),
    "page": ("--page", "#ffffff"),
}
# Grouped levels from fine to coarse in a blue that fades, and what is fully coupled in vermilion: dark enough for white
# text, or light enough for black, and in an order that survives in grey.
_FINE = ("#08457e", "#1f6fae", "#5ba3d0", "#9cc9e3", "#cfe3f0", "#e6f0f7")
_FULL, _OTHER = "#b84700", "#5f6b76"

_BOX, _HEIGHT, _GAP, _ROW = 92, 38, 16, 56
_LEFT, _BAND_GAP, _TITLE = 140, 40, 26
_MOST_STEPS = 5


@dataclass(frozen=True)
class Box:
    """A rectangle with up to two lines of text; `fill` is a role or a colour."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    lines: tuple[str, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Label:
    """Text; `anchor` is start, middle or end."""

    x: float
    y: float
    text: str
    size: float = 12
    anchor: str = "start"
    role: str = "ink"
    bold: bool = False


@dataclass(frozen=True)
class Line:
    """A straight line, with a head at its end if it is an arrow."""

    x1: float
    y1: float
    x2: float
    y2: float
    arrow: bool = True
    dashed: bool = False


Shape = Box | Label | Line


@dataclass(frozen=True)
class Drawing:
    """Shapes from top left, in pixels."""

    shapes: list[Shape]
    width: float
    height: float
    title: str


def draw_architecture(config: ArchitectureConfig, image_size: int) -> Drawing:
    """The picture of a network.

    Args:
        config: the network.
        image_size: pixels per side of its images.
    """
    title, config = config.describe(), config.canonical()
    shapes: list[Shape] = [Label(8, 22, title, 14, bold=True)]
    y, right, size = 40.0, 0.0, image_size
    stem = f"{config.in_channels} → {config.channels[0]} channels"
    shapes.append(Box(_LEFT, y, 2 * _BOX, _HEIGHT, _OTHER, ("stem: 3x3, bn, ReLU", stem)))
    y += _HEIGHT
    for level, channels in enumerate(config.channels):
        if level:
            size = (size + 1) // 2
        word = "stage" if config.family in ("resnet", "mgic") else "level"
        shapes += _connection(config, level, y)
        y += _BAND_GAP
        content, width, height = _LEVELS[config.family](config, level, _LEFT + 14, y + _TITLE)
        shapes.append(Box(8, y, max(width + _LEFT + 22, 420), height + _TITLE + 14, "band"))
        shapes.append(Label(20, y + 24, f"{word} {level + 1}", 13, bold=True))
        shapes.append(Label(20, y + 42, f"{size} x {size} pixels", 11.5, role="soft"))
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
    widest = max(len(shape.text) * shape.size * 0.56 + shape.x for shape in shapes if isinstance(shape, Label))
    return Drawing(shapes, max(right, 436, widest), y + 12, title)


def _connection(config: ArchitectureConfig, level: int, y: float) -> Iterator[Shape]:
    """The arrow into a level, with what the transfer does."""
    yield Line(_LEFT + 40, y, _LEFT + 40, y + _BAND_GAP)
    if level == 0:
        return
    if config.family == "resnet":
        text = "stride 2, 1x1 shortcut"
    elif config.family == "mgic":
        text = "depthwise 3x3, stride 2, bn, ReLU"
    else:
        text = f"u' = Π u, r' = R r: {config.resolution_transfer}, stride 2"
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
    """What several boxes have in common, above them."""
    if len(boxes) > 1:
        left, right, y = boxes[0].x + 8, boxes[-1].x + boxes[-1].width - 8, boxes[0].y - 6
        yield Line(left, y, right, y, arrow=False)
        yield Label((left + right) / 2, y - 4, text, 11, "middle", "soft")


_Content = tuple[list[Shape], float, float]


def _mgnet_level(config: ArchitectureConfig, level: int, x: float, y: float) -> _Content:
    """Smoothing steps in a row, under the operators that they share."""
    steps, last = config.steps[level], level == len(config.channels) - 1
    shown = min(steps, _MOST_STEPS)
    boxes = []
    for step in range(shown):
        a = "A" if config.sharing != "none" else f"A{step + 1}"
        b = "B" if config.sharing == "AB" else f"B{step + 1}"
        has_a = not (last and steps == 1) and not (config.sharing == "none" and level == 0 and step == 0)
        operators = f"{a}, {b}" if has_a else b
        name = f"step {step + 1}" if steps <= _MOST_STEPS or step + 1 < shown else f"... step {steps}"
        boxes.append(Box(x + step * (_BOX + _GAP), y + 14, _BOX, _HEIGHT, _FULL, (name, operators)))
    shared = {"AB": "A and B shared", "A": "A shared, own B", "none": "own A and B"}[config.sharing]
    shapes = [*_bracket(boxes, shared), *_chain(boxes)]
    return shapes, shown * (_BOX + _GAP), 14 + _HEIGHT


def _mgiad_level(config: ArchitectureConfig, level: int, x: float, y: float) -> _Content:
    """The V over channel levels: down on the left, up on the right; the two sides of a level share A and B."""
    hierarchy, steps = config.channel_hierarchies[level], config.steps[level]

    def box(depth: int, column: int) -> Box:
        channels, coarsest = hierarchy[depth], depth == len(hierarchy) - 1
        count = 2 * steps if coarsest else steps
        kind = "full" if coarsest else f"g_s {min(config.group_size, channels)}"
        lines = (f"{count} x (A, B)", f"{channels} ch, {kind}")
        return Box(x + column * (_BOX + _GAP), y + depth * _ROW, _BOX, _HEIGHT, _fill(depth, coarsest), lines)

    return _cycle(hierarchy, box, "same A, B")


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
    shown = min(blocks, _MOST_STEPS)
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

_STEP = "A smoothing step: u ← u + ReLU(bn2(B ReLU(bn1(f - A u)))); bn1 and bn2 are its own."
_LEGENDS: dict[str, Callable[[ArchitectureConfig], list[str]]] = {
    "mgnet": lambda config: [_STEP],
    "mgiad": lambda config: [
        _STEP,
        "n x (A, B): n steps with one A and one B; blue: grouped convolutions, red: fully coupled.",
        f"Between channel levels: {config.channel_transfer} transfers, P' down and P up.",
    ],
    "mgic": lambda config: [
        "Down: grouped 1x1 convolutions R. Up: z = x + bn(P(y - R x)), P a grouped 1x1.",
        "k1, k2: y = ReLU(z + bn(k2 ReLU(bn(k1 z)))); blue: grouped 3x3, red: fully coupled.",
    ],
    "resnet": lambda config: ["A block: ReLU(shortcut(x) + bn(conv ReLU(bn(conv x))))."],
}


def _text_colour(fill: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "#10202f"


def to_svg(drawing: Drawing, themed: bool = False) -> str:
    """The drawing as an SVG element.

    Args:
        drawing: the shapes.
        themed: take colours from the page's variables; else those of print.
    """

    def colour(role: str) -> str:
        if role not in ROLES:
            return role
        variable, printed = ROLES[role]
        return f"var({variable})" if themed else printed

    def svg(shape: Shape) -> str:
        if isinstance(shape, Label):
            weight = ' font-weight="600"' if shape.bold else ""
            place = f'x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"'
            return f'<text {place} fill="{colour(shape.role)}"{weight}>{escape(shape.text)}</text>'
        if isinstance(shape, Line):
            dash = ' stroke-dasharray="4 3"' if shape.dashed else ""
            ends = f'x1="{shape.x1:g}" y1="{shape.y1:g}" x2="{shape.x2:g}" y2="{shape.y2:g}"'
            line = f'<line {ends} stroke="{colour("line")}" stroke-width="1.4"{dash}/>'
            return line + (f'<path d="{_head(shape)}" fill="{colour("line")}"/>' if shape.arrow else "")
        edge = "" if shape.fill in ("band",) else f' stroke="{colour("line")}"'
        place = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}" rx="6"'
        parts = [f'<rect {place} fill="{colour(shape.fill)}"{edge}/>']
        ink = colour("ink") if shape.fill in ROLES else _text_colour(shape.fill)
        for index, text in enumerate(shape.lines):
            at = f'x="{shape.x + shape.width / 2:g}" y="{shape.y + 16 + 15 * index:g}"'
            parts.append(f'<text {at} font-size="11.5" text-anchor="middle" fill="{ink}">{escape(text)}</text>')
        return "".join(parts)

    size = f'viewBox="0 0 {drawing.width:.0f} {drawing.height:.0f}"'
    fixed = "" if themed else f' width="{drawing.width:.0f}" height="{drawing.height:.0f}"'
    background = "" if themed else f'<rect width="100%" height="100%" fill="{ROLES["page"][1]}"/>'
    font = "font-family=\"system-ui, 'DejaVu Sans', Arial, sans-serif\""
    title = f"<title>{escape(drawing.title)}</title>"
    shapes = "".join(map(svg, drawing.shapes))
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}{fixed} {font}>{title}{background}{shapes}</svg>'


def _head(line: Line) -> str:
    """The triangle at the end of an arrow."""
    dx, dy = line.x2 - line.x1, line.y2 - line.y1
    length = max((dx * dx + dy * dy) ** 0.5, 1e-9)
    ux, uy = dx / length, dy / length
    back = (line.x2 - 7 * ux, line.y2 - 7 * uy)
    corners = [(line.x2, line.y2), (back[0] - 3.5 * uy, back[1] + 3.5 * ux), (back[0] + 3.5 * uy, back[1] - 3.5 * ux)]
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"


def to_figure(drawing: Drawing) -> Figure:
    """The drawing as a matplotlib figure, 100 pixels an inch."""
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

    def colour(role: str) -> str:
        return ROLES[role][1] if role in ROLES else role

    def add(axes: Axes, shape: Shape, level: int) -> None:
        if isinstance(shape, Label):
            place = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
            weight = "bold" if shape.bold else "normal"
            text = {"fontsize": shape.size * 0.72, "ha": place, "color": colour(shape.role), "weight": weight}
            axes.text(shape.x, shape.y, shape.text, zorder=level, **text)
        elif isinstance(shape, Line):
            style = "-|>,head_length=4,head_width=2" if shape.arrow else "-"
            dash = (0, (4, 3)) if shape.dashed else "-"
            look = {"color": colour("line"), "linestyle": dash, "lw": 1, "shrinkA": 0, "shrinkB": 0}
            axes.add_patch(
                FancyArrowPatch((shape.x1, shape.y1), (shape.x2, shape.y2), arrowstyle=style, zorder=level, **look)
            )
        else:
            edge = "none" if shape.fill == "band" else colour("line")
            look = {"boxstyle": "round,pad=0,rounding_size=6", "fc": colour(shape.fill), "ec": edge, "lw": 0.8}
            axes.add_patch(FancyBboxPatch((shape.x, shape.y), shape.width, shape.height, zorder=level, **look))
            ink = colour("ink") if shape.fill in ROLES else _text_colour(shape.fill)
            for index, text in enumerate(shape.lines):
                at = (shape.x + shape.width / 2, shape.y + 16 + 15 * index)
                axes.text(*at, text, fontsize=8, ha="center", color=ink, zorder=level + 0.5)

    def draw(axes: Axes) -> None:
        axes.set_xlim(0, drawing.width)
        axes.set_ylim(drawing.height, 0)
        axes.set_aspect("equal")
        axes.axis("off")
        for level, shape in enumerate(drawing.shapes, start=1):
            add(axes, shape, level)

    return make_figure(draw, drawing.width / 100, drawing.height / 100)
