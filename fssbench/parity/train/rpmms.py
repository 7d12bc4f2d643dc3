"""RPMMs' training cases have the form of PMMs'."""

from fssbench.parity.train.pmms import setup

__all__ = ["setup"]
