"""Other programs, for tests and benchmarks: find, compile, start, stop."""
