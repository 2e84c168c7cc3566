"""Networks in exact integer arithmetic, trained as floats with fake quantisation.

    float in ──▶ fake-quantised weights, rounding with straight-through gradients ──▶ float out      (training)
    int64 in ──▶ the frozen integers, products by exact float matrix products     ──▶ int64 out      (coding)

The input's dtype decides whether a network runs in floats or in integers. A value is an integer in units of 1/64 that
saturates at ±1023; weights have 8 bits and a power-of-two scale per output channel, so that rescaling is a shift. The
scale is chosen so that no sum can reach 2^24 for any input; then float32 products are exact in any order.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

UNITS = 64  # units in 1.0
REACH = 1023  # largest magnitude of a value, in units
WEIGHT_REACH = 127
FLOAT32_EXACT = 1 << 24
MAX_SHIFT = 14

Model = TypeVar("Model", bound=nn.Module)
Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")


class Frozen(NamedTuple):
    """A layer's integers in the dtypes of the exact product."""

    weights: Tensor  # O K, in a float dtype in which all sums of products are exact
    bias: Tensor  # O 1, plus the half that makes the shift round
    shift: Tensor  # O 1


class QuantisedWeights(NamedTuple):
    """A layer's fake-quantised weights: floats with straight-through gradients."""

    weight: Tensor
    bias: Tensor
    mode: tuple[bool, bool]  # autograd modes in which they were made: gradients, inference


class IntegerConv(nn.Module):
    """A 1×1 or 3×3 convolution.

    Args:
        extra_bits: extra fractional bits of the output beyond 1/64 (for a precise last layer).
        reach: bound at which the output saturates, in its units.
    """

    weight_integers: Tensor  # O K int16
    bias_integers: Tensor  # O int64, in the units of the products
    shift: Tensor  # O int64

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, extra_bits: int = 0, reach: int = REACH) -> None:
        super().__init__()
        self.kernel, self.extra_bits, self.reach = kernel, extra_bits, reach
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if not self.weight.is_meta:  # torch would import its compiler to draw nothing, a second's work
            nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        self.register_buffer("weight_integers", torch.zeros(outputs, inputs * kernel * kernel, dtype=torch.int16))
        self.register_buffer("bias_integers", torch.zeros(outputs, dtype=torch.int64))
        self.register_buffer("shift", torch.full((outputs,), extra_bits + 1, dtype=torch.int64))
        self.holds = False  # whether quantised weights are cached for this pass (quantise_once)
        self.held: QuantisedWeights | None = None
        self.factors: Frozen | None = None  # cached likewise, for integer passes

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_float(x) if x.is_floating_point() else self._forward_integer(x)

    def freeze(self) -> None:
        """Write the integers, and check that float32 can hold all sums of products exactly."""
        with torch.no_grad():
            shift = self._shifts()
            scale = torch.exp2(shift.double())
            flat = self.weight.detach().double().flatten(1)
            self.weight_integers.copy_((flat * scale[:, None]).round().clamp(-WEIGHT_REACH, WEIGHT_REACH))
            self.bias_integers.copy_((self.bias.detach().double() * scale * UNITS).round())
            self.shift.copy_(shift)
        if self.largest_sum() >= FLOAT32_EXACT:
            raise ArithmeticError(f"a sum of products may reach {self.largest_sum()}")

    def largest_sum(self) -> int:
        """Bound of all sums of products, and of their partial sums, for inputs within ±REACH."""
        return int(self.weight_integers.abs().sum(1, dtype=torch.int64).max()) * REACH

    def _shifts(self) -> Tensor:
        """Per output channel, the largest shift that keeps weights within 8 bits and sums within 24 bits."""
        flat = self.weight.detach().flatten(1).abs()
        room = max(1.0, FLOAT32_EXACT / REACH - 1 - flat.shape[1] / 2)  # rounding may add ½ to each weight
        scale = torch.minimum(WEIGHT_REACH / flat.amax(1).clamp_min(1e-9), room / flat.sum(1).clamp_min(1e-9))
        return scale.log2().floor().clamp(self.extra_bits + 1, MAX_SHIFT).long()

    def _forward_float(self, x: Tensor) -> Tensor:
        weight, bias, _ = self._quantised_weights()
        with torch.autocast(x.device.type, enabled=False):
            out = nn.functional.conv2d(x.float(), weight, bias, padding=self.kernel // 2)
        return in_units(out, UNITS << self.extra_bits, self.reach)

    def _quantised_weights(self) -> QuantisedWeights:
        """The quantised weights, cached within a pass unless they were made in another autograd mode."""
        mode = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        if self.held is not None and self.held.mode == mode:
            return self.held
        made = QuantisedWeights(*self._quantise(), mode)
        if self.holds:
            self.held = made
        return made

    def _quantise(self) -> tuple[Tensor, Tensor]:
        scale = torch.exp2(self._shifts().float())[:, None, None, None]
        weight = straight_round(self.weight * scale).clamp(-WEIGHT_REACH, WEIGHT_REACH) / scale
        bias = straight_round(self.bias * scale.flatten() * UNITS) / (scale.flatten() * UNITS)
        return weight, bias

    def _forward_integer(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        home = x.device
        if home.type == "mps":  # MPS has no float64: integer passes run on the CPU
            x = x.cpu()
        weights, bias, shift = self._factors(x.device)
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(weights.dtype)
            if self.kernel > 1:  # what torch's unfold gives, sooner: one copy of a view
                x = nn.functional.pad(x, [self.kernel // 2] * 4).unfold(2, self.kernel, 1)
                x = x.unfold(3, self.kernel, 1).permute(0, 1, 4, 5, 2, 3).flatten(1, 3)
            sums = torch.matmul(weights, x.flatten(2)).to(torch.int64)
        sums.add_(bias).bitwise_right_shift_(shift)
        return sums.clamp_(-self.reach, self.reach).view(batch, -1, height, width).to(home)

    def _factors(self, device: torch.device) -> Frozen:
        """The factors on a device, cached within a pass."""
        if self.factors is not None and self.factors.weights.device == device:
            return self.factors
        whole = device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
        dtype = torch.float32 if whole and self.largest_sum() < FLOAT32_EXACT else torch.float64
        shift = self.shift.to(device)[:, None] - self.extra_bits
        half = torch.ones_like(shift) << shift >> 1
        made = Frozen(self.weight_integers.to(device, dtype), self.bias_integers.to(device)[:, None] + half, shift)
        if self.holds:
            self.factors = made
        return made


@contextmanager
def quantise_once(model: nn.Module) -> Iterator[None]:
    """Context in which every layer of the model quantises its weights once, on first use.

    For a pass that calls the same layers for each latent: neither weights nor integers may change inside. With gradient
    checkpointing, checkpoint the whole pass or none of it: a recomputation outside has no cache.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, IntegerConv) and not layer.holds]
    try:
        for layer in layers:
            layer.holds = True
        yield
    finally:
        for layer in layers:
            layer.holds, layer.held, layer.factors = False, None, None


def quantise_weights_once(
    forward: Callable[Concatenate[Model, Inputs], Output],
) -> Callable[Concatenate[Model, Inputs], Output]:
    """Decorator of a model's `forward`: each call quantises the weights once."""

    @functools.wraps(forward)
    def whole(self: Model, /, *inputs: Inputs.args, **options: Inputs.kwargs) -> Output:
        with quantise_once(self):
            return forward(self, *inputs, **options)

    return whole


class IntegerLeaky(nn.Module):
    """max(x, x/8), rounded down."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_floating_point():
            return _Leaky.apply(x)
        return torch.maximum(x, x >> 3)


def saturate(x: Tensor) -> Tensor:
    """Clamp a sum of values to the bounds of a value."""
    return clamp_with_gradient(x, REACH / UNITS) if x.is_floating_point() else x.clamp(-REACH, REACH)


def round_shift(x: Tensor, bits: int) -> Tensor:
    """x / 2^bits, rounded to the nearest integer, halves up."""
    return (x + (1 << bits >> 1)) >> bits


def straight_round(x: Tensor) -> Tensor:
    """Round to the nearest integer, halves up, with a straight-through gradient."""
    return _Straight.apply(x, 0.5)


def straight_floor(x: Tensor) -> Tensor:
    return _Straight.apply(x, 0.0)


def in_units(x: Tensor, units: int = UNITS, reach: int = REACH) -> Tensor:
    """Round to multiples of 1/units within ±reach of them: straight_round and clamp_with_gradient in one."""
    return _InUnits.apply(x, units, reach)


def clamp_with_gradient(x: Tensor, low: float, high: float | None = None) -> Tensor:
    """Clamp x to ±low, or [low, high], with a gradient like CompressAI's LowerBound at both."""
    low, high = (-low, low) if high is None else (low, high)
    return _Bounded.apply(x, low, high)


class _Leaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.maximum(x, (x * (UNITS / 8)).floor_().div_(UNITS))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.ops.aten.leaky_relu_backward(*gradients, x, 1 / 8, False)


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, half: float) -> Tensor:
        return (x + half).floor_() if half else x.floor()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _InUnits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, units: int, reach: int) -> Tensor:
        whole = (x * units).add_(0.5).floor_()
        ctx.reach = reach
        ctx.free = _lies_within(whole, -reach, reach)
        if ctx.free:
            return whole.div_(units)
        ctx.save_for_backward(whole)
        return whole.clamp(-reach, reach).div_(units)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        if ctx.free:
            return gradients[0], None, None
        (whole,) = ctx.saved_tensors
        return drop_outward(gradients[0], whole, -ctx.reach, ctx.reach), None, None


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.bounds = low, high
        ctx.free = _lies_within(x, low, high)
        if ctx.free:
            return x.view_as(x)
        ctx.save_for_backward(x)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        if ctx.free:
            return gradients[0], None, None
        (x,), (low, high) = ctx.saved_tensors, ctx.bounds
        return drop_outward(gradients[0], x, low, high), None, None


def _lies_within(x: Tensor, low: float, high: float) -> bool:
    """Whether all of x is within bounds; checked on the CPU only, where it saves a masked backward pass."""
    has_data = type(x) in (Tensor, nn.Parameter)  # tensors of lab/training_cost.py have none
    if x.device.type != "cpu" or not has_data:
        return False
    lowest, highest = x.aminmax() if x.numel() else (low, high)
    return bool(lowest >= low) and bool(highest <= high)


def drop_outward(gradient: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Zero gradients that push x further out of bounds."""
    outward = ((x < low) & (gradient > 0)) | ((x > high) & (gradient < 0))
    return gradient.masked_fill(outward, 0)
