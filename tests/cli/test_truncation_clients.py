"""docs/probe-clients.md tells the truth about the clients that are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.programs import unavailable

from .truncation_clients import CASES, CLIENTS, Client, read_page, row_of, table


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(
            client, marks=pytest.mark.long if client.name.startswith("Go") else ()
        )
        for client in CLIENTS
    ],
    ids=lambda client: client.name,
)
def test_the_page_tells_which_cuts_a_client_notices(
    client: Client, tmp_path: Path
) -> None:
    if client.version is None:
        unavailable(f"{client.name} is not installed")
    published = read_page().get(f"{client.name} {client.version}")
    if published is None:
        pytest.skip(f"the page has another version than {client.name} {client.version}")
    assert row_of(client, tmp_path) == published


def test_the_page_is_what_its_maker_writes() -> None:
    rows = read_page()
    assert rows
    for row in rows.values():
        assert list(row) == list(CASES)
    assert table(rows).count("\n") == len(rows) + 2
