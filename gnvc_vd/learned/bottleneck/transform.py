"""The transform latent codec: codes rotations, which are groups of latents, by a learned transform.

    l − mean ─2×2 blocks─▶ ─DCT over the rotation─▶ ─basis U─▶ slices y_0 (lowest frequency) … y_T−1
    y_0 ─▶ four bands; bands and other y_a ─gain of the quality─▶ entropy model, given earlier slices ─▶ ŷ_a
    ŷ ─Uᵀ─▶ ─inverse DCT─▶ blocks ─+ correction, in steps of the quantiser─▶ l̂, f

DCT and U are orthonormal, so the squared error of slices is that of latents. Before training (`measure`), U is the
principal components of 2×2 blocks, scales are the slices' standard deviations, and the correction is zero.

A GOP is one rotation, or several of equal length, of which the last may be shorter. The lowest slice of a later
rotation is predicted, in float32, from the last latent's blocks of the rotation before, as if nothing moved; only the
difference is coded. The prediction takes uncorrected blocks, so it is linear and cannot amplify errors: machines whose
floats differ in the last bit do not drift apart, whatever the precision of the correction.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from gnvc_vd.common.float32 import full_float32
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS, QUALITIES, GnvcError
from gnvc_vd.entropy import likelihoods
from gnvc_vd.entropy.integer import REACH, UNITS, IntegerConv, clamp_with_gradient, quantise_once, quantise_weights_once
from gnvc_vd.learned.bottleneck.base import LAYER_BOUNDS, Bottleneck, BottleneckOutput, SymbolHashes, check_latents
from gnvc_vd.learned.bottleneck.gains import GAIN_AT_ONE, KNOTS, SMALLEST_SCALE, initial_log_gains, interpolate_knots
from gnvc_vd.learned.bottleneck.networks import FEATURE_REACH, DecodedLatent, DepthBlock, convolution
from gnvc_vd.learned.bottleneck.pyramid import RATIO_BITS, Pyramid, join_bands, split_bands, spread
from gnvc_vd.learned.bottleneck.slices import (
    CHANNELS,
    DETAILS,
    LARGEST_INTEGER,
    LARGEST_SCALE_INTEGER,
    LONGEST,
    CodedSlice,
    Part,
    SliceEntropy,
    SliceHistory,
    SliceIndex,
)
from gnvc_vd.learned.bottleneck.symbol_coding import Coders, Uniform
from gnvc_vd.metrics.block_transform import dct_like
from gnvc_vd.presets import TransformPreset

BASIS_PACE = 1 / 40  # relative learning rate of the basis; a faster one drifts before the entropy models follow


class Transform(Bottleneck):
    """A latent codec that codes rotations slice by slice, from the lowest temporal frequency up."""

    preset: TransformPreset
    places: Tensor  # places of the 64 qualities on the trained scale
    bounds = LAYER_BOUNDS | {
        **dict.fromkeys(("gain_integers", "inverse_integers"), (1, LARGEST_INTEGER)),
        **dict.fromkeys(("scale_integers", "inverse_scale_integers"), (1, LARGEST_SCALE_INTEGER)),
        "row_level_integers": (-(1 << 20), 1 << 20),
        "ratio_integers": (0, 2 << RATIO_BITS),
        "row_integers": (-REACH, REACH),
    }

    def __init__(self, preset: TransformPreset, thrift: float = 0.0) -> None:
        super().__init__(thrift)
        self.preset = preset
        self.rotation = OrthonormalTransform()  # the transform of a rotation; stored weights have this name
        self.smooth = SliceEntropy(preset, "smooth", thrift)
        self.details = SliceEntropy(preset, "details", thrift)
        self.higher = SliceEntropy(preset, "higher", thrift)
        self.pyramid = Pyramid()
        self.correction = Correction(preset)
        self.register_buffer("places", torch.arange(QUALITIES, dtype=torch.float32, device="cpu"))

    def check(self, where: str) -> None:
        super().check(where)
        on_scale = bool(self.places.min() >= 0) and bool(self.places.max() <= QUALITIES - 1)
        require(on_scale, f"{where}: a quality lies outside the trained scale", GnvcError)

    @torch.no_grad()
    def measure(self, latents: Tensor, smallest: float, largest: float) -> None:
        self.rotation.measure(latents)
        self.rotation.measure_carry(latents)
        for model in (self.smooth, self.details, self.higher):
            model.start.copy_(initial_log_gains(smallest, largest))
            for at, row in model.rows.items():
                power = self._samples_at(latents, at, model.part).double().square().mean((0, 2, 3))
                model.log_scale[row] = power.sqrt().clamp_min(SMALLEST_SCALE).log().float()

    def initial_tensors(self) -> dict[str, Tensor]:
        names = ("rotation.mean", "rotation.measured", "rotation.carry", *(
            f"{model}.{name}" for model in ("smooth", "details", "higher") for name in ("start", "log_scale")
        ))  # fmt: skip
        return {name: self.state_dict()[name] for name in names}

    def usual_rotation(self, latents: int) -> int:
        """The rotation length that gives the fewest rotations, all of nearly equal length."""
        return -(-latents // -(-latents // LONGEST))

    def unsupported_reason(self, quality: Sequence[int], rotation: int) -> str | None:
        if not 1 <= rotation <= LONGEST:
            return f"a rotation of the transform codec takes 1 to {LONGEST} latents, not {rotation}"
        if len(set(quality)) != 1:
            return "the transform codec has one quality for a whole GOP; other policies are for the contextual codec"
        return None

    @quantise_weights_once
    def forward(
        self, latents: Tensor, quality: Tensor, uniform: Uniform = torch.rand_like, rotation: int = 0
    ) -> BottleneckOutput:
        """As in the base class, but with one quality per clip, that of its first latent, and without noise."""
        check_latents(latents)
        quality = quality[:, 0]
        slice_bits = list[Tensor]()

        def code(model: SliceEntropy, at: SliceIndex, y: Tensor | None, size: Size, seen: Tensor | None) -> CodedSlice:
            likely = model(cast(Tensor, y), at, quality, seen)
            slice_bits.append(likely.bits)
            return CodedSlice(likely.symbols, likely.values, likely.levels)

        past: RotationState | None = None
        decoded, features, bits = [], [], []
        size = latents.shape[3] // 2, latents.shape[4] // 2
        with full_float32(latents.device):
            for part in latents.float().split(rotation or self.usual_rotation(latents.shape[2]), dim=2):
                shown, past = self._code_rotation(self.rotation(part), part.shape[2], past, size, quality, code)
                decoded.append(shown.latent)
                features.append(shown.feature)
                # Entries before `first` are of the lowest slice: its four bands, or one entry if it is predicted.
                first = len(slice_bits) - part.shape[2] + 1
                bits += [torch.stack(slice_bits[:first]).sum(0), *slice_bits[first:]]
                slice_bits.clear()
        return BottleneckOutput(torch.cat(decoded, 2), torch.cat(features, 2), torch.stack(bits, 1))

    def _freeze(self, places: Tensor) -> None:
        self.rotation.freeze()
        self.places.copy_(places)
        for layer in self.modules():
            if isinstance(layer, IntegerConv):
                layer.freeze()
            elif isinstance(layer, SliceEntropy):
                layer.freeze(places)
        self.pyramid.freeze(self._band_scales())

    def _code(
        self,
        coders: Coders,
        hashes: SymbolHashes,
        size: Sequence[int],
        quality: Sequence[int],
        rotation: int,
        latents: Tensor | None,
    ) -> Iterator[DecodedLatent]:
        device, past = self.table_frequencies.device, None
        levels = torch.full((len(coders),), quality[0], device=device)

        def code(model: SliceEntropy, at: SliceIndex, y: Tensor | None, size: Size, seen: Tensor | None) -> CodedSlice:
            coded = model.code(coders, size, at, levels, seen, y)
            hashes.update(coded.symbols)
            return CodedSlice(coded.symbols.float() / UNITS, coded.values, coded.levels.float())

        for first in range(0, len(quality), rotation):
            count = min(rotation, len(quality) - first)
            with quantise_once(self), torch.inference_mode(), full_float32(device):
                slices = None if latents is None else self.rotation(latents[:, :, first : first + count].float())
                shown, past = self._code_rotation(slices, count, past, (size[0] // 2, size[1] // 2), levels, code)
            yield from map(DecodedLatent, shown.latent.unbind(2), shown.feature.unbind(2))

    def _code_rotation(
        self,
        slices: Tensor | None,
        count: int,
        past: "RotationState | None",
        size: "Size",
        quality: Tensor,
        code: "Code",
    ) -> tuple[DecodedLatent, "RotationState"]:
        """Code one rotation slice by slice; returns l̂ B 16 T h w and f B F T h w, and the state for the next one.

        Args:
            slices: slices to encode, B T 64 h w; None in decoding.
            code: codes one slice: estimates its bits in training, or calls the entropy coders.
        """
        prediction = self._prediction(past, count)
        seen = None if past is None else past.history
        coefficients, errors = [], []

        def code_slice(
            model: SliceEntropy, at: SliceIndex, y: Tensor | None, size: "Size", seen: SliceHistory | None
        ) -> DecodedSlice:
            gain = model.gain(quality, at)
            coded = code(model, at, None if y is None else y * gain, size, None if seen is None else seen.context())
            error = _expected_error(coded.levels, gain.detach())
            return DecodedSlice(coded.symbols / gain, coded.values.detach(), error)

        for number in range(count):
            y = None if slices is None else slices[:, number] - (0 if number else prediction)
            if number or past is not None:
                found = code_slice(self.higher, (count, number), y, size, seen)
            else:
                found = self._code_bands(y, count, size, code_slice)
            seen = _append_history(seen if number else None, found.values)
            coefficients.append(found.coefficients if number else found.coefficients + prediction)
            errors.append(found.errors)
        shown, blocks = self._decode_blocks(torch.stack(coefficients, 1), torch.stack(errors, 1), quality)
        return shown, RotationState(blocks[:, -1].detach(), cast(SliceHistory, seen))

    def _code_bands(self, y: Tensor | None, count: int, size: "Size", code_slice: "SliceCoder") -> "DecodedSlice":
        """Code a first rotation's lowest slice: its smooth band, then its details, each given the bands before it."""
        half, seen = (-(-size[0] // 2), -(-size[1] // 2)), None
        wanted = [None] * 4 if y is None else split_bands(y).unbind(1)
        bands = list[DecodedSlice]()
        for number, band in enumerate(wanted):
            bands.append(code_slice(self.details if number else self.smooth, (count, number), band, half, seen))
            seen = _append_history(seen, bands[-1].values)
        coefficients, values, errors = (torch.stack(parts, 1) for parts in zip(*bands, strict=True))
        whole = self.pyramid.values(values, self._band_scales(), count, size)
        return DecodedSlice(join_bands(coefficients, size), whole, spread(errors, size))

    def _band_scales(self) -> Tensor:
        """Logarithms of the bands' scales, lengths 4 64."""
        details = self.details.log_scale.unflatten(0, (LONGEST, len(DETAILS)))
        return torch.cat([self.smooth.log_scale[:, None], details], dim=1)

    def _decode_blocks(self, slices: Tensor, errors: Tensor, quality: Tensor) -> tuple[DecodedLatent, Tensor]:
        """Decode slices to l̂ B 16 T h w and f B F T h w; also return the blocks before the correction."""
        place = self.places[quality] if not self.training and bool(self.frozen) else quality
        log_step = -interpolate_knots(self.smooth.start[:, None], place)[:, 0]
        blocks = self.rotation.inverse(slices)
        corrected, hidden = self.correction(blocks, place, log_step.exp())
        feature = torch.cat([hidden, self._uncertainty(errors, log_step)], dim=2).transpose(1, 2)
        return DecodedLatent(self.rotation.latents(corrected), feature), blocks

    def _uncertainty(self, errors: Tensor, log_step: Tensor) -> Tensor:
        """Logarithms of each latent's expected error (standard deviation, in steps) and of the step.

        Args:
            errors: expected squared errors of slices, B T 64 h w.
        """
        variance = self.rotation.inverse(errors, squared=True)
        step = log_step[:, None, None, None, None]
        deviation = pixel_shuffle(variance.clamp_min(1e-12).log() / 2 - step, 2)
        return torch.cat([deviation, step.expand_as(deviation[:, :, :1])], dim=2)

    def _prediction(self, past: "RotationState | None", count: int) -> Tensor:
        """Prediction of the lowest slice from the previous rotation; zero for a GOP's first rotation."""
        if past is None:
            return torch.zeros((), device=self.table_frequencies.device)
        return self.rotation.predict_blocks(past.blocks, count)

    def _samples_at(self, latents: Tensor, at: SliceIndex, part: Part) -> Tensor:
        """Slices (or bands) of training clips at an index, or at the nearest index that the clips' length allows.

        For the lowest slice of a later rotation, the difference from its prediction, since that is what is coded.
        """
        length, number = at
        if part == "higher" and number == 0 and latents.shape[2] > 1:
            known, wanted = self.rotation.prediction_pair(latents, length)
            return wanted - self.rotation.carry[length - 1][:, None, None] * known
        there = min(length, latents.shape[2])
        slices = self.rotation(latents[:, :, :there])
        return slices[:, min(number, there - 1)] if part == "higher" else split_bands(slices[:, 0])[:, number]


class DecodedSlice(NamedTuple):
    """A slice as decoded (divided by its gain), its whitened values for the context, and its expected squared error."""

    coefficients: Tensor
    values: Tensor
    errors: Tensor


class RotationState(NamedTuple):
    """State that one rotation passes to the next."""

    blocks: Tensor  # blocks of its last latent, before the correction
    history: SliceHistory  # context for the next rotation's entropy model; integers in coding


Size = tuple[int, int]
Code = Callable[[SliceEntropy, SliceIndex, Tensor | None, Size, Tensor | None], CodedSlice]
SliceCoder = Callable[[SliceEntropy, SliceIndex, Tensor | None, Size, SliceHistory | None], DecodedSlice]


class OrthonormalTransform(nn.Module):
    """Orthonormal transform from latents to slices and back: a DCT over time and a basis U of 2×2 blocks.

    U is the measured basis times a learned orthogonal matrix, the Cayley transform (I + A)⁻¹ (I − A) of a skew A that
    starts at zero. It is always computed in float32.
    """

    mean: Tensor  # 16
    measured: Tensor  # 64 64, rows are components
    basis: Tensor  # 64 64, the learned basis, as used after training

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("measured", torch.eye(CHANNELS, device="cpu"))
        self.register_buffer("basis", torch.eye(CHANNELS, device="cpu"))
        self.turn = nn.Parameter(torch.zeros(CHANNELS, CHANNELS))
        # Gain of the prediction from the previous rotation's last latent.
        self.carry = nn.Parameter(torch.zeros(LONGEST, CHANNELS))

    def measure(self, latents: Tensor) -> None:
        self.mean.copy_(latents.mean((0, 2, 3, 4)))
        self.turn.zero_()
        self.measured.copy_(torch.eye(CHANNELS))
        self.freeze()
        longest = self(latents[:, :, :LONGEST]).transpose(1, 2).transpose(0, 1).flatten(1).double()
        self.measured.copy_(torch.linalg.eigh(longest @ longest.T).eigenvectors.flip(1).T)
        self.freeze()

    def measure_carry(self, latents: Tensor) -> None:
        """Measure each channel's gain of the prediction from the previous latent; zero if clips have one latent."""
        self.carry.zero_()
        for length in range(1, LONGEST + 1) if latents.shape[2] > 1 else ():
            known, wanted = self.prediction_pair(latents, length)
            share = (known * wanted).mean((0, 2, 3)) / known.square().mean((0, 2, 3)).clamp_min(SMALLEST_SCALE**2)
            self.carry[length - 1] = share.clamp(0, 1)

    def prediction_pair(self, latents: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Two lowest slices: of a clip's first latent repeated, and of the latents that follow it.

        The first is quantised as at λ = 1. The second covers `length` latents, or as many as there are.
        """
        after = latents[:, :, 1 : 1 + length]
        known = self.of_blocks(_blocks(latents[:, :, :1] - self.centre()))[:, 0]
        return (known * GAIN_AT_ONE).round() / GAIN_AT_ONE * math.sqrt(after.shape[2]), self(after)[:, 0]

    def forward(self, latents: Tensor) -> Tensor:
        """Transform latents B 16 T h w to slices B T 64 h/2 w/2, the lowest frequency first."""
        blocks = _blocks(latents - self.centre())
        return self.of_blocks(torch.einsum("at,btchw->bachw", dct_like(blocks, blocks.shape[1]), blocks))

    def inverse(self, slices: Tensor, squared: bool = False) -> Tensor:
        """Transform slices back to blocks B T 64 h/2 w/2.

        Args:
            squared: whether slices are expected squared errors; the returned blocks are then such errors too.
        """
        matrix, basis = dct_like(slices, slices.shape[1]), self._basis()
        matrix, basis = (matrix.square(), basis.detach().square()) if squared else (matrix, basis)
        return torch.einsum("at,bakhw,kc->btchw", matrix, slices, basis)

    def of_blocks(self, blocks: Tensor) -> Tensor:
        return torch.einsum("kc,btchw->btkhw", self._basis(), blocks)  # not a convolution, which might run in TF32

    def predict_blocks(self, blocks: Tensor, count: int) -> Tensor:
        """Predict the lowest slice of `count` latents from the blocks of the latent before them, B 64 h/2 w/2."""
        share = clamp_with_gradient(self.carry[count - 1].float(), 0, 1) * math.sqrt(count)
        return share[:, None, None] * self.of_blocks(blocks[:, None])[:, 0]

    def latents(self, blocks: Tensor) -> Tensor:
        """Convert blocks B T 64 h/2 w/2 to latents B 16 T h w."""
        return pixel_shuffle(blocks, 2).transpose(1, 2) + self.centre()

    def learned_basis(self) -> Tensor:
        skew, one = BASIS_PACE * (self.turn - self.turn.T), torch.eye(CHANNELS, device=self.turn.device)
        # I + A is never singular; torch.linalg.solve would check that and wait for the device.
        solved, _ = torch.linalg.solve_ex(one + skew, one - skew)
        return solved @ self.measured

    def freeze(self) -> None:
        with torch.no_grad():
            self.basis.copy_(self.learned_basis())

    def centre(self) -> Tensor:
        return self.mean[:, None, None, None].float()

    def _basis(self) -> Tensor:
        return self.learned_basis() if self.training else self.basis.float()


class Correction(nn.Module):
    """A residual network on decoded blocks; its output is in quantiser steps and starts at zero."""

    def __init__(self, preset: TransformPreset) -> None:
        super().__init__()
        self.enter = convolution(4 * CHANNELS, preset.width, 1)
        self.quality_knots = nn.Parameter(torch.zeros(KNOTS, preset.width))
        self.blocks = nn.Sequential(*(DepthBlock(preset.width) for _ in range(preset.blocks)))
        self.leave = nn.Conv2d(preset.width, CHANNELS, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, blocks: Tensor, quality: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Corrected blocks B T 64 h w, and features B T W/4 2h 2w."""
        count = blocks.shape[1]
        before = torch.cat([blocks[:, :1], blocks[:, :-1]], dim=1)
        after = torch.cat([blocks[:, 1:], blocks[:, -1:]], dim=1)
        seen = torch.cat([blocks, before, after, blocks.mean(1, keepdim=True).expand_as(blocks)], dim=2)
        quality_features = interpolate_knots(self.quality_knots, quality).repeat_interleave(count, 0)[:, :, None, None]
        x = seen.flatten(0, 1).to(self.enter.weight.dtype).contiguous(memory_format=torch.channels_last)
        # One latent at a time outside training, as pictures may be large.
        rows = [slice(None)] if self.training else [slice(row, row + 1) for row in range(len(x))]
        hidden = torch.cat([self.blocks(self.enter(x[row]) + quality_features[row]) for row in rows])
        added = self.leave(hidden).float().view_as(blocks)
        feature = FEATURE_REACH * torch.tanh(pixel_shuffle(hidden, 2).float() / FEATURE_REACH)
        return blocks + step[:, None, None, None, None] * added, feature.unflatten(0, blocks.shape[:2])


def _append_history(seen: SliceHistory | None, values: Tensor) -> SliceHistory:
    if seen is None:
        return SliceHistory(values)
    seen.add(values)
    return seen


def _expected_error(levels: Tensor, gain: Tensor) -> Tensor:
    """Expected squared error of a rounded coefficient: near its variance if that is small, at most 1/12 of a step²."""
    variance = likelihoods.scale_of(levels).square()
    return variance / (1 + 12 * variance) / gain.square()


def _blocks(latents: Tensor) -> Tensor:
    """Convert latents B 16 T h w to 2×2 blocks B T 64 h/2 w/2."""
    return pixel_unshuffle(latents.transpose(1, 2), 2)
