"""Programs that are not ours, for tests and benchmarks: find, compile, start, stop."""
