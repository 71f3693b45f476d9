"""stunnel, which terminates TLS in front of any TCP server."""

from __future__ import annotations

from .programs import require
from .rows import RealProgram, Remark
from .tunnels import Deviation, Kind, Site

CLIENT = "https://github.com/mtrojnar/stunnel/blob/stunnel-5.68/src/client.c"

A_CUT_IS_AN_END = Deviation(
    "FIN",
    # Of the option reset, which is the default, its manual says "attempt to use the TCP
    # RST flag to indicate an error": https://www.stunnel.org/static/stunnel.html
    Remark(
        'transfer() tolerates a "buggy (e.g. Microsoft) peer: TLS socket closed without'
        ' close_notify alert"',
        CLIENT,
    ),
)


def command(site: Site) -> tuple[str, ...]:
    configuration = site.folder / "stunnel.conf"
    configuration.write_text(
        f"""
foreground = yes
pid =
cert = {site.pem}
[tunnel]
accept = 127.0.0.1:{site.port}
connect = 127.0.0.1:{site.behind}
"""
    )
    return require("stunnel4"), str(configuration)


KINDS = [
    Kind(
        RealProgram("stunnel", "server", "stunnel4", "-version"),
        command,
        {
            "the server behind resets": Deviation(
                "3B",
                Remark(
                    "transfer() fetches the error of a socket with get_socket_error(),"
                    " logs it, and goes on as after an end",
                    CLIENT,
                ),
            ),
            "we cut": A_CUT_IS_AN_END,
            "we cut a record": A_CUT_IS_AN_END,
            "we reset": A_CUT_IS_AN_END,
        },
        stalls_in_a_record=False,  # it writes only if poll(2) says that there is room
    )
]
