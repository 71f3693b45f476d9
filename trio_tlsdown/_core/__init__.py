"""The protocol without I/O: it never imports Trio."""
