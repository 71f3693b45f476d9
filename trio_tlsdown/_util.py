"""Small things that belong nowhere else."""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """Let go of the frames an error has passed through, so that it can be kept.

    They refer to whoever keeps it: such a cycle, and with it a TLS session, would
    live until the garbage collector finds it.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link.__context__ = None
        link = link.__cause__
    return error
