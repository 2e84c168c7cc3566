"""oneDNN's 3-D convolution where torch would take its naive one.

For a batch of one on a CPU, torch sends small 3-D convolutions to `slow_conv3d`. oneDNN's kernel computes the same sums
in another order.
"""

from typing import cast

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from torch import Tensor, nn


class OneDnnCausalConv3d(WanCausalConv3d):
    """The same layer and weights; only the kernel differs, and only where oneDNN can run."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # the compiler picks kernels itself
            return cast(Tensor, super()._conv_forward(x, weight, bias))
        return torch.ops.aten.mkldnn_convolution.default(
            x, weight, bias, self.padding, self.stride, self.dilation, self.groups
        )


def use_onednn(model: nn.Module) -> None:
    """Let every causal convolution of the model take oneDNN's kernel, if this build of torch has it."""
    if not torch.backends.mkldnn.is_available():
        return
    for layer in model.modules():
        if type(layer) is WanCausalConv3d:
            layer.__class__ = OneDnnCausalConv3d
