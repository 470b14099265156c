"""A comparison's report as one HTML file: it loads nothing, and follows the reader's light or dark scheme."""

from collections.abc import Iterable, Sequence
from html import escape
from math import ceil

from tasks.commands.reconcile_shown import EMPTY, consequences, described, outcome, percent, span
from tasks.night_report import Group, Point, Report
from tasks.saying import plain, shown

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, FOOT = 64, 12, 22, 46
WIDEST = 44
TICKS = 4
LABELS = 10

_DRIFT = (
    "Percent of the contacts compared that were not as they should be where our word counts: drifted, missing or "
    "unlinked. It should be near zero; a rise says that webhooks are lost, or that somebody edits what is ours."
)

STYLE = """
:root { color-scheme: light dark; --page: #fff; --text: #1f2328; --soft: #59636e; --line: #d1d9e0; --card: #f6f8fa;
  --bar: #0969da; --dry: #9198a1; --now: #bc4c00 }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --text: #f0f6fc; --soft: #9198a1; --line: #3d444d;
  --card: #151b23; --bar: #4493f8; --dry: #656c76; --now: #f0883e } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 940px; margin: 0 auto; padding: 32px 20px 64px }
h1 { font-size: 24px; margin: 0 0 4px } h2 { font-size: 18px; margin: 36px 0 6px }
h2 b { color: var(--soft); font-weight: 400 } p { margin: 4px 0 } .soft { color: var(--soft) }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; margin: 20px 0 }
.figures div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px }
.figures strong { display: block; font-size: 22px; font-weight: 600 } .figures span { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; margin: 10px 0 }
th, td { text-align: left; padding: 5px 14px 5px 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--soft); font-weight: 500 } code { font: 13px ui-monospace, monospace }
svg { display: block; width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: var(--soft) }
.grid { stroke: var(--line) } .axis { stroke: var(--soft) }
.real { fill: var(--bar) } .dry { fill: var(--dry) } .now { fill: var(--now) }
"""


def as_html(report: Report) -> str:
    """Return the page; every text that may come from elsewhere is escaped."""
    run = report.run
    title = f"Comparison {run.id} of {run.connection}"
    begun = f"It is {described(run)}. Begun {shown(run.started_at)} UTC by {run.actor}."
    figures = [
        ("contacts compared", f"{report.contacts:,}"),
        ("drift", percent(report.drift)),
        ("made due", f"{report.repaired:,}"),
        ("put off", f"{report.put_off:,}"),
        ("calls", f"{report.calls:,}"),
        ("duration", span(run.seconds)),
    ]
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="soft">{_text(begun)}</p>',
        '<div class="figures">',
        *(f"<div><strong>{_text(value)}</strong><span>{_text(name)}</span></div>" for name, value in figures),
        "</div>",
        *(f"<p>{_text(one[:1].upper() + one[1:])}.</p>" for one in consequences(report)),
        "<h2>Drift over the runs</h2>",
        f'<p class="soft">{_DRIFT}</p>',
        _plot(report.history, run.id),
        *(line for group in report.groups for line in _group(group, is_revealed=report.is_revealed)),
    ]
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
    )
    return head + "\n".join(body) + "\n</main>\n</body>\n</html>\n"


def _group(group: Group, *, is_revealed: bool) -> Iterable[str]:
    yield f"<h2>{_text(group.title)} <b>{group.contacts:,}</b></h2>"
    yield f"<p>{_text(group.means)}</p>"
    if group.next:
        yield f"<p><strong>Next:</strong> {_marked(group.next)}</p>"
    if not group.examples:
        return
    heads = ["Contact", "Person", "Properties" + (" (was, should be)" if is_revealed else ""), "Became of it"]
    yield '<div class="wide"><table><tr>' + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"
    for one in group.examples:
        fields = [f"<code>{_text(name)}</code>" for name in one.fields]
        if one.values is not None:
            fields = [
                f"<code>{_text(name)}</code>: {_text(there or EMPTY)} &rarr; {_text(wanted or EMPTY)}"
                for name, (there, wanted) in one.values.items()
            ]
        person = f"#{one.person}" if one.person else "&ndash;"
        cells = [_text(one.contact), person, "<br>".join(fields) or "&ndash;", _text(outcome(one) or "") or "&ndash;"]
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</table></div>"
    if group.contacts > len(group.examples):
        yield f'<p class="soft">And {group.contacts - len(group.examples):,} more.</p>'


def _plot(points: Sequence[Point], run: int) -> str:
    """Return the drift of each run as a bar, the newest on the right, under an axis of percent."""
    step = _round_step(max((point.drift for point in points), default=0.0) / TICKS)
    ticks = [step * number for number in range(TICKS + 1)]
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - FOOT
    foot, slot = TOP + high, wide / max(len(points), 1)
    bar = min(WIDEST, slot * 0.7)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Drift in percent over the last comparisons">']
    for tick in ticks:
        y = foot - high * tick / ticks[-1]
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g} %</text>')
    parts.append(f'<text x="0" y="{TOP - 4}">drift</text>')
    each = ceil(len(points) / LABELS) if points else 1
    for place, point in enumerate(points):
        x, tall = LEFT + slot * (place + 0.5), high * point.drift / ticks[-1]
        tall = max(tall, 1.5) if point.drift else tall
        kind = "now" if point.run == run else "dry" if point.is_dry else "real"
        said = f"Run {point.run}, {shown(point.at)} UTC: {percent(point.drift)} of {point.contacts:,} contacts"
        said += ", a dry run" if point.is_dry else ""
        parts.append(
            f'<rect class="{kind}" x="{x - bar / 2:.1f}" y="{foot - tall:.1f}" width="{bar:.1f}" height="{tall:.1f}" '
            f'rx="1.5"><title>{_text(said)}</title></rect>'
        )
        if (len(points) - 1 - place) % each == 0:
            parts.append(f'<text x="{x:.1f}" y="{foot + 16}" text-anchor="middle">{point.at:%d %b}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{foot}" x2="{WIDTH - RIGHT}" y2="{foot}"/>')
    x = LEFT
    for kind, name in (("now", "this run"), ("real", "earlier runs"), ("dry", "dry runs")):
        parts.append(f'<rect class="{kind}" x="{x}" y="{HEIGHT - 14}" width="10" height="10" rx="1.5"/>')
        parts.append(f'<text x="{x + 15}" y="{HEIGHT - 5}">{name}</text>')
        x += 110
    began = "day on which the run began (UTC)"
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 5}" text-anchor="end">{began}</text>')
    return "\n".join([*parts, "</svg>"])


def _round_step(least: float) -> float:
    """Return the next 1, 2 or 5 times a power of ten at or above `least`, and a hundredth at the least."""
    power = 0.01
    while power * 10 <= least:
        power *= 10
    return next(power * digit for digit in (1, 2, 5, 10, 20) if power * digit >= least)


def _text(text: str) -> str:
    return escape(plain(text))


def _marked(text: str) -> str:
    """Return a sentence with what stands between backticks as code."""
    parts = _text(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
