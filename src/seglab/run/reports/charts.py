"""Charts of a report as SVG: plain text in the page, sharp at every size, no script."""

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 22, 34
N_BARS = 20

Points = Sequence[tuple[float, float, int]]


def histogram(values: Sequence[float], label: str, *, upper: float | None = None) -> Markup:
    """How values are distributed.

    Args:
        values: of the cases; NaN is left out.
        label: of the horizontal axis.
        upper: where the axis ends; None for the largest value. It starts at 0, or below for negative values.
    """
    known = [value for value in values if math.isfinite(value)]
    low = min(0.0, *known) if known else 0.0
    high = upper if upper is not None else max([*known, low + 1e-9])
    high = high if high > low else low + 1
    counts = [0] * N_BARS
    for value in known:
        counts[min(int((value - low) / (high - low) * N_BARS), N_BARS - 1)] += 1
    most, width = max([*counts, 1]), (WIDTH - LEFT - RIGHT) / N_BARS
    bars = []
    for index, n in enumerate(counts):
        top = _y(n / most)
        span = f"{low + (high - low) * index / N_BARS:.3g} to {low + (high - low) * (index + 1) / N_BARS:.3g}"
        bars.append(
            f'<rect class="bar" x="{LEFT + index * width + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" '
            f'height="{_y(0) - top:.1f}"><title>{n} of {len(known)} cases: {span}</title></rect>'
        )
    return _chart(bars, (low, high), (0, most), label, "cases")


def reliability(points: Points) -> Markup:
    """Share of right pixels over confidence; the diagonal is what calibrated probabilities would give.

    Args:
        points: mean confidence, share of right pixels, number of pixels.
    """
    marks = [f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1):.1f}" y2="{_y(1)}"/>']
    path = " ".join(f"{_x(confidence):.1f},{_y(share):.1f}" for confidence, share, _ in points)
    marks.append(f'<polyline class="curve" points="{path}"/>')
    marks += [
        f'<circle class="dot" cx="{_x(confidence):.1f}" cy="{_y(share):.1f}" r="3.5">'
        f"<title>confidence {confidence:.3f}: {share:.3f} right, {n} pixels</title></circle>"
        for confidence, share, n in points
    ]
    return _chart(marks, (0, 1), (0, 1), "confidence", "right")


def scatter(points: Sequence[tuple[float, float, str]], label: str, label_y: str) -> Markup:
    """Values over sizes, on a logarithmic axis.

    Args:
        points: size above 0, value from 0 to 1, name.
        label: of the sizes.
        label_y: of the values.
    """
    logs = [math.log10(size) for size, _, _ in points] or [0.0]
    low, high = math.floor(min(logs)), max(math.ceil(max(logs)), math.floor(min(logs)) + 1)
    dots = [
        f'<circle class="dot" cx="{_x((math.log10(size) - low) / (high - low)):.1f}" cy="{_y(value):.1f}" r="3.5">'
        f"<title>{escape(name)}: {value:.3f} at {size:.0f}</title></circle>"
        for size, value, name in points
    ]
    return _chart(dots, (10.0**low, 10.0**high), (0, 1), label, label_y)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _chart(
    marks: Sequence[str], span_x: tuple[float, float], span_y: tuple[float, float], label_x: str, label_y: str
) -> Markup:
    axes = f'<path class="axis" d="M{LEFT} {TOP}V{_y(0)}H{WIDTH - RIGHT}"/>'
    texts = [
        (LEFT, _y(0) + 15, "start", f"{span_x[0]:.3g}"),
        (WIDTH - RIGHT, _y(0) + 15, "end", f"{span_x[1]:.4g}"),
        ((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "middle", label_x),
        (LEFT - 5, _y(0), "end", f"{span_y[0]:.3g}"),
        (LEFT - 5, TOP + 9, "end", f"{span_y[1]:.3g}"),
        (LEFT, 12, "start", label_y),
    ]
    shown = "".join(
        f'<text x="{x}" y="{y:.1f}" text-anchor="{side}">{escape(text)}</text>' for x, y, side, text in texts
    )
    title = escape(f"{label_y} over {label_x}")
    return Markup(  # noqa: S704  # numbers, and texts that were escaped
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">{axes}{"".join(marks)}{shown}</svg>'
    )
