"""From pixel counts to numbers: pure functions, no I/O, no globals."""
