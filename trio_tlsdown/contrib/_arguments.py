"""Argument validation."""

from __future__ import annotations


def check_type(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        wanted = expected.__name__
        article = "an" if wanted.startswith(tuple("AEIOUaeiou")) else "a"
        raise TypeError(f"{name} must be {article} {wanted}, not {value!r}")


def check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not value >= 0:  # NaN, too
        raise ValueError(f"{name} must be >= 0 seconds, not {value!r}")
