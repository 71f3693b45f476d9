"""The fixtures, as somebody else's project uses them."""

from __future__ import annotations

import textwrap

import pytest

# What an inner run imports first, pytester would have imported again by the next
# one; cryptography does not stand that.
import trio_tlsdown.testing

pytest_plugins = "pytester"


FIXTURES = [
    "rogue_peer",
    "tls_ca",
    "tls_client_context",
    "tls_pair",
    "tls_server",
    "tls_server_context",
]
ASYNC_FIXTURES = ["rogue_peer", "tls_pair", "tls_server"]
INSTALL = "pip install 'trio-tlsdown[testing]'"

STRICT = "[pytest]\nstrict = true\nfilterwarnings = error\n"
TRIO_MODE = STRICT + "trio_mode = true\n"

IMPORTS = """
import ssl
import pytest
import trio
from trio_tlsdown import ShutdownOutcome, TLSStream, TruncatedError
from trio_tlsdown.testing import BEHAVIOURS, client_context, server_context
"""

TLS12 = """
@pytest.fixture
def tls_client_context(tls_client_context):
    tls_client_context.maximum_version = ssl.TLSVersion.TLSv1_2
    return tls_client_context
"""

WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] != {name!r}:
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
# pytest itself loads pytest-trio, unless it is told which plugins there are.
JUST_OURS = ["--disable-plugin-autoload", "-p", "trio_tlsdown"]

TRUSTME = pytest.param("trustme", marks=pytest.mark.long)
CRYPTOGRAPHY = pytest.param("cryptography", marks=pytest.mark.long)
without_each = pytest.mark.parametrize(
    "missing", ["pytest_trio", TRUSTME, CRYPTOGRAPHY]
)


BY_MARKER = pytest.param("marker", marks=pytest.mark.long)


@pytest.fixture(params=["trio_mode", BY_MARKER])
def project(request: pytest.FixtureRequest, pytester: pytest.Pytester) -> Project:
    """A project whose async tests run in trio, by either way there is."""
    if request.param == "trio_mode":
        return Project(pytester, TRIO_MODE, "")
    return Project(pytester, STRICT, "pytestmark = pytest.mark.trio\n")


class Project:
    def __init__(self, pytester: pytest.Pytester, ini: str, head: str) -> None:
        self.pytester = pytester
        self.head = head
        pytester.makeini(ini)

    def run(self, source: str, *arguments: str) -> pytest.RunResult:
        source = IMPORTS + self.head + textwrap.dedent(source)
        self.pytester.makepyfile(test_users=source)
        return self.pytester.runpytest_inprocess(*arguments)

    def passes(self, source: str, tests: int = 1) -> None:
        self.run(source).assert_outcomes(passed=tests)


def test_tls_pair_is_a_client_and_a_server_that_have_shaken_hands(
    project: Project,
) -> None:
    project.passes("""
        async def test(tls_pair):
            client, server = tls_pair
            assert (client.server_side, server.server_side) == (False, True)
            assert client.version() == server.version() == "TLSv1.3"
            await client.send_all(b"ping")
            assert await server.receive_some() == b"ping"
    """)


def test_tls_pair_is_closed_behind_the_test(project: Project) -> None:
    project.passes(
        """
        PAIRS = []

        async def test_first(tls_pair):
            PAIRS.append(tls_pair)

        async def test_second():
            for stream in PAIRS[0]:
                with pytest.raises(trio.ClosedResourceError):
                    await stream.receive_some()
        """,
        tests=2,
    )


def test_what_a_test_has_closed_well_stays_so(project: Project) -> None:
    project.passes(
        """
        PAIRS = []

        async def test_first(tls_pair):
            PAIRS.append(tls_pair)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tls_pair.client.shutdown)
                nursery.start_soon(tls_pair.server.shutdown)

        async def test_second():
            for stream in PAIRS[0]:
                assert stream.report.outcome is ShutdownOutcome.COMPLETE
        """,
        tests=2,
    )


def test_an_error_in_a_test_with_a_pair_is_told_as_what_it_is(
    project: Project,
) -> None:
    result = project.run("""
        async def test(tls_pair):
            client, server = tls_pair
            await trio.aclose_forcefully(client)
            await server.receive_some()
    """)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test - TruncatedError(*"])


def test_the_contexts_are_of_the_session_ca_and_for_this_machine(
    project: Project,
) -> None:
    project.passes(
        """
        CAS = []

        def issuer(context):
            [certificate] = context.get_ca_certs(binary_form=True)
            return certificate

        async def test_first(tls_ca, tls_client_context, tls_server_context):
            CAS.append(tls_ca)
            expected = ssl.PEM_cert_to_DER_cert(tls_ca.cert_pem.bytes().decode())
            assert issuer(tls_client_context) == expected
            assert tls_client_context.check_hostname

        async def test_second(tls_ca, tls_pair):
            assert tls_ca is CAS[0]
            names = [name for _, name in tls_pair.client.getpeercert()["subjectAltName"]]
            assert names == ["localhost", "127.0.0.1", "0:0:0:0:0:0:0:1"]
        """,
        tests=2,
    )


def test_a_sync_test_can_have_the_contexts(pytester: pytest.Pytester) -> None:
    Project(pytester, STRICT, "").passes("""
        def test(tls_ca, tls_client_context, tls_server_context):
            assert tls_client_context is not tls_server_context
    """)


def test_tls_server_runs_a_handler_and_reports_each_ending(project: Project) -> None:
    project.passes("""
        async def test(tls_server):
            async def greet(stream):
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b""

            server = await tls_server(greet)
            async with await server.connect() as stream:
                assert await stream.receive_some() == b"hello"
            [report] = await server.wait_reports()
            assert report.outcome is ShutdownOutcome.COMPLETE
    """)


def test_tls_server_echoes_by_default_and_ends_with_the_test(project: Project) -> None:
    project.passes("""
        async def test(tls_server):
            server = await tls_server()
            async with await server.connect() as stream:
                await stream.send_all(b"ping")
                assert await stream.receive_some() == b"ping"
    """)


def test_what_a_handler_raises_is_logged_and_the_test_goes_on(
    project: Project,
) -> None:
    project.passes("""
        async def test(tls_server, caplog):
            async def handler(stream):
                raise ArithmeticError("of the handler")

            server = await tls_server(handler)
            async with await server.connect() as stream:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            await server.wait_reports()
            assert [str(error) for error in server.errors] == ["of the handler"]
            [record] = caplog.records
            assert (record.name, record.levelname) == ("trio_tlsdown", "ERROR")
    """)


def test_the_readmes_server_runs_in_tls_server(project: Project) -> None:
    project.passes("""
        from trio_tlsdown import cancel_on_drain

        async def test(tls_server):
            async def handler(stream):
                while True:
                    request = b""
                    with cancel_on_drain():
                        request = await stream.receive_some()
                    if not request:
                        return
                    await stream.send_all(request.upper())

            server = await tls_server(handler)
            async with await server.connect() as stream:
                await stream.send_all(b"ping")
                assert await stream.receive_some() == b"PING"
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.server.drain)
                    assert await stream.receive_some() == b""
                    await stream.shutdown()
            [report] = await server.wait_reports()
            assert report.outcome is ShutdownOutcome.COMPLETE
            assert report.first == "local"
    """)


@pytest.mark.parametrize("project", ["trio_mode", "marker"], indirect=True)
def test_the_docs_way_to_use_rogue_peer(project: Project) -> None:
    project.passes("""
        async def test(rogue_peer):
            async with await rogue_peer("cut_before_close_notify") as stream:
                with pytest.raises(TruncatedError):
                    await stream.receive_some()
            assert stream.report.outcome is ShutdownOutcome.TRUNCATED
    """)


def test_a_test_can_be_parametrised_over_the_behaviours(project: Project) -> None:
    project.passes(
        """
        @pytest.mark.parametrize("name", BEHAVIOURS)
        async def test(name, rogue_peer, autojump_clock):
            connection = await rogue_peer(name, says=b"hello")
            assert connection.peer.behaviour.name == name
            if not connection.peer.behaviour.in_handshake:
                async with connection as stream:
                    assert await stream.receive_some(5) == b"hello"
        """,
        tests=len(trio_tlsdown.testing.BEHAVIOURS),
    )


def test_a_behaviour_that_there_is_not_is_told_with_those_there_are(
    project: Project,
) -> None:
    result = project.run("""
        async def test(rogue_peer):
            await rogue_peer("cut")
    """)
    result.assert_outcomes(failed=1)
    names = ", ".join(trio_tlsdown.testing.BEHAVIOURS)
    message = f"ValueError: there is no behaviour 'cut'; there are: {names}"
    assert message in result.stdout.str()


def test_peers_and_servers_that_a_test_leaves_running_end_with_it(
    project: Project,
) -> None:
    project.passes(
        """
        LEFT = []

        async def test_first(rogue_peer, tls_server):
            await tls_server()
            LEFT.append(await rogue_peer("never_answer"))
            await LEFT[0].stream.do_handshake()

        async def test_second():
            with pytest.raises(trio.ClosedResourceError):
                await LEFT[0].peer.transport.receive_some()
        """,
        tests=2,
    )


def test_the_fixtures_go_with_autojump_clock(project: Project) -> None:
    project.passes("""
        async def test(tls_pair, tls_server, rogue_peer, autojump_clock):
            began = trio.current_time()
            server = await tls_server()
            async with await server.connect() as stream:
                await stream.shutdown()
            async with await rogue_peer("never_answer") as stream:
                report = await stream.shutdown()
                assert report.outcome is ShutdownOutcome.ABORTED
            assert trio.current_time() - began == pytest.approx(5)
            with trio.move_on_after(3600):
                await tls_pair.client.receive_some()
    """)


def test_all_fixtures_follow_a_client_context_that_the_user_overrides(
    project: Project,
) -> None:
    project.passes(
        TLS12
        + textwrap.dedent("""
            async def test(tls_pair, tls_server, rogue_peer):
                assert tls_pair.client.version() == "TLSv1.2"
                server = await tls_server()
                async with await server.connect() as stream:
                    assert stream.version() == "TLSv1.2"
                async with await rogue_peer("close_without_waiting") as stream:
                    await stream.do_handshake()
                    assert stream.version() == "TLSv1.2"
        """)
    )


def test_all_fixtures_follow_a_server_context_that_the_user_overrides(
    project: Project,
) -> None:
    project.passes("""
        @pytest.fixture
        def tls_server_context(tls_ca):
            return server_context(ca=tls_ca, version="TLSv1.2")

        async def test(tls_pair, tls_server, rogue_peer):
            assert tls_pair.server.version() == "TLSv1.2"
            server = await tls_server()
            async with await server.connect() as stream:
                assert stream.version() == "TLSv1.2"
            connection = await rogue_peer("close_without_waiting", server_side=False)
            async with connection as stream:
                await stream.do_handshake()
                assert (stream.server_side, stream.version()) == (True, "TLSv1.2")
    """)


def test_arguments_of_rogue_peer_come_before_the_fixtures_contexts(
    project: Project,
) -> None:
    project.passes(
        TLS12
        + textwrap.dedent("""
            async def test(tls_ca, rogue_peer):
                options = {"version": "TLSv1.3", "alpn": ["x"], "client_certificate": True}
                async with await rogue_peer("never_answer", **options) as stream:
                    await stream.do_handshake()
                    assert stream.version() == "TLSv1.3"
                    assert stream.selected_alpn_protocol() == "x"
                context = client_context(ca=tls_ca, version="TLSv1.3")
                async with await rogue_peer("never_answer", context=context) as stream:
                    await stream.do_handshake()
                    assert stream.version() == "TLSv1.3"
        """)
    )


def test_contexts_that_do_not_suit_each_other_are_told_as_what_they_are(
    project: Project,
) -> None:
    result = project.run(
        TLS12
        + textwrap.dedent("""
            @pytest.fixture
            def tls_server_context():
                return server_context(version="TLSv1.3")

            async def test(tls_pair):
                pass
        """)
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*TLSFailedError: the TLS handshake failed: *"])


@pytest.mark.parametrize("fixture", ASYNC_FIXTURES)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_outside_trio_mode_the_message_says_what_to_do(
    pytester: pytest.Pytester, fixture: str, kind: str
) -> None:
    result = Project(pytester, STRICT, "").run(f"""
        {kind} test_it({fixture}):
            pass
    """)
    result.assert_outcomes(errors=1)
    message = (
        f"test_it uses {fixture}, which takes an async test that pytest-trio runs: "
        "make it `async def`, and either set trio_mode = true in pytest's "
        "configuration or mark it with @pytest.mark.trio"
    )
    assert message in result.outlines
    result.stdout.no_fnmatch_line("*Traceback*")


def test_in_trio_mode_a_sync_test_is_told_which_fixtures_are_async(
    pytester: pytest.Pytester,
) -> None:
    result = Project(pytester, TRIO_MODE, "").run("""
        def test_it(rogue_peer, tls_pair):
            pass
    """)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["test_it uses tls_pair and rogue_peer, which *"])


def test_pytest_fixtures_has_a_line_on_each(pytester: pytest.Pytester) -> None:
    lines = pytester.runpytest_inprocess("--fixtures").outlines
    start = lines.index(
        next(line for line in lines if "from trio_tlsdown._pytest_plugin" in line)
    )
    ours = lines[start + 1 : start + 1 + 3 * len(FIXTURES)]
    assert sorted(line.split()[0] for line in ours[::3]) == FIXTURES
    for line in ours[1::3]:
        assert line.startswith(("    A", "    Two"))
        assert line.endswith(".")


@without_each
def test_a_fixture_says_what_to_install(
    pytester: pytest.Pytester, missing: str
) -> None:
    source = "import pytest\n" + "".join(
        f"async def test_{name}({name}): pass\n" for name in FIXTURES
    )
    pytester.makeconftest(WITHOUT.format(name=missing))
    pytester.makepyfile(test_users=source)
    result = pytester.runpytest_subprocess(*JUST_OURS)
    result.assert_outcomes(errors=len(FIXTURES))
    needed = missing.replace("_", "-")
    message = f"the fixtures of trio-tlsdown need {needed}, which comes with: {INSTALL}"
    assert result.stdout.lines.count(message) == len(FIXTURES)


@without_each
def test_a_project_that_uses_no_fixture_is_not_concerned(
    pytester: pytest.Pytester, missing: str
) -> None:
    """The plugin imports nothing of the extra, and needs nothing of it."""
    pytester.makeconftest(WITHOUT.format(name=missing))
    pytester.makepyfile(
        test_users="""
        import sys

        def test(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("trio_tlsdown")
            extra = {"pytest_trio", "trustme", "cryptography"}
            assert not extra & sys.modules.keys()
            assert "trio_tlsdown.testing" not in sys.modules
        """
    )
    result = pytester.runpytest_subprocess(*JUST_OURS, "-W", "error")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize("missing", [TRUSTME, "cryptography"])
def test_the_kit_itself_says_what_to_install(
    pytester: pytest.Pytester, missing: str
) -> None:
    pytester.makeconftest(WITHOUT.format(name=missing))
    pytester.makepyfile("import trio_tlsdown.testing")
    result = pytester.runpytest_subprocess(*JUST_OURS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [f"E * trio_tlsdown.testing needs {missing}, which comes with: pip install *"]
    )
