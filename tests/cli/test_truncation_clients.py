"""docs/probe-clients.md tells the truth about the clients that are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.interop.programs import unavailable

from .truncation_clients import (
    CASES,
    CLIENTS,
    PAGE,
    Client,
    main,
    read_page,
    row_of,
    told,
)


def published(client: Client, page: Path = PAGE) -> dict[str, bool]:
    """What the page has of a client, in the version that is installed."""
    if client.version is None:
        unavailable(f"{client.name} is not installed")
    name = f"{client.name} {client.version}"
    if (row := read_page(page).get(name)) is None:
        pytest.skip(f"{page.name} has another version than {name}")
    return row


@pytest.mark.long
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
    wanted = published(client)
    assert row_of(client, tmp_path) == wanted


def test_the_page_is_what_its_maker_writes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shutil.copy(PAGE, page)
    client = Client("Python urllib")
    main(page, [client, Client("none")])
    assert list(read_page(page)) == [f"{client.name} {client.version}"]
    [row] = read_page(page).values()
    assert list(row) == list(CASES)
    assert page.read_text("utf-8").startswith("# Which clients notice")


def test_a_client_that_is_missing_or_of_another_version_is_owned_up_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    assert told("no-such-program-anywhere") is None
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        published(Client("none"))
    page = tmp_path / "page.md"
    main_part = PAGE.read_text("utf-8").replace("urllib", "another")
    page.write_text(main_part, "utf-8")
    with pytest.raises(pytest.skip.Exception, match="another version"):
        published(Client("Python urllib"), page)
