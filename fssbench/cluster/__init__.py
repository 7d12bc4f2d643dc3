"""Runs, trainings and sweeps over many machines, on Ray (extra `cluster`).

A driver cuts the work into tasks, hands them to Ray, and merges what comes back into the records and checkpoints that
one machine would have written. Nodes do the work with their own copy of the code, which has to be the driver's.
"""
