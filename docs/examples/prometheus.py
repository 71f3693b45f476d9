"""Metrics of a server for Prometheus, with ``prometheus-client``.

    python prometheus.py cert.pem key.pem 8443 9100 &
    curl http://127.0.0.1:9100/metrics

`TLSServer.statistics` is cheap, and may be called from the thread in which
prometheus-client serves. So the numbers are always current.
"""

import signal
import ssl
import sys
from collections.abc import Iterator

import trio
from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from trio_tlsdown import (
    ShutdownOutcome,
    TLSServer,
    TLSStream,
    open_tls_nursery,
    receive_until_drain,
)


class TLSCollector(Collector):
    def __init__(self, server: TLSServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        now = self._server.statistics()
        connections = GaugeMetricFamily(
            "tls_connections", "Connections by what they do.", labels=["state"]
        )
        connections.add_metric(["handshaking"], now.handshaking)
        connections.add_metric(["idle"], now.idle)
        connections.add_metric(["busy"], now.open - now.idle)
        yield connections
        yield GaugeMetricFamily(
            "tls_draining", "Whether the server drains.", value=now.draining
        )
        ended = CounterMetricFamily(
            "tls_connections_ended",
            "Connections by how they ended.",
            labels=["outcome"],
        )
        for outcome in ShutdownOutcome:
            if outcome is not ShutdownOutcome.OPEN:
                ended.add_metric([outcome.value], now.ended[outcome])
        yield ended
        ended_by = CounterMetricFamily(
            "tls_connections_ended_by",
            "Connections by whose close_notify came first.",
            labels=["side"],
        )
        for side in ("local", "peer", None):
            ended_by.add_metric([side or "nobody"], now.ended_by[side])
        yield ended_by


async def echo(stream: TLSStream[trio.SocketStream]) -> None:
    while request := await receive_until_drain(stream):
        await stream.send_all(request)


async def main(certificate: str, key: str, port: int, metrics_port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_tls_nursery() as tls:
            server = await tls.start_server(echo, port, context, host="127.0.0.1")
            registry = CollectorRegistry()
            registry.register(TLSCollector(server))
            metrics, thread = start_http_server(
                metrics_port, addr="127.0.0.1", registry=registry
            )
            print("metrics on port", metrics.server_port, flush=True)
            print("listening on port", server.addresses[0][1], flush=True)
            async for _ in signals:
                break
            await server.drain(grace=10)
    metrics.shutdown()
    metrics.server_close()
    thread.join()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
