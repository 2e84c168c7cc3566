"""Perceptual distances as frozen networks, for evaluation and as losses: LPIPS, ST-LPIPS, DISTS.

    loss = st_lpips("vgg").to(device)                       # or lpips("vgg"), dists()
    distance = loss(decoded, original).mean()               # B 3 H W or B 3 T H W, RGB in [−1, 1]  →  (B,)
    distance.backward()                                     # reaches the pictures; the network's weights stay

A clip's distance is the mean over its frames. Gradients are finite everywhere, equal pictures included. Inputs may be
any float type; features are compared in float32. Under autocast the trunk runs in the autocast type, which is for
losses: figures are measured without. A picture must be at least 32 pixels each way.
"""

from functools import partial

import torch
from torch import Tensor, nn

from gnvc_vd.metrics import check_sides
from gnvc_vd.metrics.trunks import Net, Trunk
from gnvc_vd.metrics.weight_files import ALEXNET, VGG16, from_package, from_torch_home

check_size = partial(check_sides, 32)


def lpips(net: Net) -> "LearnedDistance":
    """LPIPS v0.1 (Zhang et al., CVPR 2018): torchvision's trunk from $TORCH_HOME, the lpips package's linear heads."""
    trunk = Trunk(net).load(from_torch_home(ALEXNET if net == "alex" else VGG16), "features")
    heads = from_package("lpips", f"weights/v0.1/{net}.pth")
    return LearnedDistance(trunk, [heads[f"lin{stage}.model.1.weight"] for stage in range(5)])


def st_lpips(net: Net) -> "LearnedDistance":
    """Shift-tolerant LPIPS (Ghildyal and Liu, ECCV 2022), wholly from the weights in its package. Not LPIPS."""
    tensors = from_package("stlpips_pytorch", f"weights/vST0.0/{net}_shift_tolerant.pth")
    trunk = Trunk(net, "blurred").load(tensors, "net")
    return LearnedDistance(trunk, [tensors[f"lin{stage}.model.1.weight"] for stage in range(5)])


def dists() -> "Dists":
    """DISTS (Ding et al., PAMI 2020): torchvision's VGG16 from $TORCH_HOME, its own package's α and β."""
    trunk = Trunk("vgg", "root").load(from_torch_home(VGG16), "features")
    weights = from_package("DISTS_pytorch", "weights.pt")
    return Dists(trunk, weights["alpha"], weights["beta"])


class OfClips(nn.Module):
    """A measure of two pictures (`of_pictures`, B 3 H W each → B) as one of two clips, too: the mean over frames."""

    def of_pictures(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape or x.dim() not in (4, 5) or x.shape[1] != 3:
            raise ValueError(f"two B 3 H W or two B 3 T H W, not {tuple(x.shape)} and {tuple(y.shape)}")
        if x.dim() == 4:
            return self.of_pictures(x, y)
        batch = len(x)
        x, y = (z.transpose(1, 2).flatten(0, 1) for z in (x, y))
        return self.of_pictures(x, y).view(batch, -1).mean(1)


class LearnedDistance(OfClips):
    """d(x, y) = Σ_stages mean_hw Σ_c w_c (f̂_c(x) − f̂_c(y))², with f̂ the features over their length across channels."""

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Trunk, heads: list[Tensor]) -> None:
        super().__init__()
        self.trunk = trunk
        self.heads = nn.ParameterList(head.flatten() for head in heads)  # (C,) each
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def of_pictures(self, x: Tensor, y: Tensor) -> Tensor:  # B 3 H W each → (B,)
        f, g = ((z.float() - self.shift) / self.scale for z in (x, y))
        distance = x.new_zeros(len(x), dtype=torch.float32)
        for stage, head in zip(self.trunk.stages, self.heads, strict=True):  # stage by stage: the maps are large
            f, g = stage(f), stage(g)
            distance = distance + ((_unit(f) - _unit(g)).square() * head.view(-1, 1, 1)).sum(1).mean((1, 2))
        return distance


class Dists(OfClips):
    """d(x, y) = 1 − Σ_c α_c l(f_c, g_c) + β_c s(f_c, g_c): like means (texture), like structure, over six stages.

    l = (2 μ_f μ_g + c) / (μ_f² + μ_g² + c),  s = (2 σ_fg + c) / (σ_f² + σ_g² + c),  c = 10⁻⁶,  Σ α + β = 1.
    The first stage is the picture itself, in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: Trunk, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.trunk = trunk
        total = alpha.sum() + beta.sum()
        self.alpha, self.beta = nn.Parameter(alpha.flatten() / total), nn.Parameter(beta.flatten() / total)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def of_pictures(self, x: Tensor, y: Tensor) -> Tensor:  # B 3 H W each → (B,)
        means, structures = [], []
        for f, g in zip(*(self._features((z.float() + 1) / 2) for z in (x, y)), strict=True):
            f_mean, g_mean = f.mean((2, 3), keepdim=True), g.mean((2, 3), keepdim=True)
            f_var, g_var = (f - f_mean).square().mean((2, 3)), (g - g_mean).square().mean((2, 3))
            covariance = ((f - f_mean) * (g - g_mean)).mean((2, 3))
            product, squares = (f_mean * g_mean)[..., 0, 0], (f_mean.square() + g_mean.square())[..., 0, 0]
            means.append((2 * product + 1e-6) / (squares + 1e-6))
            structures.append((2 * covariance + 1e-6) / (f_var + g_var + 1e-6))
        alike = torch.cat(means, 1) @ self.alpha + torch.cat(structures, 1) @ self.beta
        return 1 - alike

    def _features(self, z: Tensor) -> list[Tensor]:
        return [feature.float() for feature in (z, *self.trunk((z - self.mean) / self.std))]


def _unit(f: Tensor) -> Tensor:
    """f over its length across channels."""
    f = f.float()
    return f / (torch.linalg.vector_norm(f, dim=1, keepdim=True) + 1e-10)
