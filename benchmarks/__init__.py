"""How fast TLS connections open, talk and end: trio_tlsdown beside others."""
