"""Arguments of the wrong type are told at once, by name."""

from __future__ import annotations


def check_type(name: str, value: object, expected: type | object) -> None:
    if not isinstance(value, expected):  # type: ignore[arg-type]
        wanted = getattr(expected, "__name__", str(expected))
        raise TypeError(f"{name} must be a {wanted}, not {value!r}")
