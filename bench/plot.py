"""Charts of the results as SVG, written by hand: three kinds of chart need no plotting library."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Distinguishable for the colour-blind (Okabe and Ito)."""

Curves = Mapping[str, Sequence[tuple[float, float]]]


def ratios(document: Mapping[str, Any], path: Path) -> None:
    """A bar for each scenario's ratio, with marks at the required ratio and at the aim."""
    parts, scale = [], 420
    for row, (name, result) in enumerate(document.items()):
        y, width = 30 + 34 * row, min(result["ratio"], 1.2) * scale
        colour = COLOURS[2] if result["ratio"] >= result["least"] else COLOURS[1]
        parts += [
            _text(130, y + 15, name, "end"),
            f'<rect x="140" y="{y}" width="{width:.0f}" height="20" fill="{colour}"/>',
            *(_line(140 + result[mark] * scale, y - 4, y + 24) for mark in ("least", "aim")),
            _text(146 + width, y + 15, f"{result['ratio']:.2f}"),
        ]
    title = _text(140, 18, "ratio to the floor; marks: at least, aim")
    _write(path, 680, 40 + 34 * len(document), [title, *parts])


def curves(lines_by_name: Curves, beside: Curves, path: Path, x_label: str, y_label: str) -> None:
    """Solid lines over a logarithmic x axis, the y axis from 0; the lines of `beside`, of the same names, dashed."""
    placed = [point for lines in (lines_by_name, beside) for points in lines.values() for point in points]
    low, high = math.log10(min(x for x, _ in placed)), math.log10(max(x for x, _ in placed))
    top = max(y for _, y in placed) * 1.15

    def place(x: float, y: float) -> tuple[float, float]:
        return 70 + 520 * (math.log10(x) - low) / ((high - low) or 1), 330 - 290 * y / top

    parts = [_text(330, 375, x_label, "middle"), _text(10, 20, y_label)]
    for power in range(math.ceil(low), math.floor(high) + 1):
        x, _ = place(10**power, 0)
        parts += [_line(x, 40, 330, "#ddd"), _text(x, 350, f"{10**power:,}", "middle")]
    unit = 10 ** math.floor(math.log10(top / 2))
    for step in range(1 + int(top / unit)):
        _, y = place(10**low, step * unit)
        parts.append(_text(62, y + 4, f"{step * unit:g}", "end"))
    for colour, name in zip(COLOURS, lines_by_name, strict=False):
        parts += _curve([place(*point) for point in lines_by_name[name]], name, colour)
        parts += _curve([place(*point) for point in beside[name]], "", colour, "4 4")
    _write(path, 720, 390, parts)


def over_time(panels: Mapping[str, Mapping[str, Sequence[float]]], marks: Mapping[str, float], path: Path) -> None:
    """Panels one above the other, each with lines of one value per second from second 0, and labelled `marks`."""
    seconds = max(len(values) for lines in panels.values() for values in lines.values())
    parts = []
    for number, (title, lines) in enumerate(panels.items()):
        bottom, high = 170 + 180 * number, 130
        top = max(max(values) for values in lines.values()) or 1
        parts += [_text(70, bottom - high - 10, title), _line(70, bottom - high, bottom), _text(64, bottom, "0", "end")]
        parts.append(_text(64, bottom - high + 8, f"{top:,.0f}", "end"))
        for label, second in marks.items():
            x = 70 + 560 * second / seconds
            parts += [_line(x, bottom - high, bottom, "#bbb"), _text(x, bottom + 16, label, "middle")]
        for colour, (name, values) in zip(COLOURS, lines.items(), strict=False):
            places = [(70 + 560 * n / seconds, bottom - high * value / top) for n, value in enumerate(values)]
            parts += _line_through(places, name, colour)
    _write(path, 760, 30 + 180 * len(panels), parts)


def _line_through(places: Iterable[tuple[float, float]], name: str, colour: str) -> list[str]:
    placed = [f"{x:.1f},{y:.1f}" for x, y in places]
    x, y = placed[-1].split(",")
    line = f'<polyline points="{" ".join(placed)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    return [line, _text(float(x) + 6, float(y) + 4, name, colour=colour)]


def _curve(points: Iterable[tuple[float, float]], name: str, colour: str, dashes: str = "none") -> list[str]:
    placed = [f"{x:.1f},{y:.1f}" for x, y in points]
    x, y = placed[-1].split(",")
    return [
        f'<polyline points="{" ".join(placed)}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dashes}"/>',
        *(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in (point.split(",") for point in placed)),
        _text(float(x) + 8, float(y) + 4, name, colour=colour),
    ]


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'


def _line(x: float, top: float, bottom: float, colour: str = "#222") -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'


def _write(path: Path, width: int, height: int, parts: Iterable[str]) -> None:
    style = 'font-family="sans-serif" font-size="13"'
    frame = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" {style}>'
    background = f'<rect width="{width}" height="{height}" fill="white"/>'
    path.write_text("\n".join([frame, background, *parts, "</svg>"]) + "\n")
