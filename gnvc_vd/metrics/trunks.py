"""The convolutional trunks that perceptual metrics look through, as five stages each.

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
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812 – everyone's name for it
from torch import Tensor, nn

from gnvc_vd.conventions import GnvcError

ALEX_WIDTHS = (64, 192, 384, 256, 256)
VGG_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
Pool = Callable[[int], list[nn.Module]]


class Blur(nn.Module):
    """The binomial 3×3 filter at stride 2, over reflected edges."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", _outer([0.25, 0.5, 0.25], channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.kernel, stride=2, groups=len(self.kernel))


class RootOfBlurredSquare(nn.Module):
    """DISTS' pooling: √(Hann 3×3 ∗ x² + 10⁻¹²) at stride 2."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", _outer([0.25, 0.5, 0.25], channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (F.conv2d(x.square(), self.kernel, stride=2, padding=1, groups=len(self.kernel)) + 1e-12).sqrt()


class Trunk(nn.Module):
    """B 3 H W to the five stages' features."""

    def __init__(self, stages: list[list[nn.Module]]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(*stage) for stage in stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def load(self, tensors: Mapping[str, Tensor], prefix: str) -> "Trunk":
        """Give the convolutions, in order, the file's convolutions in the order of their numbers."""
        numbered = {int(found[1]): name for name in tensors if (found := re.match(rf"{prefix}.*?(\d+)\.weight$", name))}
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


def alexnet() -> Trunk:
    def pool(_: int) -> list[nn.Module]:
        return [nn.MaxPool2d(3, 2)]

    return _alexnet([_conv(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True)], pool)


def vgg16() -> Trunk:
    return _vgg16(lambda _: [nn.MaxPool2d(2, 2)])


def shift_tolerant_alexnet() -> Trunk:
    def pool(channels: int) -> list[nn.Module]:
        return [nn.MaxPool2d(3, 1), Blur(channels)]

    return _alexnet([_conv(3, 64, 11, padding=2), Blur(64), nn.ReLU(inplace=True)], pool)


def shift_tolerant_vgg16() -> Trunk:
    return _vgg16(lambda channels: [nn.MaxPool2d(2, 1), Blur(channels)])


def dists_vgg16() -> Trunk:
    return _vgg16(lambda channels: [RootOfBlurredSquare(channels)])


def _alexnet(first: list[nn.Module], pool: Pool) -> Trunk:
    a, b, c, d, e = ALEX_WIDTHS
    return Trunk(
        [
            first,
            [*pool(a), _conv(a, b, 5, padding=2), nn.ReLU(inplace=True)],
            [*pool(b), _conv(b, c, 3, padding=1), nn.ReLU(inplace=True)],
            [_conv(c, d, 3, padding=1), nn.ReLU(inplace=True)],
            [_conv(d, e, 3, padding=1), nn.ReLU(inplace=True)],
        ]
    )


def _vgg16(pool: Pool) -> Trunk:
    stages: list[list[nn.Module]] = []
    channels = 3
    for widths in VGG_WIDTHS:
        stage = pool(channels) if stages else []
        for before, after in pairwise((channels, *widths)):
            stage += [_conv(before, after, 3, padding=1), nn.ReLU(inplace=True)]
        stages.append(stage)
        channels = widths[-1]
    return Trunk(stages)


def _conv(before: int, after: int, size: int, stride: int = 1, padding: int = 0) -> nn.Module:
    return nn.utils.skip_init(nn.Conv2d, before, after, size, stride=stride, padding=padding)


def _outer(weights: list[float], channels: int) -> Tensor:
    line = torch.tensor(weights)
    return (line[:, None] * line[None, :]).repeat(channels, 1, 1, 1)
