"""From a matplotlib figure to a piece of SVG that lives well inside a page.

Colours are drawn as tokens and come out as CSS variables, so that one picture serves light and dark mode; identifiers
get a prefix, so that several pictures share a page; text stays text. What is drawn is left to `plots`.
"""

from __future__ import annotations

import io
import re
import warnings
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from warmstart.report import formats

# Token colours: improbable values that `to_svg` exchanges for `var(--name, light value)`.
INK = "#010a01"
MUTED = "#010a02"
GRID = "#010a03"
SURFACE = "#010a04"
ACCENT = "#010a05"
WARM = "#010a06"
ON_ACCENT = "#010a07"

_VARIABLES = {
    INK: "var(--ink, #1a1f26)",
    MUTED: "var(--muted, #5b6572)",
    GRID: "var(--line, #dfe3e8)",
    SURFACE: "var(--card, #ffffff)",
    ACCENT: "var(--accent, #1d5fbf)",
    WARM: "var(--warm, #b8530c)",
    ON_ACCENT: "var(--on-accent, #ffffff)",
}
_PREAMBLE = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>\s*", re.DOTALL)
_STYLE = re.compile(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>\s*", re.DOTALL)
_ROOT = re.compile(r"<svg[^>]*>")
_FONTS = re.compile(r"font-family:[^;\"]*")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure; width and height are CSS pixels, and so are its font sizes (a point is a pixel here)."""
    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    FigureCanvasSVG(figure)
    return figure


def to_svg(figure: Figure, ident: str, label: str) -> str:
    """Draw a figure as one `<svg>` element.

    Args:
        figure: from `new_figure`; its colours may be the tokens of this module.
        ident: prefix of every identifier in the picture, unique within the page.
        label: what the picture shows, for readers who cannot see it.

    Returns:
        Markup without XML declaration, scripts, metadata or outside references. The same figure gives the same text.
    """
    buffer = io.StringIO()
    settings = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "warmstart"})
    with settings, warnings.catch_warnings():
        # Text stays text: the reader's browser brings the fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    markup = buffer.getvalue()
    for pattern in (_PREAMBLE, _METADATA, _STYLE):
        markup = pattern.sub("", markup, count=1)
    markup = _FONTS.sub("font-family: inherit", markup)
    markup = _own_identifiers(markup, ident)
    for token, variable in _VARIABLES.items():
        markup = markup.replace(token, variable)
    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label)}" stroke-linejoin="round" style="--width: {width}px">'
    )
    return _ROOT.sub(lambda _: root, markup, count=1).strip()


def bare(axes: Axes, *, bottom: bool = False) -> None:
    """Take away what is not data: the box, the tick marks, black; `bottom` keeps the lower line."""
    for name, side in axes.spines.items():
        side.set_visible(bottom and name == "bottom")
        side.set_color(MUTED)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0, colors=MUTED, labelsize=12)


def clean(text: str, limit: int) -> str:
    """A label without characters that XML forbids, short enough to stand beside a chart."""
    return formats.shorten(re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", " ", text), limit) or "(empty)"


def _own_identifiers(markup: str, ident: str) -> str:
    """Prefix every id and every reference to one; drop the ids that nothing refers to."""
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', markup))

    def rename(match: re.Match[str]) -> str:
        return f' id="{ident}-{match.group(1)}"' if match.group(1) in used else ""

    markup = re.sub(r' id="([^"]*)"', rename, markup)
    markup = re.sub(r'xlink:href="#', f'href="#{ident}-', markup)
    return re.sub(r"url\(#", f"url(#{ident}-", markup.replace('xlink:href="data:', 'href="data:'))
