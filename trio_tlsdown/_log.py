"""What is logged, by the name that users filter by."""

from __future__ import annotations

import logging
from typing import Final

LOGGER: Final = logging.getLogger("trio_tlsdown")
