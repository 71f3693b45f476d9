"""What to configure, in which server, with a link to its documentation.

Each was tried, in the version that is named, or else in nginx 1.22, HAProxy 2.6, Apache
2.4.71, Go 1.27, JDK 17, Node.js 20 and .NET 8: with the advice the check passes, and
without it it does not. A later version may do better.
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
    "jetty": "Java",
    "tomcat": "Java",
    "coyote": "Java",  # Tomcat's: it calls itself Apache-Coyote
    "apache": "Apache",
    "node": "Node.js",
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
NODE_SERVER: Final = f"{NODE}#tlscreateserveroptions-secureconnectionlistener"
DOTNET: Final = "https://learn.microsoft.com/dotnet/api/system.net.security.sslstream"

ANSWER: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "nginx 1.22 has no setting for this: it sends no close_notify once it has read "
        "ours. Have clients close without waiting for the answer.",
        NGINX_SSL,
    ),
    "Go": Remedy(
        "Close the tls.Conn when Read has returned io.EOF, not the net.Conn below.",
        f"{GO}#Conn.Close",
    ),
    "Java": Remedy(
        "Close the SSLSocket, not the socket below. For a server that is not yours, set "
        "-Djdk.tls.acknowledgeCloseNotify=true; but then no answer follows a "
        "half-close.",
        JAVA,
    ),
    ".NET": Remedy(
        "Await SslStream.ShutdownAsync before Dispose, which sends no close_notify.",
        f"{DOTNET}.shutdownasync",
    ),
}
END: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "nginx 1.22 sends close_notify by itself, but not as a TCP proxy with "
        "`proxy_half_close on`.",
        f"{NGINX_PROXY}#proxy_half_close",
    ),
    "Apache": Remedy(
        "Remove `ssl-unclean-shutdown` from SetEnvIf and BrowserMatch: it leaves "
        "close_notify out.",
        "https://httpd.apache.org/docs/2.4/ssl/ssl_faq.html",
    ),
    "Go": Remedy("End with Close of the tls.Conn, not of the net.Conn below.", GO),
    "Java": Remedy(
        "End with close of the SSLSocket, not of the socket below. HttpsServer of "
        "JDK 17 sends no close_notify, and has no setting for it.",
        JAVA,
    ),
    "Node.js": Remedy(
        "End with socket.end(), which sends close_notify; socket.destroy() does not.",
        f"{NODE}#class-tlstlssocket",
    ),
    ".NET": ANSWER[".NET"],
}
HALF_CLOSE: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "As a TCP proxy nginx 1.22 needs `proxy_half_close on`, and then ends without "
        "close_notify.",
        f"{NGINX_PROXY}#proxy_half_close",
    ),
    "HAProxy": Remedy(
        "Set `no option abortonclose`: with it, a request that waits for a server is "
        "dropped. HAProxy 3.3 and later have it on by default.",
        f"{HAPROXY}#4.2-option%20abortonclose",
    ),
    "Go": Remedy(
        "net/http cancels the request's context when the client ends: do not tie the "
        "answer to it. With tls.Conn itself, write on after Read has returned io.EOF.",
        f"{GO}#Conn.CloseWrite",
    ),
    "Java": Remedy(
        "An SSLSocket can write on after read has returned -1, on TLS 1.3, unless "
        "jdk.tls.acknowledgeCloseNotify is true.",
        JAVA,
    ),
    "Node.js": Remedy(
        "Create the server by tls.createServer with `allowHalfOpen: true`, and call "
        "end() when done. https.createServer of Node.js 20 ignores that option.",
        NODE_SERVER,
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
    "HAProxy": Remedy(
        "HAProxy 2.6 does not read on before it closes, and has no setting for it. "
        "`option nolinger` makes it worse.",
        f"{HAPROXY}#4.2-option%20nolinger",
    ),
    "Go": Remedy(
        "net/http does not read on before it closes. With tls.Conn itself: CloseWrite "
        "of the tls.Conn and of the TCPConn, then read the TCPConn to its end, with a "
        "deadline, then Close.",
        f"{GO}#Conn.CloseWrite",
    ),
    "Java": Remedy(
        "SSLSocket.close of JDK 17 reads on by itself; HttpsServer does not.", JAVA
    ),
    "Node.js": Remedy(
        "Ignore what comes after socket.end(): a write then destroys the socket. https "
        "of Node.js 20 does that to itself.",
        "https://nodejs.org/api/net.html#socketenddata-encoding-callback",
    ),
    ".NET": Remedy(
        "ShutdownAsync, then Shutdown(Send) of the Socket, then receive until 0, with "
        "a timeout, then dispose.",
        "https://learn.microsoft.com/dotnet/api/system.net.sockets.socket.shutdown",
    ),
}
RESUMPTION: Final[Mapping[str, Remedy]] = {
    "nginx": Remedy(
        "Leave `ssl_session_tickets on`, or set `ssl_session_cache shared:tls:10m`. "
        "Several servers need the same `ssl_session_ticket_key`.",
        f"{NGINX_SSL}#ssl_session_cache",
    ),
    "HAProxy": Remedy(
        "Remove `no-tls-tickets`, or leave tune.ssl.cachesize above 0. Several servers "
        "need the same `tls-ticket-keys`.",
        f"{HAPROXY}#5.1-no-tls-tickets",
    ),
    "Apache": Remedy(
        "Leave `SSLSessionTickets on`, or set SSLSessionCache.",
        f"{APACHE_SSL}#sslsessiontickets",
    ),
    "Go": Remedy(
        "Leave Config.SessionTicketsDisabled false. Several servers need the same "
        "Config.SetSessionTicketKeys.",
        f"{GO}#Config.SetSessionTicketKeys",
    ),
    "Java": Remedy(
        "Leave jdk.tls.server.enableSessionTicketExtension true, or raise "
        "javax.net.ssl.sessionCacheSize.",
        JAVA,
    ),
    "Node.js": Remedy(
        "Several processes need the same `ticketKeys`.",
        NODE_SERVER,
    ),
    ".NET": Remedy(
        "Give all connections the same SslStreamCertificateContext, as "
        "ServerCertificateContext: with ServerCertificate .NET 8 on Linux resumes none. "
        "Leave AllowTlsResume true.",
        "https://learn.microsoft.com/dotnet/api/"
        "system.net.security.sslstreamcertificatecontext",
    ),
}

REMEDIES: Final[Mapping[str, Mapping[str, Remedy]]] = {
    "answers-close-notify": ANSWER,
    "answers-after-half-close": HALF_CLOSE,
    "ends-with-close-notify": END,
    "answer-is-whole": LINGER,
    "bad-request-close-notify": {
        "Node.js": Remedy(
            "Handle 'clientError' with socket.end(...): by default https destroys the "
            "socket.",
            "https://nodejs.org/api/http.html#event-clienterror",
        ),
    },
    "survives-unread-data": LINGER,
    "resumes-after-end": RESUMPTION,
    "resumes-after-cut": RESUMPTION,
}
# For any other server, and where there is nothing special to do.
IN_GENERAL: Final[Mapping[str, Remedy]] = {
    "answers-close-notify": Remedy(
        "Call the TLS library's shutdown function before closing the socket."
    ),
    "answers-promptly": Remedy("Answer when the close_notify has been read."),
    "answers-after-half-close": Remedy(
        "Take the client's close_notify for the end of its requests, not of the "
        "connection."
    ),
    "ends-with-close-notify": Remedy(
        "Call the TLS library's shutdown function before closing the socket."
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


def remedies(check_id: str) -> Mapping[str, Remedy]:
    """All that could be done about a check, by the server's name."""
    return {**REMEDIES.get(check_id, {}), "any other server": IN_GENERAL[check_id]}


def remedy(check_id: str, banner: str | None) -> Remedy:
    """What to do about a check, in the server that the banner names."""
    known = REMEDIES.get(check_id, {}).get(software_of(banner) or "")
    return known or IN_GENERAL[check_id]
