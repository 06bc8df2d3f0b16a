"""Plots as inline SVG: one small panel each, so that it is legible on a phone; matplotlib is an extra behind this one file.

A panel is 360 units wide with text of 11, scaled by the page to its column. Text stays text in the page's font, and colours become
CSS variables, so that the page's dark mode turns them too.
"""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Any

import numpy as np

from recllm.errors import MissingExtraError

COLOURS = {"ink": "#1d1d21", "soft": "#6b6b75", "rule": "#d9d9de", "first": "#1f5fa8", "second": "#b4561c"}
INK, SOFT, RULE, FIRST, SECOND = COLOURS.values()
WIDTH = 5.0  # inches of 72 units
LABEL = 16  # characters of a value's name that a dot plot has room for
STYLE: Any = {"font.size": 11, "font.family": "sans-serif", "svg.fonttype": "none", "text.parse_math": False, "text.color": INK,
         "axes.edgecolor": RULE, "axes.labelcolor": SOFT, "axes.spines.top": False, "axes.spines.right": False, "xtick.color": SOFT,
         "ytick.color": SOFT, "axes.grid": True, "grid.color": RULE, "grid.linewidth": 0.6, "lines.linewidth": 1.6,
         "legend.frameon": False, "legend.handlelength": 1.4, "legend.columnspacing": 1.2, "axes.axisbelow": True}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """A named line: x and y (n,), NaN where there is nothing to draw. `dashed` for what is beside the point; `ring` marks one place."""

    name: str
    x: Sequence[Any]
    y: Sequence[float]
    colour: str = FIRST
    dashed: bool = False
    ring: int | None = None


@dataclass(frozen=True)
class Dot:
    """A row of a dot plot: a figure with its interval and rows, and another model's figure where there is one."""

    name: str
    mean: float
    low: float
    high: float
    n: int
    other: float | None = None


def require(what: str = "--report") -> None:
    """Raise MissingExtraError where matplotlib is not installed; called before anything slow."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtraError(f"{what}: matplotlib is not installed: pip install 'recllm[report]'") from None


def lines(series: list[Series], *, alt: str, percent: bool = False, cuts: Sequence[datetime] = (), x_label: str = "") -> str:
    """Lines over moments or numbers, with dashed verticals at `cuts`; names above the panel, each once."""

    def draw(figure: Any, axes: Any) -> None:
        for cut in cuts:
            axes.axvline(cut, color=SOFT, linewidth=0.8, linestyle=(0, (3, 3)))
        names = _draw_lines(axes, series, bool(cuts))
        _percent(axes.yaxis if percent else None)
        axes.set_xlabel(x_label)
        if len(names) > 1:
            figure.legend(loc="outside upper left", ncols=3)

    return _svg(draw, 3.0, alt)


def _draw_lines(axes: Any, series: list[Series], dates: bool = False) -> set[str]:
    """Draw lines into one panel, each name once; returns the names."""
    from matplotlib.ticker import MaxNLocator

    names: set[str] = set()
    for one in series:
        axes.plot(one.x, one.y, color=one.colour, linestyle=(0, (3, 2)) if one.dashed else "-", marker="o", markersize=2.6,
                  label=one.name if one.name not in names else None)
        names.add(one.name)
        if one.ring is not None:
            axes.plot([one.x[one.ring]], [one.y[one.ring]], "o", markersize=9, markerfacecolor="none", markeredgecolor=one.colour)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if dates:
        ticks, form = _dates([x for one in series for x in one.x])
        axes.set_xticks(ticks, [tick.strftime(form) for tick in ticks])
        axes.set_ylim(bottom=0)
    else:
        whole = all(float(x).is_integer() for one in series for x in one.x)  # one evaluation an epoch
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=whole))
    return names


def png(panels: dict[str, list[Series]], x_label: str) -> bytes:
    """Panels of lines one below the other as a picture, each under its name. Raises MissingExtraError without matplotlib."""
    require()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({k: v for k, v in STYLE.items() if not k.startswith("svg")}):
        figure = Figure(figsize=(WIDTH, 2.4 * len(panels)), layout="constrained")
        for (name, series), axes in zip(panels.items(), figure.subplots(len(panels), squeeze=False)[:, 0], strict=True):
            if len(_draw_lines(axes, series)) > 1:
                axes.legend()
            axes.set(title=name, xlabel=x_label)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()


def agreement(bins: list[dict[str, Any]], *, alt: str, percent: bool, unit: str) -> str:
    """Observed against predicted of `reliability`'s bins, with intervals, beside the diagonal of a perfect forecast."""
    return _svg(_agreement(bins, percent, unit), 3.9, alt)


def agreement_png(bins: list[dict[str, Any]], *, title: str, percent: bool, unit: str) -> bytes:
    """`agreement` as a picture of its own, for a model card: the Hub shows no inline SVG. Equal bytes for equal bins."""
    require("calibration plots")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        axes = figure.add_subplot()
        _agreement(bins, percent, unit)(figure, axes)
        axes.set_title(title)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
    return file.getvalue()


def _agreement(bins: list[dict[str, Any]], percent: bool, unit: str) -> Callable[[Any, Any], None]:
    def draw(figure: Any, axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        p, y = (np.array([b[key] for b in bins]) for key in ("p", "y"))
        ends = [np.maximum(y - [b["low"] for b in bins], 0), np.maximum([b["high"] for b in bins] - y, 0)]
        top = float(max(p.max(), max(b["high"] for b in bins))) * 1.05 or 1.0
        axes.plot([0, top], [0, top], color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
        axes.errorbar(p, y, yerr=ends, fmt="o", color=FIRST, markersize=4.5, elinewidth=1.1)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel=f"predicted{unit}", ylabel=f"observed{unit}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(4))
            _percent(axis if percent else None)

    return draw


def coverage(bins: list[dict[str, Any]], *, alt: str, level: float = 0.8) -> str:
    """Share of true durations inside of the predicted interval, by predicted seconds, beside the level that it should have."""

    def draw(figure: Any, axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        axes.axhline(level, color=SOFT, linewidth=1, linestyle=(0, (3, 3)))
        axes.plot([b["p"] for b in bins], [b["covered"] for b in bins], "o-", color=FIRST, markersize=4.5, linewidth=0.8)
        axes.set(ylim=(0, 1.02), xlabel="predicted seconds", ylabel="inside the interval")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        _percent(axes.yaxis)

    return _svg(draw, 3.0, alt)


def dots(rows: list[Dot], *, alt: str, whole: float, names: tuple[str, str | None]) -> str:
    """One line per value: the model's figure with its interval, its number of rows at the right, another model's as a hollow mark."""

    def draw(figure: Any, axes: Any) -> None:
        from matplotlib.ticker import MaxNLocator

        place = np.arange(len(rows))
        mean = np.array([r.mean for r in rows])
        ends = [np.maximum(mean - [r.low for r in rows], 0), np.maximum([r.high for r in rows] - mean, 0)]
        axes.axvline(whole, color=SOFT, linewidth=0.9, linestyle=(0, (3, 3)))
        axes.errorbar(mean, place, xerr=ends, fmt="o", color=FIRST, markersize=5, elinewidth=1.3, label=names[0])
        if names[1] is not None:
            found = [(r.other, k) for k, r in enumerate(rows) if r.other is not None]
            axes.plot([x for x, _ in found], [k for _, k in found], "D", markersize=4.2, markerfacecolor="none", markeredgecolor=SECOND,
                      label=names[1])
        axes.set_yticks(place, [r.name if len(r.name) <= LABEL else r.name[: LABEL - 1] + "…" for r in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        for k, row in enumerate(rows):
            axes.annotate(f"{row.n:,}", (1.0, k), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
                          va="center", color=SOFT, fontsize=10)
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        figure.legend([handles[n] for n in names if n is not None], [n for n in names if n is not None], loc="outside upper left", ncols=2)

    return _svg(draw, 0.95 + 0.27 * len(rows), alt)


def _dates(moments: list[datetime]) -> tuple[list[datetime], str]:
    """Four moments that span the given ones, at midnight where there are days enough, and how to write them."""
    first, last = min(moments), max(moments)
    ticks = [first + (last - first) * k / 3 for k in range(4)]
    if last - first < timedelta(days=4):
        return ticks, "%d %b\n%H:%M"
    return [t.replace(hour=0, minute=0, second=0, microsecond=0) for t in ticks], "%d %b" if last - first < timedelta(days=400) else "%b %Y"


def _percent(axis: Any) -> None:
    if axis is not None:
        from matplotlib.ticker import PercentFormatter

        axis.set_major_formatter(PercentFormatter(1.0, decimals=0 if max(axis.get_view_interval()) > 0.04 else 1))


def _svg(draw: Callable[[Any, Any], None], height: float, alt: str) -> str:
    """Draw one panel and return it as an <svg> element that scales with its box; `alt` is read out in place of it, escaped here."""
    require()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": alt}):  # ids of one panel must not be those of another in the page
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure, figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: (?:\d+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)  # the family is the page's
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name}, {colour})")
    box = re.search(r'viewBox="[^"]*"', text)
    return f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg" {box[0] if box else ""} role="img" ' \
           f'aria-label="{escape(alt)}">' + re.sub(r"^<svg[^>]*>", "", text, count=1)
