"""Drawings: lists of shapes, and their text as SVG for a page or a file."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

ROLES = {
    "ink": ("--ink", "#1f2328"),
    "soft": ("--soft", "#59636e"),
    "line": ("--edge", "#8a9299"),
    "band": ("--panel", "#f3f5f7"),
    "page": ("--page", "#ffffff"),
}
"""Role of a colour -> the page's variable, and the colour in print."""


@dataclass(frozen=True)
class Box:
    """A rectangle with up to two lines of text; `fill` is a role or a colour."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    lines: tuple[str, ...] = ()


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
    """Shapes, later ones above earlier ones. All lengths are pixels, from the top left corner."""

    shapes: list[Shape]
    width: float
    height: float
    title: str


def _text_colour(fill: str) -> str:
    """White on a dark fill, nearly black on a light one."""
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "#10202f"


def to_svg(drawing: Drawing, themed: bool = False) -> str:
    """The drawing as an SVG element.

    Args:
        drawing: what to show.
        themed: whether colours are the page's variables, and the size is left to the page; default: those of print.
    """

    def colour(role: str) -> str:
        if role not in ROLES:
            return role
        variable, printed = ROLES[role]
        return f"var({variable})" if themed else printed

    def svg(shape: Shape) -> str:
        if isinstance(shape, Label):
            weight = ' font-weight="600"' if shape.bold else ""
            layout = f'x="{shape.x:g}" y="{shape.y:g}" font-size="{shape.size:g}" text-anchor="{shape.anchor}"'
            return f'<text {layout} fill="{colour(shape.role)}"{weight}>{escape(shape.text)}</text>'
        if isinstance(shape, Line):
            dash = ' stroke-dasharray="4 3"' if shape.dashed else ""
            ends = f'x1="{shape.x1:g}" y1="{shape.y1:g}" x2="{shape.x2:g}" y2="{shape.y2:g}"'
            line = f'<line {ends} stroke="{colour("line")}" stroke-width="1.4"{dash}/>'
            return line + (f'<path d="{_head(shape)}" fill="{colour("line")}"/>' if shape.arrow else "")
        edge = "" if shape.fill == "band" else f' stroke="{colour("line")}"'
        layout = f'x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}" height="{shape.height:g}" rx="6"'
        parts = [f'<rect {layout} fill="{colour(shape.fill)}"{edge}/>']
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
