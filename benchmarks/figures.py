"""How numbers are written, the same in tables, documents and plots."""

from __future__ import annotations


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"
