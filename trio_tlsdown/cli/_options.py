"""What the options of several subcommands have in common."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any, Final

import click
from click.core import ParameterSource

KEY_LOG: Final = "SSLKEYLOGFILE"


class Seconds(click.FloatRange):
    """A number of seconds: more than none, no more than an hour."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True, max=3600)

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> float:
        """Refuse NaN too, which is neither above nor below a limit."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is not a number of seconds.", param, ctx)
        return seconds


def given() -> list[str]:
    """The options on the command line, in the order of the help."""
    ctx = click.get_current_context()
    return [
        param.opts[0]
        for param in ctx.command.params
        if isinstance(param, click.Option)
        and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
    ]


def one_of(*options: str) -> None:
    """Refuse more than one of some options.

    Raises:
      click.UsageError: several were given.
    """
    found = [option for option in given() if option in options]
    if len(found) > 1:
        raise click.UsageError(f"Give only one of {', '.join(found)}.")


def alone(option: str, *, beside: Iterable[str] = ()) -> None:
    """Refuse all other options, which would have no effect, and arguments.

    Raises:
      click.UsageError: some were given.
    """
    others = [other for other in (*beside, *given()) if other != option]
    if others:
        raise click.UsageError(
            f"{option} must be used alone: leave out {', '.join(others)}."
        )


def check_key_log() -> None:
    """Check the file to which the keys of sessions are to be added, if any.

    Raises:
      OSError: it cannot be written; the message names the environment variable.
    """
    if path := os.environ.get(KEY_LOG):
        try:
            open(path, "ab").close()
        except OSError as exc:
            raise OSError(f"{KEY_LOG}={path}: {exc.strerror}") from exc
