"""The workloads: what is done, how often, and which figures come of it."""
