import xml.etree.ElementTree as ElementTree

import pytest

from mgnas.reports.figures.svg import ROLES, Box, Drawing, Label, Line, to_svg

DRAWING = Drawing(
    [
        Box(10, 20, 80, 40, "#08457e", ("a < b", "second")),
        Box(10, 80, 80, 40, "#cfe3f0", ("pale",)),
        Box(0, 0, 100, 130, "band"),
        Label(50, 10, "bold & centred", anchor="middle", role="soft", bold=True),
        Line(50, 60, 50, 80),
        Line(0, 5, 100, 5, arrow=False, dashed=True),
    ],
    100,
    130,
    "a <title>",
)


def elements(svg, tag):
    return list(ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{tag}"))


def test_text_is_escaped_and_placed():
    texts = elements(to_svg(DRAWING), "text")
    assert [text.text for text in texts] == ["a < b", "second", "pale", "bold & centred"]
    assert [text.get("x") for text in texts] == ["50", "50", "50", "50"]
    assert texts[3].get("text-anchor") == "middle"
    assert elements(to_svg(DRAWING), "title")[0].text == "a <title>"


def test_text_is_white_on_dark_fills_and_dark_on_pale_ones():
    first, _, third, _ = elements(to_svg(DRAWING), "text")
    assert (first.get("fill"), third.get("fill")) == ("#ffffff", "#10202f")


def test_only_arrows_have_heads_and_the_head_ends_where_the_line_does():
    lines, (head,) = elements(to_svg(DRAWING), "line"), elements(to_svg(DRAWING), "path")
    assert len(lines) == 2
    # A triangle 7 high and 7 wide, its tip at the end of the line, which runs downwards.
    assert head.get("d") == "M50.0 80.0L46.5 73.0L53.5 73.0Z"
    assert [line.get("stroke-dasharray") for line in lines] == [None, "4 3"]


@pytest.mark.parametrize("themed", [False, True])
def test_colours_are_the_pages_or_those_of_print(themed):
    svg = to_svg(DRAWING, themed)
    for role in ("soft", "line", "band"):
        variable, printed = ROLES[role]
        assert (f"var({variable})" in svg) is themed
        assert (printed in svg) is not themed
    # In a page the size is the page's; a file has its own size and a background.
    assert ("width" in ElementTree.fromstring(svg).attrib) is not themed
    assert len(elements(svg, "rect")) == (3 if themed else 4)
