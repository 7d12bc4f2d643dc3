"""Loaded before torch: one thread, so that results repeat and a busy machine does not stall on spinning threads."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
