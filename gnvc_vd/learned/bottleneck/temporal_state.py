"""What predicted latents know of those before them, as integers: the state that every ŷ leaves behind."""

from typing import cast

import torch
from torch import Tensor, nn

from gnvc_vd.entropy.integer import UNITS, IntegerConv, IntegerLeaky, saturated, straight_floor
from gnvc_vd.presets import BottleneckPreset


class TemporalState(nn.Module):
    """ŷ_1 through its own layer begins the state; every later ŷ moves it. Values saturate."""

    def __init__(self, preset: BottleneckPreset) -> None:
        super().__init__()
        self.begin = IntegerConv(preset.symbols, preset.state)
        self.move = nn.Sequential(
            IntegerConv(preset.symbols + preset.state, preset.state),
            IntegerLeaky(),
            IntegerConv(preset.state, preset.state),
        )

    def freeze(self) -> None:
        for layer in self.modules():
            if isinstance(layer, IntegerConv):
                layer.freeze()

    def forward(self, state: Tensor | None, values: Tensor) -> Tensor:
        """Normalised ŷ, floats or integers."""
        if state is None:
            return cast(Tensor, self.begin(values))
        half = straight_floor(state * (UNITS / 2)) / UNITS if state.is_floating_point() else state >> 1
        return saturated(half + self.move(torch.cat([values, state], dim=1)))
