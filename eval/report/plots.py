"""Drawings as inline SVG: no script, colours from the page's style sheet, every figure in words beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.report.markup import Html, escape, tag
from eval.report.numbers import count, figure, quantile, share
from rag.counted import counted

_WIDTH, _HEIGHT = 360, 176
_TOP, _FLOOR = 22, 148
_BINS = 10


@dataclass(frozen=True, slots=True)
class Bar:
    """A column of a drawing. `apart` leaves room before it, `faint` draws it lighter."""

    label: str
    value: int
    says: str
    apart: bool = False
    faint: bool = False


def interval(mean: float | None, low: float | None, high: float | None, scale: tuple[float, float]) -> Html | None:
    """The mean as a tick on its scale, its interval as a band. The figures stand beside it, so it is hidden from readers."""
    if mean is None:
        return None
    width = scale[1] - scale[0]

    def at(value: float) -> float:
        return 1 + 98 * min(1.0, max(0.0, (value - scale[0]) / width))

    parts = [tag("line", x1="1%", x2="99%", y1=9, y2=9, class_="axis")]
    parts += [tag("line", x1=f"{end}%", x2=f"{end}%", y1=6, y2=12, class_="axis") for end in (1, 50, 99)]
    if low is not None and high is not None:
        band = {"x": f"{at(low):.1f}%", "width": f"{max(at(high) - at(low), 0.6):.1f}%"}
        parts.append(tag("rect", y=5, height=8, class_="band", **band))
    parts.append(tag("line", x1=f"{at(mean):.1f}%", x2=f"{at(mean):.1f}%", y1=2, y2=16, class_="mean"))
    return tag("svg", *parts, class_="interval", width="100%", height=18, aria_hidden="true", focusable="false")


def proportion(part: float, whole: float) -> Html:
    """A share of a row of equals."""
    width = 100 * part / whole if whole else 0.0
    rail = tag("rect", x=0, y=3, width="100%", height=8, class_="rail")
    bar = tag("rect", x=0, y=3, width=f"{width:.1f}%", height=8, class_="band")
    return tag("svg", rail, bar, class_="interval", width="100%", height=14, aria_hidden="true", focusable="false")


def distribution(name: str, values: Sequence[float], scale: tuple[float, float], identity: str) -> Html:
    """How the values of a measure lie: the two ends of its scale apart, for there most of them stand."""
    low, high = scale
    step = (high - low) / _BINS
    inner = [0] * _BINS
    ends = [sum(value <= low for value in values), sum(value >= high for value in values)]
    for value in values:
        if low < value < high:
            inner[min(_BINS - 1, int((value - low) / step))] += 1
    if not any(inner):
        return _halves(name, ends, scale, identity)
    edges = [f"{low + at * step:.2g}" for at in range(_BINS + 1)]
    inside = [
        Bar("", number, f"between {edges[at]} and {edges[at + 1]}: {number}", apart=at == 0)
        for at, number in enumerate(inner)
    ]
    bars = [
        Bar(f"= {low:.2g}", ends[0], f"exactly {low:.2g}: {ends[0]}"),
        *inside,
        Bar(f"= {high:.2g}", ends[1], f"exactly {high:.2g}: {ends[1]}", apart=True),
    ]
    ticks = {at + 1: edges[at] for at in range(0, _BINS + 1, 2)}
    return columns(
        name, f"{counted(len(values), 'question')}, median {figure(quantile(values, 0.5))}", bars, identity, ticks
    )


def columns(name: str, note: str, bars: Sequence[Bar], identity: str, ticks: dict[int, str] | None = None) -> Html:
    """Columns with their numbers above them; `ticks` stand at the left edge of the column of that place."""
    tallest = max((bar.value for bar in bars), default=0) or 1
    gap = 12
    width = (_WIDTH - gap * sum(bar.apart for bar in bars)) / max(1, len(bars))
    parts = [tag("line", x1=0, x2=_WIDTH, y1=_FLOOR + 0.5, y2=_FLOOR + 0.5, class_="axis")]
    x = 0.0
    starts: list[float] = []
    for bar in bars:
        x += gap * bar.apart
        starts.append(x)
        height = (_FLOOR - _TOP) * bar.value / tallest
        middle = f"{x + width / 2:.1f}"
        kind = "column faint" if bar.faint else "column"
        if bar.value:
            box = {"x": f"{x + 1:.1f}", "y": f"{_FLOOR - height:.1f}", "height": f"{height:.1f}"}
            parts.append(tag("rect", width=f"{width - 2:.1f}", class_=kind, **box))
            parts.append(tag("text", count(bar.value), x=middle, y=f"{_FLOOR - height - 4:.1f}", class_="value"))
        if bar.label:
            parts.append(tag("text", bar.label, x=middle, y=_FLOOR + 16, class_="label"))
        x += width
    for place, label in (ticks or {}).items():
        edge = starts[place] if place == 1 else starts[place - 1] + width
        parts.append(tag("line", x1=f"{edge:.1f}", x2=f"{edge:.1f}", y1=_FLOOR, y2=_FLOOR + 4, class_="axis"))
        parts.append(tag("text", label, x=f"{edge:.1f}", y=_FLOOR + 16, class_="label"))
    says = "; ".join(bar.says for bar in bars if bar.value) or "nothing"
    return _drawn(name, note, f"{note}. {says}.", parts, identity, _HEIGHT)


def _halves(name: str, ends: Sequence[int], scale: tuple[float, float], identity: str) -> Html:
    """A measure that knows two values only."""
    whole = sum(ends) or 1
    words = [f"{scale[at]:.2g}: {count(ends[at])} ({share(ends[at], whole)})" for at in (0, 1)]
    cut = _WIDTH * ends[0] / whole
    parts = [
        tag("rect", x=0, y=8, width=f"{cut:.1f}", height=26, class_="column faint"),
        tag("rect", x=f"{cut:.1f}", y=8, width=f"{_WIDTH - cut:.1f}", height=26, class_="column"),
        tag("text", words[0], x=0, y=50, class_="label from"),
        tag("text", words[1], x=_WIDTH, y=50, class_="label to"),
    ]
    note = f"{counted(sum(ends), 'question')}, each {scale[0]:.2g} or {scale[1]:.2g}"
    return _drawn(name, note, f"{note}. {'; '.join(words)}.", parts, identity, 58)


def _drawn(name: str, note: str, says: str, parts: Sequence[Html], identity: str, height: int) -> Html:
    title, words = f"{identity}-title", f"{identity}-says"
    drawing = tag(
        "svg",
        tag("title", escape(name), id=title),
        tag("desc", escape(says), id=words),
        *parts,
        role="img",
        viewBox=f"0 0 {_WIDTH} {height}",
        aria_labelledby=f"{title} {words}",
    )
    return tag("figure", tag("figcaption", tag("strong", name), " ", tag("span", note)), drawing, class_="plot")
