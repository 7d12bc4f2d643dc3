"""fssbench: few-shot segmentation on frozen episodes.

Nothing here imports torch: `fssbench --help` and `fssbench report` must start fast.
"""

__version__ = "0.2.0"
