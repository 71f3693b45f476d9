"""docs/probe-clients.md tells the truth about the clients that are installed."""

from __future__ import annotations

import shutil
import sys
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

THIS_PYTHON = f"Python urllib {sys.version.split()[0]}" in read_page(PAGE)


def published(client: Client, page: Path = PAGE) -> dict[str, bool]:
    """What the page has of a client, if need be in another version."""
    if client.version is None:
        unavailable(f"{client.name} is not installed")
    rows = read_page(page)
    row = rows.get(f"{client.name} {client.version}")
    others = [row for name, row in rows.items() if name.startswith(f"{client.name} ")]
    if row is None and not others:
        pytest.skip(f"{page.name} has no row of {client.name}")
    return row or others[0]


@pytest.mark.long
@pytest.mark.parametrize(
    "client",
    # Those in Python notice more or less with each version of it.
    [one for one in CLIENTS if THIS_PYTHON or not one.name.startswith("Python")],
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


def test_a_client_that_is_missing_or_not_on_the_page_is_owned_up_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TLSDOWN_REQUIRE_PEERS", raising=False)
    assert told("no-such-program-anywhere") is None
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        published(Client("none"))
    page = tmp_path / "page.md"
    main_part = PAGE.read_text("utf-8").replace("urllib", "another")
    page.write_text(main_part, "utf-8")
    with pytest.raises(pytest.skip.Exception, match="no row of"):
        published(Client("Python urllib"), page)
