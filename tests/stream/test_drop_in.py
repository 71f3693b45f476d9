"""A TLSStream is a trio.SSLStream to every program that asks: so it has all of it."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import NAME, client_context, server_context
from trio_tlsdown import TLSListener, TLSStream


def of_trio() -> trio.SSLStream[Any]:
    transport, _ = trio.testing.memory_stream_pair()
    return trio.SSLStream(transport, client_context(), server_hostname=NAME)


def of_ours() -> TLSStream[Any]:
    transport, _ = trio.testing.memory_stream_pair()
    return TLSStream(transport, client_context(), server_hostname=NAME)


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


OF_THE_CLASS = public(dir(trio.SSLStream))
# SSLStream forwards these to its ssl.SSLObject, and dir() tells which.
FORWARDED = public(dir(of_trio())) & public(dir(ssl.SSLObject)) - OF_THE_CLASS


def check_takes_all_of(
    ours: Callable[..., Any], theirs: Callable[..., Any], *extra: str
) -> None:
    """Whatever *theirs* can be called with, *ours* can; and else *extra* by name."""
    a, b = inspect.signature(ours).parameters, inspect.signature(theirs).parameters
    for name, parameter in b.items():
        assert a[name].kind is parameter.kind
        assert a[name].default == parameter.default
    assert [*a][: len(b)] == [*b]
    assert set(a) - set(b) == set(extra)
    assert all(a[name].kind is inspect.Parameter.KEYWORD_ONLY for name in extra)
    assert all(a[name].default is not inspect.Parameter.empty for name in extra)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)


def test_a_stream_is_an_sslstream_and_a_listener_an_ssllistener() -> None:
    stream: object = of_ours()  # of a final class, which the type checker minds
    assert isinstance(stream, trio.SSLStream)
    assert issubclass(TLSListener, trio.SSLListener)
    assert not isinstance(of_trio(), TLSStream)


@pytest.mark.parametrize("name", sorted(OF_THE_CLASS))
def test_each_method_can_be_called_as_that_of_sslstream(name: str) -> None:
    check_takes_all_of(getattr(TLSStream, name), getattr(trio.SSLStream, name))


@pytest.mark.parametrize("name", sorted(FORWARDED))
def test_each_attribute_of_sslobject_is_there(name: str) -> None:
    ours = inspect.getattr_static(TLSStream, name)
    theirs = inspect.getattr_static(ssl.SSLObject, name)
    assert isinstance(ours, property) is isinstance(theirs, property)
    if isinstance(theirs, property):
        assert (ours.fset is None) is (theirs.fset is None)
    else:
        check_takes_all_of(ours, theirs)


# `receive_some` and `send_all` have their place.
REPLACED = {"read", "write"}


@pytest.mark.parametrize("name", sorted(public(dir(ssl.SSLObject)) - REPLACED))
def test_all_that_this_pythons_sslobject_has_is_there(name: str) -> None:
    ours = inspect.getattr_static(TLSStream, name)
    theirs = inspect.getattr_static(ssl.SSLObject, name)
    assert isinstance(ours, property) is isinstance(theirs, property)


def test_each_attribute_of_an_sslstream_instance_is_there() -> None:
    assert public(dir(of_trio())) == OF_THE_CLASS | FORWARDED | {"transport_stream"}
    assert public(dir(of_trio())) <= public(dir(of_ours()))


def test_a_stream_and_a_listener_take_the_arguments_of_trios() -> None:
    check_takes_all_of(
        TLSStream.__init__,
        trio.SSLStream.__init__,
        "policy",
        "trace",
        "initial_bytes",
    )
    check_takes_all_of(TLSListener.__init__, trio.SSLListener.__init__, "policy")


@pytest.mark.parametrize("name", sorted(public(dir(trio.SSLListener))))
def test_each_method_of_a_listener_can_be_called_as_that_of_ssllistener(
    name: str,
) -> None:
    check_takes_all_of(getattr(TLSListener, name), getattr(trio.SSLListener, name))


async def test_a_listener_has_its_transport_listener() -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        for kind in TLSListener, trio.SSLListener:
            assert kind(listener, server_context()).transport_listener is listener


def test_httpcore_finds_the_sslobject_where_it_looks() -> None:
    """It reads an attribute that is none of its business; see _facts.py."""
    stream = of_ours()
    found = stream._ssl_object
    assert isinstance(found, ssl.SSLObject)
    assert found.server_hostname == NAME
    with pytest.raises(AttributeError):
        stream._ssl_object = found  # type: ignore[misc]
