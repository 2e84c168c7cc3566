"""Convolutional networks of perceptual metrics, as five stages each.

    stage     AlexNet                      VGG16
    1         conv 11×11 /4                conv conv
    2         pool, conv 5×5               pool, conv conv
    3         pool, conv                   pool, conv conv conv
    4         conv                         pool, conv conv conv
    5         conv                         pool, conv conv conv

Every convolution is followed by a ReLU, and a stage's output is its last one. What "pool" is makes the difference:
the largest of a window (LPIPS), the root of a blurred square (DISTS), or the largest and then a blur (ST-LPIPS, whose
AlexNet also has its first convolution at stride 1, then a blur).
"""

import re
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 – everyone's name for it
from torch import Tensor, nn

from gnvc_vd.conventions import GnvcError

Net = Literal["alex", "vgg"]
Pooling = Literal["largest", "blurred", "root"]
# Of each stage: whether it begins with pooling, the side of its kernels, the width of each convolution.
STAGES: dict[Net, tuple[tuple[bool, int, tuple[int, ...]], ...]] = {
    "alex": ((False, 11, (64,)), (True, 5, (192,)), (True, 3, (384,)), (False, 3, (256,)), (False, 3, (256,))),
    "vgg": (
        (False, 3, (64, 64)),
        (True, 3, (128, 128)),
        (True, 3, (256, 256, 256)),
        (True, 3, (512, 512, 512)),
        (True, 3, (512, 512, 512)),
    ),
}
POOL_WINDOW = {"alex": 3, "vgg": 2}


class Blur(nn.Module):
    """The binomial 3×3 filter at stride 2, over reflected edges."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(line, line).repeat(channels, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.kernel, stride=2, groups=len(self.kernel))


class RootOfBlurredSquare(Blur):
    """DISTS' pooling: √(Hann 3×3 ∗ x² + 10⁻¹²) at stride 2."""

    def forward(self, x: Tensor) -> Tensor:
        return (F.conv2d(x.square(), self.kernel, stride=2, padding=1, groups=len(self.kernel)) + 1e-12).sqrt()


class Trunk(nn.Module):
    """B 3 H W to the five stages' features."""

    def __init__(self, net: Net, pooling: Pooling = "largest") -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        channels = 3
        for pooled, kernel, widths in STAGES[net]:
            stage = _pool(net, pooling, channels) if pooled else []
            for width in widths:
                shrinks, blurred = kernel == 11, pooling == "blurred"
                stride, padding = 4 if shrinks and not blurred else 1, min(2, kernel // 2)
                stage.append(nn.utils.skip_init(nn.Conv2d, channels, width, kernel, stride=stride, padding=padding))
                stage += [Blur(width)] if shrinks and blurred else []
                stage.append(nn.ReLU(inplace=True))
                channels = width
            self.stages.append(nn.Sequential(*stage))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def load(self, tensors: Mapping[str, Tensor], prefix: str) -> "Trunk":
        """Give the convolutions, in order, the file's convolutions in the order of their numbers."""
        numbered = {int(match[1]): name for name in tensors if (match := re.match(rf"{prefix}.*?(\d+)\.weight$", name))}
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        names = [numbered[number] for number in sorted(numbered)]
        if len(names) != len(convolutions):
            raise GnvcError(f"weights with {len(names)} convolutions do not fit a trunk with {len(convolutions)}")
        for convolution, name in zip(convolutions, names, strict=True):
            weight, bias = tensors[name], tensors.get(name.removesuffix("weight") + "bias")
            if bias is None or weight.shape != convolution.weight.shape or len(bias) != len(weight):
                raise GnvcError(f"weights do not fit the trunk: {name} is {tuple(weight.shape)}")
            convolution.weight, convolution.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # 1.6 times as fast on a CPU


def _pool(net: Net, pooling: Pooling, channels: int) -> list[nn.Module]:
    """Halves a picture's sides."""
    if pooling == "root":
        return [RootOfBlurredSquare(channels)]
    if pooling == "blurred":
        return [nn.MaxPool2d(POOL_WINDOW[net], 1), Blur(channels)]
    return [nn.MaxPool2d(POOL_WINDOW[net], 2)]
