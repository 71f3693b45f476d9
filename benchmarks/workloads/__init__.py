"""The workloads: for each kind, the client, the far end, and what is in the clock."""
