"""Small line charts as SVG text: a browser shows a new one in a few milliseconds, at any size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import numpy as np

INK, GRID, QUIET = "#1b1f24", "#e4e7eb", "#6b7480"
_FONT = "font-family='system-ui, sans-serif'"
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 10, 46  # margins


def italic(letter: str, below: str = "", above: str = "") -> str:
    """A symbol of the field, as SVG text."""
    parts = [f"<tspan font-style='italic'>{letter}</tspan>"]
    if below:
        parts.append(f"<tspan dy='4' font-size='75%'>{below}</tspan><tspan dy='-4'>\u200b</tspan>")
    if above:
        parts.append(
            f"<tspan dy='-6' font-size='75%' font-style='italic'>{above}</tspan><tspan dy='6'>\u200b</tspan>"
        )
    return "".join(parts)


@dataclass(frozen=True)
class Axis:
    """low, high: its ends, as exponents of 10 where ``log``. label: SVG text. ticks: (position, text)."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    @classmethod
    def linear(cls, label: str, low: float, high: float, step: float) -> "Axis":
        count = round((high - low) / step + 1e-6)
        first = math.ceil(low / step - 1e-9)
        values = [(first + i) * step for i in range(count + 1)]
        return cls(label, low, high, [(v, _minus(f"{v:g}")) for v in values if v <= high + 1e-9])

    @classmethod
    def logarithmic(cls, label: str, values: np.ndarray) -> "Axis":
        """Half a decade or less beyond the values, within what a picture can tell apart."""
        usable = values[np.isfinite(values) & (values > 0)]
        low, high = (np.log10(f(usable)) if usable.size else 0.0 for f in (np.min, np.max))
        low, high = math.floor(max(low, -15) * 4 - 0.3) / 4, math.ceil(min(high, 15) * 4 + 0.3) / 4
        step = max(1, math.ceil((high - low) / 5))
        mantissas = (1, 2, 5) if high - low < 1.6 else (1,)
        decades = range(math.floor(low), math.ceil(high) + 1)
        marks = [(d + math.log10(m), _power(m, d)) for d in decades if d % step == 0 for m in mantissas]
        return cls(label, low, high, [mark for mark in marks if low <= mark[0] <= high], log=True)

    def place(self, values, start: float, end: float) -> np.ndarray:
        """Where values stand between two ends in the picture; NaN for what has no place."""
        values = np.asarray(values, float)
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log10(values)
        relative = (values - self.low) / (self.high - self.low)
        return np.where(np.isfinite(values), start + np.clip(relative, -1, 2) * (end - start), np.nan)


@dataclass
class Chart:
    """Axes and what is drawn in them; ``svg`` is the picture."""

    x: Axis
    y: Axis
    size: tuple[int, int]
    description: str
    inside: list[str] = field(default_factory=list)
    above: list[str] = field(default_factory=list)

    def line(self, x, y, colour: str, width: float = 2.2, dash: str = "") -> None:
        points, pieces = [], []
        for a, b in zip(self._x(x), self._y(y), strict=True):
            if np.isfinite(a) and np.isfinite(b):
                points.append(f"{a:.2f},{b:.2f}")
            elif points:
                pieces.append(points)
                points = []
        style = f"fill='none' stroke='{colour}' stroke-width='{width}' stroke-linejoin='round'"
        style += f" stroke-dasharray='{dash}'" if dash else ""
        self.inside += [f"<polyline points='{' '.join(p)}' {style}/>" for p in [*pieces, points] if p]

    def dot(self, x: float, y: float) -> None:
        a, b = self._x([x])[0], self._y([y])[0]
        if np.isfinite(a) and np.isfinite(b):
            self.above.append(
                f"<circle cx='{a:.2f}' cy='{b:.2f}' r='6' fill='{INK}' stroke='white' stroke-width='2'/>"
            )

    def bar(self, x: float, y: float, height: float, colour: str) -> None:
        """From 0 to x, about y; ``height`` in units of y."""
        (start, end), (low, high) = self._x([0, x]), sorted(self._y([y - height / 2, y + height / 2]))
        size = f"width='{abs(end - start):.2f}' height='{high - low:.2f}'"
        place = f"x='{min(start, end):.2f}' y='{low:.2f}'"
        self.inside.append(f"<rect {place} {size} fill='{colour}' stroke='{INK}'/>")

    @property
    def svg(self) -> str:
        (width, height), (left, right, top, bottom) = self.size, self._box
        frame = f"x='{left}' y='{top}' width='{right - left}' height='{bottom - top}'"
        middle = (top + bottom) / 2
        return "".join(
            [
                f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {_FONT}>",
                f"<title>{self.description}</title><clipPath id='box'><rect {frame}/></clipPath>",
                *self._grid(),
                f"<g clip-path='url(#box)'>{''.join(self.inside)}</g>",
                f"<rect {frame} fill='none' stroke='{INK}'/>",
                *self.above,
                _text((left + right) / 2, height - 8, self.x.label, "middle", 15),
                f"<g transform='translate(16 {middle}) rotate(-90)'>",
                _text(0, 0, self.y.label, "middle", 15),
                "</g>",
                "</svg>",
            ]
        )

    @property
    def address(self) -> str:
        """The picture as the address of an image."""
        return "data:image/svg+xml," + quote(self.svg, safe=" ='/:<>,.()")

    @property
    def _box(self) -> tuple[float, float, float, float]:
        return _LEFT, self.size[0] - _RIGHT, _TOP, self.size[1] - _BOTTOM

    def _x(self, values) -> np.ndarray:
        return self.x.place(values, *self._box[:2])

    def _y(self, values) -> np.ndarray:
        return self.y.place(values, *self._box[:1:-1])

    def _grid(self):
        left, right, top, bottom = self._box
        lines = f"stroke='{GRID}'"
        for value, text in self.x.ticks:
            at = left + (value - self.x.low) / (self.x.high - self.x.low) * (right - left)
            yield f"<line x1='{at:.2f}' x2='{at:.2f}' y1='{top}' y2='{bottom}' {lines}/>"
            yield _text(at, bottom + 16, text, "middle")
        for value, text in self.y.ticks:
            at = bottom - (value - self.y.low) / (self.y.high - self.y.low) * (bottom - top)
            yield f"<line x1='{left}' x2='{right}' y1='{at:.2f}' y2='{at:.2f}' {lines}/>"
            yield _text(left - 6, at + 4.5, text, "end", 15 if "tspan" in text else 13)


def _text(x: float, y: float, text: str, anchor: str, size: int = 13) -> str:
    return (
        f"<text x='{x:.2f}' y='{y:.2f}' text-anchor='{anchor}' font-size='{size}' fill='{INK}'>{text}</text>"
    )


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _power(mantissa: int, exponent: int) -> str:
    if -2 <= exponent <= 2:
        return f"{mantissa * 10.0**exponent:g}"
    digits = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{digits}" if mantissa == 1 else f"{mantissa}·10{digits}"
