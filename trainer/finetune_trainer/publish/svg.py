"""Turns a matplotlib figure into SVG that lives inside an HTML page: themed by CSS, readable, without a network.

Knows how to draw nothing: charts.py does.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

import matplotlib
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Drawn in these colours, then replaced by the page's variables, so that one chart suits light, dark and print.
INK = "#1b2430"
MUTED = "#5b6675"
GRID = "#dfe4ea"
SURFACE = "#fdfdfe"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#aa4499")
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    SURFACE: "var(--surface)",
    **{color: f"var(--series-{index})" for index, color in enumerate(SERIES, 1)},
}

STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 10.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "text.color": INK,
}


def render_svg(figure: Figure, name: str, description: str, tips: Mapping[str, str]) -> Markup:
    """Inline SVG of a figure.

    `name` is unique in the page and keeps the ids of several charts apart; `description` is read by screen readers;
    `tips` maps the gid of a drawn element to the text that a pointer over it shows.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = _fit_page(text, name, description)
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    for gid, tip in tips.items():
        opening = f'<g id="{name}-{gid}">'
        text = text.replace(opening, f"{opening}<title>{escape(tip)}</title>")
    return Markup(text)


def _fit_page(text: str, name: str, description: str) -> str:
    """Namespace, size and fonts are the page's; ids are the chart's own."""
    text = re.sub(r'\s+xmlns(:xlink)?="[^"]+"', "", text)
    text = re.sub(
        r'<svg[^>]*?(viewBox="[^"]+")[^>]*>', rf'<svg \1 role="img" aria-labelledby="{name}-title">', text, count=1
    )
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ((?:\w+ )*[\d.]+px) [^;\"]+", r"font: \1 var(--sans)", text)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'\bhref="#', f'href="#{name}-', text)
    return text.replace(">", f'><title id="{name}-title">{escape(description)}</title>', 1)
