"""RPMMs' cases have the form of PMMs'."""

from fssbench.parity.runners.pmms import TOLERANCES, outputs

__all__ = ["TOLERANCES", "outputs"]
