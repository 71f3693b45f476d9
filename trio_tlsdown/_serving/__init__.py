"""Many connections: servers, and the nursery that all connections end with."""
