"""A proxy of the transform codec for ideas about time and places: what its symbols would cost.

    slices of a candidate ─one step for all, a dead zone─▶ symbols ─scales by a small network─▶ bits

The network sees logarithms of magnitudes that a decoder has: earlier slices, places above and to the left, channels
before. It is fitted anew for each candidate, on training latents; a candidate is a function from blocks in the codec's
basis and a step to parts that are coded each by itself.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, pad, pixel_shuffle, pixel_unshuffle

from gnvc_vd.entropy import likelihoods
from gnvc_vd.metrics.block_transform import dct

STEPS = (4.0, 2.5, 1.6, 1.0, 0.65, 0.42)  # of the quantiser
DEAD_ZONE = 0.2
WORTH = 0.12  # squared error, in steps, that a bit is worth where the encoder has a choice
VELOCITIES = tuple((y / 2, x / 2) for y in range(-2, 3) for x in range(-2, 3))  # latents from one to the next
SAMPLED = 30000  # coefficients of each part in a step of fitting


@dataclass(frozen=True)
class Slicing:
    """Coefficients of clips, which basis each place has, and what saying so costs each clip."""

    values: Tensor  # B A C h w
    basis: Tensor  # B h w
    told: Tensor = field(default_factory=lambda: torch.zeros(()))  # bits, all clips together


Candidate = Callable[[Tensor, float], list[Slicing]]  # blocks B T 64 h w and a step, to parts coded each by itself


# Temporal bases: rows are what slices are, orthonormal, the first constant.


def split_basis(first: int, second: int) -> Tensor:
    """Two parts of a rotation, each by a DCT, their constants by sum and difference."""
    count = first + second
    rows = torch.zeros(count, count, dtype=torch.float64)
    rows[0] = count**-0.5
    rows[1, :first], rows[1, first:] = (second / first / count) ** 0.5, -((first / second / count) ** 0.5)
    higher = [(k, 0, row) for k, row in enumerate(dct(first)[1:])]
    higher += [(k, first, row) for k, row in enumerate(dct(second)[1:])]
    for place, (_, start, row) in enumerate(sorted(higher, key=lambda one: one[:2]), start=2):
        rows[place, start : start + len(row)] = row
    return rows


def whole(blocks: Tensor, step: float, basis: Tensor) -> list[Slicing]:
    return [Slicing(_turned(blocks, basis), _none(blocks))]


def parts(blocks: Tensor, step: float, lengths: Sequence[int]) -> list[Slicing]:
    """Rotations of their own."""
    return [Slicing(_turned(one, dct(one.shape[1])), _none(one)) for one in blocks.split(list(lengths), 1)]


def choose_basis(blocks: Tensor, step: float, bases: Sequence[Tensor], group: int) -> list[Slicing]:
    """The cheapest basis for each group × group places."""
    return [_cheapest([_turned(blocks, one) for one in bases], step, group, bases=True)]


def follow_motion(blocks: Tensor, step: float, basis: Tensor, group: int) -> list[Slicing]:
    """Each group of places follows the motion, one velocity, that makes it cheapest: nobody pays for overlaps."""
    tried, turn = [], basis[:, :, None, None]
    latents = pixel_shuffle(conv2d(blocks.flatten(0, 1), turn.transpose(0, 1)), 2).unflatten(0, blocks.shape[:2])
    for velocity in VELOCITIES:
        shifts = [[round(v * (t - blocks.shape[1] // 2)) for v in velocity] for t in range(blocks.shape[1])]
        moved = torch.stack([_shifted(one, *by) for one, by in zip(latents.unbind(1), shifts, strict=True)], 1)
        moved = conv2d(pixel_unshuffle(moved, 2).flatten(0, 1), turn).view_as(blocks)
        tried.append(_turned(moved, dct(blocks.shape[1])))
    return [_cheapest(tried, step, group, bases=False)]


def lowest(blocks: Tensor, step: float, levels: int) -> list[Slicing]:
    """The lowest slice alone, of whole 2×2 places; with two levels those are turned by Haar."""
    even = blocks[..., : blocks.shape[3] // 2 * 2, : blocks.shape[4] // 2 * 2]
    low = _turned(even, dct(blocks.shape[1]))[:, :1]
    if levels == 1:
        return [Slicing(low, _none(low))]
    haar = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2.0
    four = pixel_unshuffle(low[:, 0], 2).unflatten(1, (-1, 4))
    turned = torch.einsum("fp,bcphw->bfchw", haar, four)
    return [Slicing(turned, _none(turned))]


def _none(blocks: Tensor) -> Tensor:
    return torch.zeros(len(blocks), *blocks.shape[3:], dtype=torch.int64)


def _turned(blocks: Tensor, basis: Tensor) -> Tensor:
    return torch.einsum("at,btchw->bachw", basis.to(blocks), blocks)


def _shifted(latents: Tensor, down: int, right: int) -> Tensor:
    """By whole places, edges repeated."""
    reach = max(abs(down), abs(right))
    wide = pad(latents, (reach,) * 4, mode="replicate")
    height, width = latents.shape[2:]
    return wide[:, :, reach + down : reach + down + height, reach + right : reach + right + width]


def _cheapest(tried: Sequence[Tensor], step: float, group: int, bases: bool) -> Slicing:
    """By a rule of thumb of bits; another choice than the first must win what it costs to say."""
    costs = []
    for number, values in enumerate(tried):
        steps = values / step
        symbols = quantise(steps)
        bits = torch.where(symbols != 0, 4.5 + 2 * symbols.abs().clamp_min(1).log2(), 0.05)
        cost = ((steps - symbols).square() + WORTH * bits).sum((1, 2))
        whole_groups = (0, -cost.shape[2] % group, 0, -cost.shape[1] % group)
        grouped = avg_pool2d(pad(cost, whole_groups)[:, None], group)[:, 0] * group**2
        costs.append(grouped + (WORTH * 4 if number != _still(tried) else 0.0))
    choice = torch.stack(costs).argmin(0)
    spread = choice.repeat_interleave(group, 1).repeat_interleave(group, 2)
    spread = spread[:, : tried[0].shape[3], : tried[0].shape[4]]
    values = torch.stack([one * (spread == number)[:, None, None] for number, one in enumerate(tried)]).sum(0)
    return Slicing(values, spread if bases else torch.zeros_like(spread), choice_bits(choice, len(tried)))


def _still(tried: Sequence[Tensor]) -> int:
    return len(tried) // 2 if len(tried) == len(VELOCITIES) else 0


def choice_bits(choice: Tensor, count: int) -> Tensor:
    """Of an adaptive code, told whether the neighbours above and to the left are the same, and which."""
    left, above = pad(choice, (1, 0))[..., :-1], pad(choice, (0, 0, 1, 0))[..., :-1, :]
    context = torch.where(left == above, left, count)
    bits = 0.0
    for neighbours in context.unique():
        seen = torch.bincount(choice[context == neighbours], minlength=count).double()
        # Counts that begin as 1/2 (Krichevsky and Trofimov), whatever the order.
        total = seen.sum() + count / 2
        bits += (torch.lgamma(total) - math.lgamma(count / 2) - torch.lgamma(seen + 0.5).sum()).item()
        bits += count * math.lgamma(0.5)
    return torch.tensor(bits / math.log(2))


# The proxy's entropy model.


def quantise(steps: Tensor) -> Tensor:
    return steps.sign() * (steps.abs() + 0.5 - DEAD_ZONE).floor()


class Proxy(nn.Module):
    """Bits of symbols, by scales of what a decoder has; one for each part of a candidate."""

    def __init__(self, parts: Sequence[Slicing]) -> None:
        super().__init__()
        first = parts[0].values
        bases = 1 + max(int(one.basis.max()) for one in parts)
        scales = torch.ones(bases, *first.shape[1:3])
        power, places = torch.zeros_like(scales), torch.full((bases, 1, 1), 1e-6)
        for one in parts:
            for basis in range(bases):
                here = (one.basis == basis)[:, None, None]
                power[basis] += (one.values.square() * here).sum((0, 3, 4))
                places[basis] += here.sum()
        self.scales = (power / places).sqrt().clamp_min(1e-2)  # bases A C
        self.means = nn.Parameter(torch.zeros(4, *first.shape[1:3], 1, 1))
        self.shift = nn.Parameter(torch.zeros(scales.shape))
        leave = nn.Linear(24, 1)
        nn.init.zeros_(leave.weight)
        nn.init.zeros_(leave.bias)
        self.net = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), leave)

    def forward(self, part: Slicing, step: float, sampled: int = 0) -> Tensor:
        """Bits a coefficient, B A C h w, or of some that are drawn."""
        symbols = quantise(part.values / step)
        expected = self.scales[part.basis].permute(0, 3, 4, 1, 2) / step  # B A C h w, in steps
        near = _causal(symbols)
        mean = torch.stack([weight * one for weight, one in zip(self.means, near, strict=True)]).sum(0)
        seen = _seen(symbols / expected, expected)
        flat = torch.stack([one.expand_as(symbols).reshape(-1) for one in seen], 1)
        base = (expected.log() + self.shift[part.basis].permute(0, 3, 4, 1, 2)).reshape(-1)
        residual = (symbols - mean).reshape(-1)
        if sampled:
            drawn = torch.randint(len(flat), (sampled,))
            flat, base, residual = flat[drawn], base[drawn], residual[drawn]
        scale = (base + self.net(flat)[:, 0]).exp().clamp(0.1, 200)
        bits = likelihoods.bits(residual, scale)
        return bits if sampled else bits.view_as(symbols)


def _causal(values: Tensor) -> list[Tensor]:
    """Left, above left, above, above right, of the same slice and channel."""
    wide = pad(values, (1, 1, 1, 0))
    height, width = values.shape[3:]
    return [wide[..., y : y + height, x : x + width] for y, x in ((1, 0), (0, 0), (0, 1), (0, 2))]


def _seen(whitened: Tensor, expected: Tensor) -> list[Tensor]:
    """Logarithms of magnitudes: of earlier slices, of neighbours, of channels before."""
    size, spent = whitened.abs(), torch.zeros_like(whitened)
    for number in range(1, size.shape[1]):
        spent[:, number] = spent[:, number - 1] / 2 + size[:, number - 1]
    first = size[:, :1] * (torch.arange(size.shape[1]) > 0)[:, None, None, None]
    low = whitened[:, :1]
    slope = pad((low.diff(dim=4)).abs(), (0, 1)) + pad(low.diff(dim=3).abs(), (0, 0, 0, 1))
    slope = slope.mean(2, keepdim=True) * (torch.arange(size.shape[1]) > 0)[:, None, None, None]
    around = torch.stack(_causal(size)).mean(0)
    count = torch.arange(size.shape[2])[:, None, None].clamp_min(1)
    before = pad(size.cumsum(2), (0, 0, 0, 0, 1, 0))[:, :, :-1] / count
    magnitudes = [spent, _blurred(spent), spent.mean(2, keepdim=True), first, _blurred(first), slope]
    magnitudes += [around, around.mean(2, keepdim=True), before]
    return [(0.05 + one).log() for one in magnitudes] + [expected.log()]


def _blurred(values: Tensor) -> Tensor:
    kernel = torch.full((1, 1, 3, 3), 1 / 9)
    return conv2d(values.flatten(0, 2)[:, None], kernel, padding=1)[:, 0].view_as(values)


def fit(candidate: Candidate, blocks: Tensor, steps: int) -> list[Proxy]:
    """Proxies of a candidate's parts, of training blocks N T 64 h w."""
    torch.manual_seed(0)
    tables = [candidate(blocks[torch.randperm(len(blocks))[:64]], step) for step in STEPS]
    models = [Proxy(one) for one in zip(*tables, strict=True)]
    optimiser = torch.optim.Adam([p for one in models for p in one.parameters()], lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        step = STEPS[int(torch.randint(len(STEPS), ()))] * float(2 ** (torch.rand(()) - 0.5))
        made = candidate(blocks[torch.randint(len(blocks), (8,))], step)
        spent = [model(part, step, sampled=SAMPLED).mean() for model, part in zip(models, made, strict=True)]
        loss = torch.stack(spent).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return models
