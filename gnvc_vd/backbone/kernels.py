"""The VAE's layers with kernels that suit a CPU: the same sums in another order.

For a batch of one, torch sends small 3-D convolutions to the naive `slow_conv3d`, and a norm over channels, which are
far apart in memory, to a scalar loop. With diffusers' layers those two are most of a decoding step.
"""

from typing import cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import Tensor, nn

EPSILON = 1e-12  # of torch.nn.functional.normalize


class FastCausalConv3d(WanCausalConv3d):
    """oneDNN's kernel on a CPU, and no padded copy of the features: the kernel pads height and width itself."""

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        width, _, height, _, before, _ = self._padding
        if before and cache_x is not None:
            x, before = torch.cat([cache_x, x], dim=2), before - cache_x.shape[2]
        if before:
            x = nn.functional.pad(x, (0, 0, 0, 0, before, 0))
        padding = (0, height, width)
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # the compiler picks kernels itself
            return nn.functional.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return torch.ops.aten.mkldnn_convolution.default(
            x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )


class FastRmsNorm(WanRMS_norm):
    """A vectorised sum of squares over the channels, and one pass less over the features."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or not self.channel_first:
            return cast(Tensor, super().forward(x))
        norm = x.square().sum(1, keepdim=True).sqrt().clamp_min(EPSILON)
        return (x / norm).mul(self.scale * self.gamma) + self.bias


FASTER: dict[type[nn.Module], type[nn.Module]] = {WanCausalConv3d: FastCausalConv3d, WanRMS_norm: FastRmsNorm}


def use_fast_kernels(model: nn.Module) -> None:
    """Let every layer of the model take its faster kernel, if this build of torch has oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for layer in model.modules():
        layer.__class__ = FASTER.get(type(layer), type(layer))
