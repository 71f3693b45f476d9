"""The TLS stacks, each in its best idiom."""
