"""Contexts and pairs, as asked for."""

from __future__ import annotations

import inspect
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
import trio
import trio.testing
import trustme

from tests.support import descriptors, shake_hands
from trio_tlsdown import ShutdownOutcome, ShutdownPolicy, TLSFailedError, TLSStream
from trio_tlsdown.testing import (
    NAME,
    Cancellation,
    ContextOptions,
    MemoryTransport,
    RoguePeer,
    ScriptedPeer,
    TLSPair,
    cancel_everywhere,
    client_context,
    connect_rogue,
    memory_tls_pair,
    memory_transports,
    serve_rogue,
    server_context,
    tcp_tls_pair,
    tcp_transports,
    wrap_pair,
)

Make: TypeAlias = Callable[..., Awaitable[TLSPair[Any]]]

MAKERS: dict[str, Make] = {"memory": memory_tls_pair, "tcp": tcp_tls_pair}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Make:
    """A way to make a pair."""
    return MAKERS[request.param]


# Contexts:


@pytest.mark.parametrize("context", [client_context, server_context])
def test_a_version_is_the_only_one(
    context: Callable[..., ssl.SSLContext], version: str
) -> None:
    made = context(version=version)
    only = ssl.TLSVersion[version.replace(".", "_")]
    assert made.minimum_version == made.maximum_version == only


@pytest.mark.parametrize("context", [client_context, server_context])
def test_a_version_that_there_is_not_is_told_with_those_there_are(
    context: Callable[..., ssl.SSLContext],
) -> None:
    with pytest.raises(
        ValueError, match=r"must be one of TLSv1\.2, TLSv1\.3, not '1\.3'"
    ):
        context(version="1.3")


@pytest.mark.parametrize("context", [client_context, server_context])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"version": 1.3}, r"version must be one of TLSv1\.2, TLSv1\.3, not 1\.3"),
        ({"version": ["TLSv1.3"]}, "version must be one of"),
        ({"alpn": "h2"}, "alpn must be a list of names, such as \\['h2'\\], not 'h2'"),
        ({"alpn": [b"h2"]}, "alpn must be a list of names, such as \\['h2'\\], not"),
        ({"alpn": None}, "alpn must be a list of names, such as \\['h2'\\], not None"),
        ({"client_certificate": "yes"}, "client_certificate must be bool, not 'yes'"),
        ({"ca": "a file"}, "ca must be CA, not 'a file'"),
    ],
)
def test_an_option_of_the_wrong_type_is_told(
    context: Callable[..., ssl.SSLContext], options: dict[str, Any], error: str
) -> None:
    with pytest.raises(TypeError, match=error):
        context(**options)


def test_contexts_check_what_they_should() -> None:
    assert client_context().verify_mode is ssl.CERT_REQUIRED
    assert client_context().check_hostname
    assert server_context().verify_mode is ssl.CERT_NONE
    assert server_context(client_certificate=True).verify_mode is ssl.CERT_REQUIRED


async def test_a_ca_of_ones_own_signs_both_ways(version: str) -> None:
    ca = trustme.CA(organization_name="a CA of its own")
    options: dict[str, Any] = {"ca": ca, "client_certificate": True, "version": version}
    async with await memory_tls_pair(**options) as pair:
        for stream in pair:
            await exchange(pair)
            certificate = stream.getpeercert()
            assert certificate
            issuer = dict(part for (part,) in certificate["issuer"])
            assert issuer["organizationName"] == "a CA of its own"


async def test_a_client_that_trusts_another_ca_refuses_the_server() -> None:
    contexts = client_context(ca=trustme.CA()), server_context()
    with pytest.raises(ExceptionGroup) as caught:
        await wrap_pair(memory_transports(), contexts)
    # The server may still hear of it, or not.
    reasons = [
        error.reason
        for error in caught.value.exceptions
        if isinstance(error, TLSFailedError)
    ]
    assert "CERTIFICATE_VERIFY_FAILED" in reasons


OPTIONS = ["version", "alpn", "client_certificate", "ca"]
WITH_OPTIONS: list[Any] = [
    client_context,
    server_context,
    memory_tls_pair,
    tcp_tls_pair,
    connect_rogue,
    serve_rogue,
    RoguePeer,
    ScriptedPeer,
]


@pytest.mark.parametrize("function", WITH_OPTIONS, ids=lambda each: each.__name__)
async def test_an_option_that_there_is_not_is_told_with_those_there_are(
    function: Callable[..., Any],
) -> None:
    """In the name of the function that was called, and with its own keywords."""
    arguments = {
        name: object()
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    if "server_side" in inspect.signature(function).parameters:
        arguments["server_side"] = True
    if "name" in arguments:
        arguments["name"] = "flood"
    before = descriptors()

    async def call() -> None:
        await function(**arguments, versions="TLSv1.3")

    with pytest.raises(TypeError) as caught:
        await call()
    message = str(caught.value)
    assert message.startswith(
        f"{function.__name__}() has no option 'versions'; there are: "
    )
    assert message.endswith(", ".join(OPTIONS))
    for name, parameter in inspect.signature(function).parameters.items():
        assert (name in message) is (parameter.kind is parameter.KEYWORD_ONLY)
    assert descriptors() <= before


@pytest.mark.parametrize("function", WITH_OPTIONS, ids=lambda each: each.__name__)
def test_the_docstring_names_the_options(function: Callable[..., Any]) -> None:
    names = ", ".join(f"*{name}*" for name in OPTIONS).replace(", *ca*", " and *ca*")
    documented = inspect.getdoc(function) or ""
    assert f"**options: {names}: see `ContextOptions`." in " ".join(documented.split())


def test_contextoptions_documents_each_option() -> None:
    documented = inspect.getdoc(ContextOptions) or ""
    assert list(ContextOptions.__annotations__) == OPTIONS
    assert re.findall(r"^  (\w+): ", documented, re.MULTILINE) == OPTIONS


# What a pair is:


async def exchange(pair: TLSPair[Any]) -> None:
    for sender, receiver in pair, pair[::-1]:
        await sender.send_all(b"data")
        assert await receiver.receive_some() == b"data"


async def test_a_pair_has_shaken_hands_in_the_version_asked_for(
    make: Make, version: str
) -> None:
    async with await make(version=version) as pair:
        for stream in pair:
            assert stream.version() == version
        await exchange(pair)


async def test_a_pair_is_a_tuple_of_client_and_server(make: Make) -> None:
    async with await make() as pair:
        client, server = pair
        assert pair.client is client
        assert pair.server is server
        assert not client.server_side
        assert server.server_side
        assert client.server_hostname == NAME


async def test_a_pair_is_over_the_transport_that_its_name_says() -> None:
    async with await memory_tls_pair() as (client, _):
        assert isinstance(client.transport_stream, MemoryTransport)
    async with await tcp_tls_pair() as (client, _):
        assert isinstance(client.transport_stream, trio.SocketStream)


async def test_a_pair_can_be_on_ipv6() -> None:
    async with await tcp_tls_pair("::1") as pair:
        assert pair.client.transport_stream.socket.getpeername()[0] == "::1"
        await exchange(pair)


async def test_the_block_of_a_pair_aborts_what_is_open(make: Make) -> None:
    async with await make() as pair:
        pass
    for stream in pair:
        assert stream.report.outcome is ShutdownOutcome.ABORTED
        assert not stream.report.close_notify_sent
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()


async def test_the_block_of_a_pair_leaves_a_good_ending_as_it_is(make: Make) -> None:
    async with await make() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(pair.client.shutdown)
        nursery.start_soon(pair.server.shutdown)
    for stream in pair:
        assert stream.report.outcome is ShutdownOutcome.COMPLETE


async def test_the_block_of_a_pair_closes_both_when_it_is_cancelled(
    make: Make,
) -> None:
    pair = await make()
    with trio.CancelScope() as scope:
        async with pair:
            scope.cancel()
            await trio.lowlevel.checkpoint()
    for stream in pair:
        with pytest.raises(trio.ClosedResourceError):
            await stream.transport_stream.receive_some()


async def test_alpn_is_agreed_on(make: Make, version: str) -> None:
    async with await make(alpn=["h2", "http/1.1"], version=version) as pair:
        for stream in pair:
            assert stream.selected_alpn_protocol() == "h2"
    async with await make(version=version) as pair:
        assert pair.client.selected_alpn_protocol() is None


async def test_a_client_has_a_certificate_if_asked_for(
    make: Make, version: str
) -> None:
    async with await make(client_certificate=True, version=version) as pair:
        certificate = pair.server.getpeercert()
        assert certificate
        assert ("DNS", "client.example") in certificate["subjectAltName"]
    async with await make(version=version) as pair:
        assert not pair.server.getpeercert()


@pytest.mark.parametrize("end", ["client", "server"])
async def test_both_ends_of_a_pair_have_the_policy(
    make: Make, end: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with await make(policy=ShutdownPolicy(timeout=77)) as pair:
        began = trio.current_time()
        await getattr(pair, end).shutdown()
        assert trio.current_time() - began == pytest.approx(77)


async def test_a_handshake_can_be_left_to_the_test(make: Make, version: str) -> None:
    async with await make(handshake=False, version=version) as pair:
        for stream in pair:
            with pytest.raises(trio.NeedHandshakeError):
                stream.version()
        await shake_hands(*pair)
        await exchange(pair)


async def test_pairs_keep_the_contract_of_a_half_closeable_stream(
    make: Make,
) -> None:
    """In TLS 1.3, whose half-close it is."""
    # A peer that sends on and on, as there, is waited for when closing.
    policy = ShutdownPolicy(linger_timeout=0)

    async def maker() -> tuple[TLSStream[Any], TLSStream[Any]]:
        return await make(version="TLSv1.3", policy=policy)

    await trio.testing.check_half_closeable_stream(maker, None)


# What a pair leaves behind:


async def test_a_wrong_option_leaves_nothing_open(make: Make) -> None:
    before = descriptors()
    with pytest.raises(ValueError, match="version must be"):
        await make(version="SSLv3")
    with pytest.raises(TypeError, match="policy"):
        await make(policy=5)
    assert descriptors() <= before


async def test_a_cancelled_handshake_leaves_nothing_open(
    make: Make, version: str
) -> None:
    async def scenario(cancellation: Cancellation) -> None:
        contexts = client_context(version=version), server_context(version=version)
        transports: tuple[Any, Any] = (
            memory_transports() if make is memory_tls_pair else await tcp_transports()
        )
        with cancellation:
            await wrap_pair(transports, contexts)
        if cancellation.cancelled:
            for end in transports:
                with pytest.raises(trio.ClosedResourceError):
                    await end.receive_some()

    assert await cancel_everywhere(scenario) >= 1


async def test_a_cancelled_tcp_pair_leaves_nothing_open() -> None:
    async def make_and_close() -> None:
        async with await tcp_tls_pair():
            pass

    assert await cancel_everywhere(make_and_close) >= 5


async def test_a_failed_handshake_leaves_nothing_open(make: Make) -> None:
    transports: tuple[Any, Any] = (
        memory_transports() if make is memory_tls_pair else await tcp_transports()
    )
    contexts = client_context(version="TLSv1.2"), server_context(version="TLSv1.3")
    with pytest.raises(ExceptionGroup) as caught:
        await wrap_pair(transports, contexts)
    assert caught.group_contains(TLSFailedError)
    for end in transports:
        with pytest.raises(trio.ClosedResourceError):
            await end.receive_some()
