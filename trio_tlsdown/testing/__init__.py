"""What tests need to see how a program takes the bad endings of a connection.

Pairs of streams, peers that misbehave by name, transports with faults, and
cancellation at each point. It comes with the extra ``testing``, and so do the
fixtures for pytest.
"""

from importlib.util import find_spec as _find_spec

for _needed in ("cryptography", "trustme"):
    if _find_spec(_needed) is None:
        raise ModuleNotFoundError(
            f"trio_tlsdown.testing needs {_needed}, which comes with: "
            "pip install 'trio-tlsdown[testing]'",
            name=_needed,
        )

from ._behaviours import BEHAVIOURS as BEHAVIOURS, Behaviour as Behaviour
from ._cancel import (
    Cancellation as Cancellation,
    cancel_everywhere as cancel_everywhere,
)
from ._certificates import (
    NAME as NAME,
    ContextOptions as ContextOptions,
    client_context as client_context,
    server_context as server_context,
)
from ._endings import check_endings as check_endings
from ._faulty import (
    Cut as Cut,
    Delay as Delay,
    Direction as Direction,
    Fault as Fault,
    FaultyStream as FaultyStream,
    Rechunk as Rechunk,
    Reset as Reset,
    Stall as Stall,
)
from ._forge import RecordForge as RecordForge
from ._pairs import (
    TLSPair as TLSPair,
    memory_tls_pair as memory_tls_pair,
    tcp_tls_pair as tcp_tls_pair,
    wrap_pair as wrap_pair,
)
from ._record_keys import decrypt_record as decrypt_record
from ._rogue import (
    RogueConnection as RogueConnection,
    RoguePeer as RoguePeer,
    connect_rogue as connect_rogue,
    serve_rogue as serve_rogue,
)
from ._scripted import ScriptedPeer as ScriptedPeer
from ._server import (
    LoopbackServer as LoopbackServer,
    echo as echo,
    start_server as start_server,
)
from ._transports import (
    MemoryTransport as MemoryTransport,
    memory_transports as memory_transports,
    tcp_transports as tcp_transports,
)
