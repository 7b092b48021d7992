import re
import xml.etree.ElementTree as ElementTree

from mgnas.reports.figures.style import FRONT, TEXT, inlined, log_weights, make_figure, save_figure, series


def figure():
    def draw(axes):
        axes.plot([1, 10], [1, 2], color=FRONT)
        axes.set_title("a title")

    return make_figure(draw, 4, 3)


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        save_figure(figure(), tmp_path / name)
    for suffix in (".png", ".svg"):
        assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")


def test_inlined_figures_have_ids_of_their_own_and_the_colours_of_the_page(tmp_path):
    save_figure(figure(), tmp_path / "figure")
    text = (tmp_path / "figure.svg").read_text()
    element = inlined(text, "front")
    root = ElementTree.fromstring(element)
    ids = {node.get("id") for node in root.iter() if node.get("id")}
    assert ids
    assert all(name.startswith("front-") for name in ids)
    assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", element)) <= ids
    assert (FRONT.lower() in text, TEXT in text) == (True, True)
    assert (FRONT.lower() in element.lower(), TEXT in element) == (False, False)
    assert "var(--accent)" in element


def test_series_differ_in_colour_and_in_marker():
    looks = [series(index) for index in range(8)]
    assert len({look["color"] for look in looks}) == len({look["marker"] for look in looks}) == 8
    assert series(8) == series(0)


def test_ticks_of_weights_are_denser_on_a_short_axis():
    def labels(heaviest):
        def draw(axes):
            axes.plot([1000, heaviest], [0, 1])
            log_weights(axes, "weights")

        drawn = make_figure(draw, 8, 3)
        drawn.canvas.draw()
        return [text.get_text() for text in drawn.axes[0].get_xticklabels()]

    assert {"1k", "2k", "5k", "10k"} <= set(labels(10_000))
    assert {"1k", "3k", "10k", "1M"} <= set(labels(1_000_000))
    assert "2k" not in labels(1_000_000)
