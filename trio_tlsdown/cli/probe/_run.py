"""Probes hosts: each with both TLS versions, some at a time."""

from __future__ import annotations

import datetime as dt
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import attrs
import trio

from ._checks import Version, judge
from ._key_log import KeyLog
from ._observe import (
    Conversation,
    Experiment,
    Limits,
    Observation,
    ObserveError,
    Refusal,
)
from ._protocols import Protocol
from ._resembles import resembles
from ._results import HostResult, VersionResult
from ._targets import Target

# CPython loses 6.5 KB at each look at SSLObject.session: python/cpython#116810, mended
# in 3.12.8 and 3.13.1. So that memory stays bounded, fewer hosts are asked there.
LEAKS: Final = sys.version_info < (3, 12, 8) or (3, 13) <= sys.version_info < (3, 13, 1)
LEAKING_LIMIT: Final = 100 if LEAKS else None


def _key_log_of(settings: Settings) -> KeyLog | None:
    context = settings.contexts.get("1.3")
    return None if context is None else KeyLog(context)


@attrs.frozen(kw_only=True)
class Settings:
    """How to probe, whatever host."""

    protocol: Protocol
    contexts: Mapping[Version, ssl.SSLContext]
    limits: Limits = attrs.field(factory=Limits)
    server_name: str | None = None
    """Default: the host."""

    insecure: bool = False
    keep_events: bool = False
    """Keep what was traced, to be drawn."""

    key_log: KeyLog | None = attrs.field(
        init=False, default=attrs.Factory(_key_log_of, takes_self=True)
    )

    resumption: int | None = attrs.field(factory=lambda: LEAKING_LIMIT)
    """How many hosts are asked whether they resume sessions; None: all."""


async def probe_host(
    target: Target, settings: Settings, *, resumes: bool = True
) -> HostResult:
    """Probe one host. It never raises, whatever the server does.

    Args:
      target: Which.
      settings: How.
      resumes: Whether to ask if it resumes sessions. Default: True.

    Cancellation:
      All connections are closed.
    """
    began, clock = dt.datetime.now(dt.UTC), trio.current_time()
    conversation = Conversation(
        target,
        settings.protocol,
        settings.server_name or target.host,
        settings.limits,
        keep_events=settings.keep_events,
        key_log=settings.key_log,
        resumes=resumes,
    )
    versions: list[VersionResult] = []
    for version, context in settings.contexts.items():
        versions.append(await _probe_version(conversation, version, context))
    return HostResult(
        target=target,
        protocol=settings.protocol.name,
        began=began,
        seconds=trio.current_time() - clock,
        address=conversation.address[0] if conversation.address else None,
        banner=conversation.banner,
        insecure=settings.insecure,
        versions=tuple(versions),
    )


async def _probe_version(
    conversation: Conversation, version: Version, context: ssl.SSLContext
) -> VersionResult:
    seen: dict[Experiment, Observation] = {}
    conversation.session = conversation.cut_session = None
    conversation.certificate = None  # it may have another one for this version
    for experiment in Experiment:
        if not _is_possible(experiment, conversation):
            continue
        try:
            seen[experiment] = await conversation.observe(experiment, context)
        except ObserveError as exc:
            if experiment is Experiment.IDLE:
                return VersionResult(
                    tls=version,
                    error=str(exc),
                    unsupported=exc.refusal is Refusal.VERSION,
                    resembles=resembles({}, exc.refusal),
                )
    return VersionResult(
        tls=version,
        cipher=conversation.cipher,
        certificate=conversation.certificate,
        findings=judge(version, seen, resumes=conversation.resumes),
        seen=seen,
        resembles=resembles(seen),
    )


def _is_possible(experiment: Experiment, conversation: Conversation) -> bool:
    protocol = conversation.protocol
    match experiment:
        case Experiment.HALF_CLOSE:
            return bool(protocol.request)
        case Experiment.GOODBYE:
            return bool(protocol.goodbye)
        case Experiment.BAD_REQUEST:
            return bool(protocol.bad_request)
        case Experiment.UNREAD:
            return bool(protocol.filler)
        case Experiment.RESUME | Experiment.RESUME_CUT:
            return conversation.session_for(experiment) is not None
        case _:
            return True


async def probe_hosts(
    targets: Iterable[Target],
    settings: Settings,
    *,
    concurrency: int,
    done: Callable[[HostResult], object],
) -> None:
    """Probe many hosts, some at a time.

    Args:
      targets: Which. They are asked for one by one, when there is room.
      settings: How.
      concurrency: At most so many at a time.
      done: Called with each result as soon as it is known.

    Cancellation:
      All connections are closed. What was not known yet is lost.
    """
    waiting = enumerate(targets)
    most = settings.resumption

    async def work() -> None:
        for number, target in waiting:
            resumes = most is None or number < most
            done(await probe_host(target, settings, resumes=resumes))

    async with trio.open_nursery() as nursery:
        for _ in range(concurrency):
            nursery.start_soon(work)
