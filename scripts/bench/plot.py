"""The figures as one SVG: a panel per row, bars with their spread, the mark to be reached as a line.

Written by hand, because a plotting library would be the largest dependency of the project. It is read on light and on
dark pages: colours follow the reader's scheme, and stand on no background of their own.
"""

from collections.abc import Iterable, Sequence
from html import escape

from scripts.bench.figures import Figure, Measured, Panel
from scripts.bench.table import written

__all__ = ["as_svg"]

WIDTH, LABELS, VALUES = 900, 370, 110
BAR, GAP, HEAD, AXIS, MARGIN = 16, 8, 40, 34, 16
TICKS = 4
LEGEND = "A bar is the median of the repetitions; the thin line goes from the least to the greatest."
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #57606a }
  .title { font-size: 14px; font-weight: 600; fill: #24292f }
  .axis, .spread { stroke: #57606a; stroke-width: 1 }
  .grid { stroke: #8c959f; stroke-opacity: .3 }
  .mark { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 4 3 }
  .ours { fill: #1f6feb } .baseline { fill: #bf8700 } .limit { fill: #afb8c1 } .ratio, .beside { fill: #57606a }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .title { fill: #e6edf3 } .axis, .spread { stroke: #9198a1 }
    .ours { fill: #388bfd } .baseline { fill: #9e6a03 } .limit { fill: #6e7681 } .mark { stroke: #ff7b72 }
  }
"""


def as_svg(rows: Sequence[Measured]) -> str:
    """The drawing; rows that failed or have no panel are left out."""
    parts: list[str] = []
    top = MARGIN
    for panel, figures in _panels(rows):
        parts += _drawn(panel, figures, top)
        top += _height(figures)
    parts += _legend(top)
    height = top + 44
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">'
    title = "<title>What coursewire bench measured</title>"
    return "\n".join((head, title, f"<style>{STYLE}</style>", *parts, "</svg>", ""))


def _panels(rows: Iterable[Measured]) -> Iterable[tuple[Panel, list[Figure]]]:
    for measured in rows:
        figures = {figure.line.key: figure for figure in measured.figures()}
        for panel in measured.row.panels:
            found = [figures[key] for key in panel.keys if key in figures and figures[key].median >= 0]
            if found:
                yield panel, found


def _height(figures: Sequence[Figure]) -> int:
    return HEAD + len(figures) * (BAR + GAP) + AXIS + MARGIN


def _drawn(panel: Panel, figures: Sequence[Figure], top: int) -> list[str]:
    most = max(max(figure.spread[1], figure.line.bar.limit if figure.line.bar else 0) for figure in figures)
    step = round_step(most / TICKS)
    ticks = [number * step for number in range(TICKS + 2) if (number - 1) * step < most]
    scale = (WIDTH - LABELS - VALUES) / ticks[-1]
    foot = top + HEAD + len(figures) * (BAR + GAP)
    parts = [_text(MARGIN, top + 18, panel.title, "title")]
    for tick in ticks:
        x = LABELS + tick * scale
        parts.append(_line(x, top + HEAD - 4, x, foot, "grid"))
        parts.append(_text(x, foot + 15, written(tick), anchor="middle"))
    parts.append(_line(LABELS, foot, WIDTH - VALUES, foot, "axis"))
    parts.append(_text(LABELS - 16, foot + 15, panel.unit, anchor="end"))
    for number, figure in enumerate(figures):
        parts += _bar(figure, top + HEAD + number * (BAR + GAP), scale)
    return parts


def _bar(figure: Figure, y: float, scale: float) -> list[str]:
    low, high = figure.spread
    long = max(1.0, figure.median * scale)
    middle = y + BAR / 2
    parts = [
        _text(LABELS - 8, y + BAR - 4, figure.line.label, anchor="end"),
        f'<rect class="{figure.line.kind}" x="{LABELS}" y="{y}" width="{long:.1f}" height="{BAR}"/>',
    ]
    if high > low:
        parts.append(_line(LABELS + low * scale, middle, LABELS + high * scale, middle, "spread"))
    if figure.line.bar:
        x = LABELS + figure.line.bar.limit * scale
        parts.append(_line(x, y - 3, x, y + BAR + 3, "mark"))
    beyond = max(long, high * scale, figure.line.bar.limit * scale if figure.line.bar else 0)
    parts.append(_text(LABELS + beyond + 6, y + BAR - 4, f"{written(figure.median)} {figure.line.unit}"))
    return parts


def _legend(top: int) -> list[str]:
    parts, x = [], MARGIN
    for kind, name in (("ours", "Coursewire"), ("baseline", "one Celery task per event"), ("limit", "physical limit")):
        parts.append(f'<rect class="{kind}" x="{x}" y="{top}" width="12" height="12"/>')
        parts.append(_text(x + 18, top + 11, name))
        x += 40 + 7 * len(name)
    parts.append(_line(x, top - 2, x, top + 14, "mark"))
    parts.append(_text(x + 8, top + 11, "the bar to reach"))
    parts.append(_text(MARGIN, top + 31, LEGEND))
    return parts


def round_step(least: float) -> float:
    """The next 1, 2 or 5 times a power of ten, at or above `least`."""
    power = 1.0
    while power > least:
        power /= 10
    while power * 10 <= least:
        power *= 10
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least)


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, style: str) -> str:
    return f'<line class="{style}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'
