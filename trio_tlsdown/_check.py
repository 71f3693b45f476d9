"""Arguments that cannot be right are told at once, by name."""

from __future__ import annotations

import math


def check_type(name: str, value: object, expected: type | object) -> None:
    if not isinstance(value, expected):  # type: ignore[arg-type]
        wanted = getattr(expected, "__name__", str(expected))
        raise TypeError(f"{name} must be a {wanted}, not {value!r}")


def check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be >= 0 seconds and fit a float") from None
    if math.isnan(seconds) or seconds < 0:
        raise ValueError(f"{name} must be >= 0 seconds, not {value!r}")


def check_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be >= 1, not {value!r}")


def as_octets(name: str, value: object) -> bytes | memoryview:
    """The bytes of any buffer; a copy only where they are not in one piece."""
    try:
        view = memoryview(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be bytes, not {type(value).__name__}") from None
    return view.cast("B") if view.c_contiguous else view.tobytes()
