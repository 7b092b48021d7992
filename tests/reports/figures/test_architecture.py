import re

import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from mgnas.models.config import ArchitectureConfig
from mgnas.reports.figures.architecture import draw_architecture
from mgnas.reports.figures.svg import Box, Label, Line
from mgnas.space.published import PUBLISHED


def boxes(drawing):
    return [shape for shape in drawing.shapes if isinstance(shape, Box) and shape.lines]


def smoothers(drawing):
    """Of each smoother box: how many steps on how many channels, grouped how."""
    found = [re.findall(r"(\d+) x \(A, B\)|(\d+) ch, (.*)", " ".join(box.lines)) for box in boxes(drawing)]
    return [(int(pair[0][0]), int(pair[1][1]), pair[1][2]) for pair in found if len(pair) == 2]


def test_a_mgiad_level_is_a_v_over_its_channel_levels():
    config = ArchitectureConfig(family="mgiad", base_channels=(32,), group_size=4, smoothing_steps=3)
    drawing = draw_architecture(config, 16)
    assert smoothers(drawing) == [
        (3, 32, "g_s 4"),
        (3, 16, "g_s 4"),
        (6, 8, "full"),
        (3, 16, "g_s 4"),
        (3, 32, "g_s 4"),
    ]
    v = [box for box in boxes(drawing) if "(A, B)" in box.lines[0]]
    assert [box.x for box in v] == sorted(box.x for box in v)
    depths = [box.y for box in v]
    assert depths[0] == depths[4] < depths[1] == depths[3] < depths[2]
    # Both sides of a level share A and B: a dashed line joins them, but for the coarsest.
    assert sum(isinstance(shape, Line) and shape.dashed for shape in drawing.shapes) == 2


@pytest.mark.parametrize(
    ("sharing", "steps"),
    [
        ("AB", [("A, B", "A, B", "A, B"), ("A, B", "A, B", "A, B")]),
        ("A", [("A, B1", "A, B2", "A, B3"), ("A, B1", "A, B2", "A, B3")]),
        # u = 0 before the first step of the finest level, which has no A there.
        ("none", [("B1", "A2, B2", "A3, B3"), ("A1, B1", "A2, B2", "A3, B3")]),
    ],
)
def test_mgnet_steps_name_what_they_share(sharing, steps):
    config = ArchitectureConfig(family="mgnet", base_channels=(8, 16), smoothing_steps=3, sharing=sharing)
    operators = [box.lines[1] for box in boxes(draw_architecture(config, 32)) if box.lines[0].startswith("step")]
    assert operators == [operator for level in steps for operator in level]


def texts(drawing):
    return " ".join(shape.text for shape in drawing.shapes if hasattr(shape, "text"))


@pytest.mark.parametrize(
    ("degree", "operators", "law"),
    [
        (0, "A, no B", "u ← u + ReLU(bn2(ReLU(bn1(f - A u))))"),
        (1, "p1(A)", "p(A) = 1 + c1 A;"),
        (3, "p1(A)", "p(A) = 1 + c1 A + c2 A² + c3 A³;"),
    ],
)
def test_polynomial_steps_name_their_polynomial(degree, operators, law):
    settings = {"smoother": "polynomial", "polynomial_degree": degree}
    drawing = draw_architecture(ArchitectureConfig(family="mgnet", base_channels=(8, 16), **settings), 32)
    assert next(box.lines[1] for box in boxes(drawing) if box.lines[0] == "step 1") == operators
    assert law in texts(drawing)
    assert "A and B" not in texts(drawing)


def test_a_mgiad_with_polynomials_has_no_b():
    config = ArchitectureConfig(family="mgiad", base_channels=(16,), smoother="polynomial", polynomial_degree=2)
    drawing = draw_architecture(config, 32)
    assert [box.lines[0] for box in boxes(drawing)[1:-1]] == ["2 x (p(A))", "4 x (p(A))", "2 x (p(A))"]
    assert "p(A) = 1 + c1 A + c2 A²;" in texts(drawing)


def test_wide_kernels_of_grouped_levels_are_named():
    config = ArchitectureConfig(family="mgiad", base_channels=(32,), kernel_size=7)
    assert "blue: grouped 7x7 convolutions, red: fully coupled 3x3 ones." in texts(draw_architecture(config, 32))


@pytest.mark.parametrize(("activation", "shown"), [(True, "r' = R ReLU(r)"), (False, "r' = R r")])
def test_the_transfer_says_whether_the_residual_is_activated(activation, shown):
    config = ArchitectureConfig(family="mgnet", base_channels=(8, 16), residual_activation=activation)
    assert shown in texts(draw_architecture(config, 32))


def test_every_stage_shows_its_own_blocks():
    resnet = ArchitectureConfig(family="resnet", base_channels=(8, 16, 32), blocks=(1, 2, 1))
    names = [box.lines[0] for box in boxes(draw_architecture(resnet, 32)) if box.lines[0].startswith("block")]
    assert names == ["block 1", "block 1", "block 2", "block 1"]
    mgic = ArchitectureConfig(family="mgic", base_channels=(16, 32), blocks=(1, 3))
    texts = [shape.text for shape in draw_architecture(mgic, 32).shapes if hasattr(shape, "text")]
    assert [text for text in texts if text.endswith(("one block", "other"))] == [
        "one block",
        "3 such blocks, one after the other",
    ]


def test_resolution_levels_halve_the_image():
    config = ArchitectureConfig(family="resnet", base_channels=(8, 16, 32))
    texts = " ".join(shape.text for shape in draw_architecture(config, 28).shapes if hasattr(shape, "text"))
    assert all(f"{size} x {size} pixels" in texts for size in (28, 14, 7))


def test_a_strided_stem_divides_the_image():
    drawing = draw_architecture(ArchitectureConfig(family="resnet", base_channels=(8, 16), stem_stride=4), 97)
    assert boxes(drawing)[0].lines[0] == "stem: 5x5, stride 4, bn, ReLU"
    assert all(f"{size} x {size} pixels" in texts(drawing) for size in (25, 13))


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row.name)
def test_every_published_network_fits_its_frame(row):
    drawing = draw_architecture(row.config, 32)
    for shape in drawing.shapes:
        if isinstance(shape, Box):
            assert shape.x >= 0
            assert shape.x + shape.width <= drawing.width
            assert shape.y + shape.height <= drawing.height


def test_boxes_of_a_level_do_not_overlap():
    config = ArchitectureConfig(family="mgic", base_channels=(32, 64), group_size=4)
    placed = boxes(draw_architecture(config, 32))
    for index, one in enumerate(placed):
        for other in placed[index + 1 :]:
            apart_x = one.x + one.width <= other.x or other.x + other.width <= one.x
            apart_y = one.y + one.height <= other.y or other.y + other.height <= one.y
            assert apart_x or apart_y


@pytest.mark.parametrize("channels", [(8,), (8, 16)])
def test_the_title_and_the_legend_end_within_the_picture(channels):
    """In the font that browsers show on Linux, which is wider than those of other systems."""
    drawing = draw_architecture(ArchitectureConfig(family="mgiad", base_channels=channels, group_size=2), 8)
    for label in drawing.shapes:
        if isinstance(label, Label):
            font = FontProperties(family="DejaVu Sans", weight="bold" if label.bold else "normal")
            width = TextPath((0, 0), label.text, size=label.size, prop=font).get_extents().x1
            assert label.x + width <= drawing.width
