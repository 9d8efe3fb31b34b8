"""The chart: for each workload, how many times better than each peer, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from .comparison import peers, shown, target_times_better, times_better
from .contenders import Contender
from .results import Results
from .targets import BEST_PEER, OURS, TARGETS, Target, best_peer, judge
from .workloads import Workload

_WIDTH = 900
_LEFT, _RIGHT = 290, 800
_TOP, _ROW = 96, 27
_LEAST, _MOST = 0.1, 100.0
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)

# Distinguished by shape as well: no colour is needed to tell them apart.
_COLOURS = ("#0b62a4", "#b5460f", "#4d7d1e", "#7a3e9d", "#8a6d00", "#00797a")
_SHAPES = (
    "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",  # circle
    "M-4.5,-4.5H4.5V4.5H-4.5Z",  # square
    "M0,-5.5L5.5,4.5H-5.5Z",  # triangle
    "M0,-6L6,0L0,6L-6,0Z",  # diamond
    "M0,5.5L5.5,-4.5H-5.5Z",  # triangle, the other way up
    "M-5,-2H-2V-5H2V-2H5V2H2V5H-2V2H-5Z",  # plus
)

_STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;"
    "font-size:13px;fill:#1f2328}"
    ".small{font-size:11px;fill:#59636e}.title{font-size:16px;font-weight:600}"
    ".met{fill:#1a7f37;font-weight:700}.missed{fill:#cf222e;font-weight:700}.unknown{fill:#59636e}"
)


def draw(results: Results, workloads: Sequence[Workload]) -> str:
    """The chart as SVG."""
    others = peers(results)
    styles = {peer.name: index % len(_SHAPES) for index, peer in enumerate(others)}
    height = _TOP + _ROW * len(workloads) + 46
    bottom = _TOP + _ROW * len(workloads)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img">',
        "<title>How many times better blocksmtp is than each peer</title>",
        f"<style>{_STYLE}</style>",
        # Its own ground: the chart is looked at on light pages and dark ones.
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff" stroke="#d1d9e0"/>',
        _text(16, 28, "How many times better than …", "title"),
        *_legend(others, styles),
        *_scale(bottom),
    ]
    for number, workload in enumerate(workloads):
        y = _TOP + _ROW * number + _ROW / 2
        parts += _row(results, workload, others, styles, y)
    parts.append(
        _text(
            16,
            bottom + 34,
            "Right of the line at 1: better than the peer. A bar is a target, in the colour of its "
            "peer. ✓ target met, ✗ not met, – not measured.",
            "small",
        )
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _legend(others: Sequence[Contender], styles: dict[str, int]) -> list[str]:
    parts = []
    x = 22.0
    for peer in others:
        parts.append(_shape(styles[peer.name], x, 52, peer.label))
        parts.append(_text(x + 11, 56, peer.label))
        x += 34 + 7.2 * len(peer.label)
    return parts


def _scale(bottom: float) -> list[str]:
    parts = []
    for tick in _TICKS:
        x = _place(tick)
        colour = "#59636e" if tick == 1 else "#d1d9e0"
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" stroke="{colour}"/>'
        )
        parts.append(_text(x, _TOP - 8, f"{tick:g}", "small", anchor="middle"))
    return parts


def _row(
    results: Results,
    workload: Workload,
    others: Sequence[Contender],
    styles: dict[str, int],
    y: float,
) -> list[str]:
    parts = [
        f'<line x1="16" x2="{_WIDTH - 16}" y1="{y + _ROW / 2}" y2="{y + _ROW / 2}" '
        'stroke="#eff2f5"/>',
        _text(16, y + 4.5, workload.title),
    ]
    targets = [target for target in TARGETS if target.workload == workload.name]
    parts += [_target(results, target, styles, y) for target in targets]
    for peer in others:
        times = times_better(results, workload, peer.name)
        if times is not None:
            hint = f"{workload.title}: {shown(times)} × {peer.label}"
            parts.append(_shape(styles[peer.name], _place(times), y, hint))
    marks = "".join(_mark(results, target) for target in targets)
    parts.append(f'<text x="{_RIGHT + 22}" y="{y + 4.5}">{marks}</text>')
    return parts


def _target(results: Results, target: Target, styles: dict[str, int], y: float) -> str:
    """A bar where the target is; nothing for one that is not against a peer of the chart."""
    peer = best_peer(target, results) if target.peer == BEST_PEER else target.peer
    if peer not in styles or target.ours != OURS:
        return ""
    x = _place(target_times_better(target))
    return (
        f'<rect x="{x - 1.5:.1f}" y="{y - 10}" width="3" height="20" '
        f'fill="{_COLOURS[styles[peer]]}" opacity="0.55"/>'
    )


def _mark(results: Results, target: Target) -> str:
    kind, sign = {
        True: ("met", "✓"),
        False: ("missed", "✗"),
        None: ("unknown", "–"),
    }[judge(target, results).met]
    return f'<tspan class="{kind}">{sign}</tspan>'


def _place(times: float) -> float:
    """Where a number stands; what is off the scale stands at its end."""
    share = math.log(min(max(times, _LEAST), _MOST) / _LEAST) / math.log(_MOST / _LEAST)
    return _LEFT + share * (_RIGHT - _LEFT)


def _shape(style: int, x: float, y: float, hint: str) -> str:
    return (
        f'<path transform="translate({x:.1f} {y:.1f})" d="{_SHAPES[style]}" '
        f'fill="{_COLOURS[style]}" stroke="#ffffff"><title>{escape(hint)}</title></path>'
    )


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f" class={quoteattr(kind)}" if kind else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{named}>{escape(text)}</text>'
