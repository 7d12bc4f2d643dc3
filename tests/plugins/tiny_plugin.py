"""A plug-in's method, as small as can be: one layer, found by `tiny_plugin:Tiny`."""

from collections.abc import Mapping

from torch import Tensor, nn

from fssbench.method import Method, MethodConfig, MethodInfo, Preprocess, load_converted, strip_prefix


class TinyConfig(MethodConfig):
    backbone: str = "one-layer"
    width: int = 2


class Tiny(Method):
    info = MethodInfo("Tiny", "A paper", "A venue", 2020, "https://example.org", None, ("one-layer",), max_ways=None)
    Config = TinyConfig
    query_input = Preprocess((8, 8))

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Conv2d(3, config.width, 1)

    def load_official(self, state: Mapping[str, Tensor]) -> None:
        ours = {f"encoder.{name}": value for name, value in strip_prefix(state).items()}
        load_converted(self, ours, unused=("encoder.fc.",))
