"""Validation of what the test kit is asked for: errors name the public function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping


def keywords(function: Callable[..., object]) -> list[str]:
    """The names of the keyword-only parameters of *function*."""
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]


def check_options(
    function: Callable[..., object],
    options: Mapping[str, object],
    known: Iterable[str],
) -> None:
    """Raise TypeError for an option that is neither *known* nor of *function*."""
    names = list(dict.fromkeys([*keywords(function), *known]))
    for name in options:
        if name not in names:
            raise TypeError(
                f"{function.__name__}() has no option {name!r}; "
                f"there are: {', '.join(names)}"
            )


def check_type(name: str, value: object, expected: type) -> None:
    """Raise TypeError if *value* is no *expected*. A bool is no int."""
    if not isinstance(value, expected) or (
        isinstance(value, bool) and expected is not bool
    ):
        raise TypeError(f"{name} must be {expected.__name__}, not {value!r}")


def check_handler(handler: object) -> None:
    """Raise TypeError for what is no async function. C callables cannot be checked."""
    function = handler
    while isinstance(function, functools.partial):
        function = function.func
    plain = inspect.isfunction(function) or inspect.ismethod(function)
    if not callable(function) or (
        plain and not inspect.iscoroutinefunction(inspect.unwrap(function))
    ):
        raise TypeError(f"handler must be an async function, not {handler!r}")


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise TypeError or ValueError if *value* is none of the *choices*."""
    choices = list(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
