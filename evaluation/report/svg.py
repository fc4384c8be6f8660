"""Static drawings: matplotlib figures as small SVG that can stand in a page beside others."""

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "REAL", "SYNTHETIC", "canvas", "to_svg"]

REAL = "#20639b"
SYNTHETIC = "#b5402a"
INK = "#3a3f44"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dpsynth",  # the same drawing is the same bytes
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "axes.unicode_minus": True,
}


@contextmanager
def canvas(width: float, height: float) -> Iterator["Figure"]:
    """Give a figure of this size in inches, in the page's style, with text that stays text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the reader's own font draws the text
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: "Figure", key: str, title: str, description: str) -> str:
    """Return a figure as an SVG element.

    Parameters
    ----------
    figure : Figure
        Drawn within `canvas`.
    key : str
        Unique on the page; ids begin with it.
    title, description : str
        What a screen reader says.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    text = buffer.getvalue()
    return _embedded(text[text.index("<svg") :], key, title, description)


def _rounded(attribute: "re.Match[str]") -> str:
    """Return an attribute with coordinates to a hundredth of a point."""
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", attribute[0])


def _embedded(svg: str, key: str, title: str, description: str) -> str:
    """Return an SVG without what is of use in a file of its own only, and with ids of its own."""
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style type=\"text/css\">.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", svg))
    kept = {first or other for first, other in used}
    svg = re.sub(r" id=\"([^\"]+)\"", lambda m: f' id="{key}-{m[1]}"' if m[1] in kept else "", svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", svg)
    svg = re.sub(r"href=\"#([^\"]+)\"", rf'href="#{key}-\1"', svg)
    svg = svg.replace("'DejaVu Sans', ", "").replace("'DejaVu Sans'", "sans-serif")
    svg = re.sub(r" (?:d|x|y|width|height|points|transform)=\"[^\"]+\"", _rounded, svg)  # never the text
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r" version=\"1.1\"| xmlns(:xlink)?=\"[^\"]+\"", "", svg)
    head = (
        f'<svg role="img" aria-labelledby="{key}-title {key}-desc" style="stroke-linejoin:round;stroke-linecap:butt" '
    )
    labels = (
        f'<title id="{key}-title">{html.escape(title)}</title><desc id="{key}-desc">{html.escape(description)}</desc>'
    )
    opening, rest = svg.split(">", maxsplit=1)
    return opening.replace("<svg ", head, 1) + ">" + labels + rest
