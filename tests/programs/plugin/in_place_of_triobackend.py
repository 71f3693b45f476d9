"""For pytest: the backend that httpcore chooses on Trio is ours."""

import httpcore._backends.trio

from trio_tlsdown.contrib.httpcore import TLSBackend

vars(httpcore._backends.trio)["TrioBackend"] = TLSBackend
