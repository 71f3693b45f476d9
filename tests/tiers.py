"""The tests that were collected: which `make test` leaves to `make test-all`."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from zlib import crc32

import pytest


@pytest.hookimpl(tryfirst=True)  # before `-m 'not long'` is heeded
def pytest_collection_modifyitems(items: Iterable[pytest.Item]) -> None:
    """Mark a row as long if other rows of its test have each of its values.

    So each value of each parameter stays, such as each TLS version. The order is one
    that mixes them: else all servers might be left with TLS 1.2.
    """
    rows = {
        item: {(item.nodeid.partition("[")[0], *value) for value in _values(item)}
        for item in sorted(items, key=lambda item: crc32(item.nodeid.encode()))
        if item.get_closest_marker("long") is None
    }
    shown: set[object] = set()
    for all_new in (True, False):  # few rows are enough if they have nothing in common
        for item, values in rows.items():
            if values.isdisjoint(shown) if all_new else not values <= shown:
                shown |= values
                rows[item] = set()
    for item, values in rows.items():
        if values:
            item.add_marker("long")


def pytest_collection_finish() -> None:
    """Spare each gc.collect() of a test all that was imported and collected."""
    gc.freeze()


def _values(item: pytest.Item) -> Iterator[tuple[object, ...]]:
    """Its values; those that one ``parametrize`` gives together are one."""
    if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
        return
    rest = dict(item.callspec.params)
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0]
        if isinstance(names, str):
            names = [name.strip() for name in names.split(",")]
        yield tuple((name, id(rest.pop(name))) for name in names)
    for name, value in rest.items():
        yield ((name, id(value)),)
