"""What to configure, in which server, with a link to its documentation.

Where a server has no setting for something, that is said, with the version that was
looked at: a later one may have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class Remedy:
    """What to do."""

    advice: str
    link: str | None = None


# What a banner says, in lower case, to the server's name here.
SOFTWARE: Final[Mapping[str, str]] = {
    "nginx": "nginx",
    "openresty": "nginx",
    "haproxy": "HAProxy",
    "apache": "Apache",
    "caddy": "Go",
    "node": "Node.js",
    "express": "Node.js",
    "jetty": "Java",
    "tomcat": "Java",
    "kestrel": ".NET",
    "microsoft": ".NET",
}

NGINX_HTTP: Final = "https://nginx.org/en/docs/http/ngx_http_core_module.html"
NGINX_SSL: Final = "https://nginx.org/en/docs/http/ngx_http_ssl_module.html"
NGINX_PROXY: Final = "https://nginx.org/en/docs/stream/ngx_stream_proxy_module.html"
HAPROXY: Final = "https://docs.haproxy.org/2.6/configuration.html"
APACHE_SSL: Final = "https://httpd.apache.org/docs/2.4/mod/mod_ssl.html"
GO: Final = "https://pkg.go.dev/crypto/tls"
JAVA: Final = (
    "https://docs.oracle.com/en/java/javase/17/security/"
    "java-secure-socket-extension-jsse-reference-guide.html"
)
NODE: Final = "https://nodejs.org/api/tls.html"
DOTNET: Final = "https://learn.microsoft.com/dotnet/api/system.net.security.sslstream"

CLOSE_NOTIFY: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "nginx 1.22 has no setting for this: it sends no close_notify once it has read "
        "ours. Have clients close without waiting for the answer.",
        NGINX_SSL,
    ),
    "HAProxy": Remedy(
        "HAProxy 2.6 sends close_notify by itself; look for `option nolinger`, which "
        "resets connections instead.",
        f"{HAPROXY}#4.2-option%20nolinger",
    ),
    "Apache": Remedy(
        "Remove `ssl-unclean-shutdown` from SetEnvIf and BrowserMatch: it leaves "
        "close_notify out. `ssl-accurate-shutdown` waits for the answer, too.",
        "https://httpd.apache.org/docs/2.4/ssl/ssl_faq.html",
    ),
    "Go": Remedy(
        "End with tls.Conn.Close, or CloseWrite, not with Close of the net.Conn below.",
        f"{GO}#Conn.CloseWrite",
    ),
    "Java": Remedy(
        "Close the SSLSocket, not the socket below. With SSLEngine, call closeOutbound "
        "and wrap until isOutboundDone; jdk.tls.acknowledgeCloseNotify=true answers a "
        "close_notify.",
        JAVA,
    ),
    "Node.js": Remedy(
        "End with socket.end(), which sends close_notify; socket.destroy() does not.",
        f"{NODE}#class-tlstlssocket",
    ),
    ".NET": Remedy(
        "Await SslStream.ShutdownAsync before disposing of it: Dispose sends no "
        "close_notify.",
        f"{DOTNET}.shutdownasync",
    ),
}
HALF_CLOSE: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "For HTTP nothing is needed in nginx 1.22 while it answers; as a TCP proxy it "
        "needs `proxy_half_close on`.",
        f"{NGINX_PROXY}#proxy_half_close",
    ),
    "HAProxy": Remedy(
        "Do not set `option abortonclose`: it drops the request of a client that has "
        "ended its direction.",
        f"{HAPROXY}#4.2-option%20abortonclose",
    ),
    "Apache": Remedy(
        "Apache 2.4 finishes an answer that it has begun; there is no setting.",
        APACHE_SSL,
    ),
    "Go": Remedy(
        "net/http cancels the request's context when the client ends: do not tie the "
        "answer to it. With tls.Conn itself, go on writing after Read says io.EOF.",
        f"{GO}#Conn.CloseWrite",
    ),
    "Java": Remedy("SSLSocket of JDK 11 and later can half-close on TLS 1.3.", JAVA),
    "Node.js": Remedy(
        "Create the server with `allowHalfOpen: true`, and call end() when done.",
        f"{NODE}#tlscreateserveroptions-secureconnectionlistener",
    ),
    ".NET": Remedy(
        "Go on writing when SslStream.ReadAsync has returned 0.", f"{DOTNET}.readasync"
    ),
}
LINGER: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "Leave `lingering_close on`, or set it to `always`.",
        f"{NGINX_HTTP}#lingering_close",
    ),
    "HAProxy": Remedy("Remove `option nolinger`.", f"{HAPROXY}#4.2-option%20nolinger"),
    "Apache": Remedy(
        "Apache 2.4 lingers by itself for up to two seconds; look at what is in front.",
        "https://httpd.apache.org/docs/2.4/misc/perf-tuning.html",
    ),
    "Go": Remedy(
        "net/http reads on for a moment; with tls.Conn itself, CloseWrite, then read "
        "until EOF, with a deadline, then Close. No SetLinger(0).",
        "https://pkg.go.dev/net#TCPConn.SetLinger",
    ),
    "Java": Remedy(
        "shutdownOutput, then read until the end, with setSoTimeout, then close. No "
        "setSoLinger(true, 0).",
        JAVA,
    ),
    "Node.js": Remedy(
        "end(), then read until 'end', with a timeout; destroy() only then.",
        "https://nodejs.org/api/net.html#socketend",
    ),
    ".NET": Remedy(
        "ShutdownAsync, then read until 0, with a timeout, then dispose. No LingerState "
        "of 0 seconds.",
        "https://learn.microsoft.com/dotnet/api/system.net.sockets.socket.lingerstate",
    ),
}
RESUMPTION: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "Set `ssl_session_cache shared:tls:10m`, and share `ssl_session_ticket_key` "
        "between servers.",
        f"{NGINX_SSL}#ssl_session_cache",
    ),
    "HAProxy": Remedy(
        "Raise tune.ssl.cachesize, remove `no-tls-tickets`, and share `tls-ticket-keys`.",
        f"{HAPROXY}#5.1-no-tls-tickets",
    ),
    "Apache": Remedy(
        "Set SSLSessionCache, and share SSLSessionTicketKeyFile between servers.",
        f"{APACHE_SSL}#sslsessioncache",
    ),
    "Go": Remedy(
        "Leave SessionTicketsDisabled false; share keys by Config.SetSessionTicketKeys.",
        f"{GO}#Config.SetSessionTicketKeys",
    ),
    "Java": Remedy(
        "Set jdk.tls.server.enableSessionTicketExtension=true, or raise the size of "
        "the server's SSLSessionContext.",
        JAVA,
    ),
    "Node.js": Remedy(
        "Share `ticketKeys` between processes.",
        f"{NODE}#tlscreateserveroptions-secureconnectionlistener",
    ),
    ".NET": Remedy(
        "Leave SslServerAuthenticationOptions.AllowTlsResume true.",
        "https://learn.microsoft.com/dotnet/api/"
        "system.net.security.sslserverauthenticationoptions.allowtlsresume",
    ),
}

REMEDIES: Final[Mapping[str, Mapping[str, Remedy]]] = {
    "answers-close-notify": CLOSE_NOTIFY,
    "answers-promptly": CLOSE_NOTIFY,
    "answers-after-half-close": HALF_CLOSE,
    "ends-with-close-notify": {
        **CLOSE_NOTIFY,
        "nginx": Remedy(
            "nginx 1.22 sends close_notify by itself, but not as a TCP proxy with "
            "`proxy_half_close on`.",
            f"{NGINX_PROXY}#proxy_half_close",
        ),
    },
    "answer-is-whole": LINGER,
    "bad-request-close-notify": CLOSE_NOTIFY,
    "survives-unread-data": LINGER,
    "nothing-behind": CLOSE_NOTIFY,
    "resumes-after-end": RESUMPTION,
    "resumes-after-cut": RESUMPTION,
}
# If the server does not say what it is.
IN_GENERAL: Final[Mapping[str, Remedy]] = {
    "answers-close-notify": Remedy(
        "Call the shutdown of the TLS library before the socket is closed."
    ),
    "answers-promptly": Remedy("Answer when the close_notify has been read."),
    "answers-after-half-close": Remedy(
        "Take the client's close_notify for the end of its requests, not of the "
        "connection."
    ),
    "ends-with-close-notify": Remedy(
        "Call the shutdown of the TLS library before the socket is closed."
    ),
    "answer-is-whole": Remedy(
        "Send close_notify, then FIN, and read on until the client has ended."
    ),
    "bad-request-close-notify": Remedy(
        "End in the same way when a request is refused."
    ),
    "survives-unread-data": Remedy(
        "Send close_notify, then FIN, and read on until the client has ended, or for "
        "some seconds."
    ),
    "nothing-behind": Remedy("Send nothing behind close_notify."),
    "resumes-after-end": Remedy(
        "Have a session cache or tickets, with keys that all servers share."
    ),
    "resumes-after-cut": Remedy("Keep sessions whose connection was cut."),
}


def software_of(banner: str | None) -> str | None:
    """Which of the servers that we know a banner names."""
    said = (banner or "").lower()
    return next((name for word, name in SOFTWARE.items() if word in said), None)


def remedy(check_id: str, banner: str | None) -> Remedy:
    """What to do about a check, in the server that the banner names."""
    known = REMEDIES[check_id].get(software_of(banner) or "")
    return known or IN_GENERAL[check_id]
