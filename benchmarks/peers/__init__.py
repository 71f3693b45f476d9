"""The implementations, each used as those do who want it fast."""
