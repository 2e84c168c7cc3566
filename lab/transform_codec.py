"""A latent codec that is a transform code before it is trained: latents ↔ payloads, a rotation of them at a time.

    l − mean ─2×2 blocks─▶ ─DCT over the rotation─▶ ─basis U─▶ slices y_0 (lowest frequency) … y_T−1
    y_a ─gain of the quality─▶ entropy model, told earlier slices ─▶ ŷ_a
    ŷ ─Uᵀ─▶ ─inverse DCT─▶ ─+ correction, in steps of the quantiser─▶ l̂, f

DCT and U are orthonormal, so what is lost in symbols is lost in latents, and nothing is fed back: no recursion over
floats, in training or in decoding. U starts as the principal components of 2×2 blocks, every channel's scale as it was
measured, the correction as nothing (`measure`): good at step 0. A GOP is one rotation, or several, the last
of which may be shorter.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pixel_shuffle, pixel_unshuffle

from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.conventions import LATENT_CHANNELS, QUALITIES, GnvcError
from gnvc_vd.entropy.cdf_tables import Tables, normal_tables, tables_of
from gnvc_vd.entropy.coder import Decoder, Encoder
from gnvc_vd.entropy.integer import UNITS, IntegerConv
from gnvc_vd.learned.bottleneck.contextual import Payload, Trained, check_latents, new_hash
from gnvc_vd.learned.bottleneck.gains import KNOTS, through_knots
from gnvc_vd.learned.bottleneck.hyperprior import Coders
from gnvc_vd.learned.bottleneck.networks import DecodedLatent, DepthBlock, convolution
from gnvc_vd.metrics.block_transform import dct
from lab.transform_slices import CHANNELS, LONGEST, SMALLEST_SCALE, SliceEntropy, SliceHistory, TransformPreset, band_of

GAIN_AT_ONE = 1.5 / math.sqrt(0.605)  # of a quality with λ = 1, where training leads
DEFAULT_ROTATION = 7  # latents: 25 frames


class Rotation(nn.Module):
    """Latents to slices and back, orthonormal: a DCT over time, and the basis U of 2×2 blocks.

    U is the measured basis turned by a rotation that is learned: Cayley's (I + A)⁻¹ (I − A) of a skew A, which begins
    as nothing and stays a rotation whatever is learned.
    """

    mean: Tensor  # 16
    measured: Tensor  # 64 64, rows are components
    basis: Tensor  # 64 64, turned: what is used once training is over

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("measured", torch.eye(CHANNELS))
        self.register_buffer("basis", torch.eye(CHANNELS))
        self.turn = nn.Parameter(torch.zeros(CHANNELS, CHANNELS))

    def forward(self, latents: Tensor) -> Tensor:
        """B 16 T h w to slices B T 64 h/2 w/2, the lowest frequency first."""
        return self._along_time(_blocks(latents - self._centre()), forward=True)

    def inverse(self, slices: Tensor) -> Tensor:
        """Back to blocks B T 64 h/2 w/2."""
        return self._along_time(slices, forward=False)

    def latents(self, blocks: Tensor) -> Tensor:
        """B T 64 h/2 w/2 to B 16 T h w."""
        return pixel_shuffle(blocks, 2).transpose(1, 2) + self._centre()

    def learned_basis(self) -> Tensor:
        skew, one = self.turn - self.turn.T, torch.eye(CHANNELS, device=self.turn.device)
        return torch.linalg.solve(one + skew, one - skew) @ self.measured

    def freeze(self) -> None:
        with torch.no_grad():
            self.basis.copy_(self.learned_basis())

    def _along_time(self, blocks: Tensor, forward: bool) -> Tensor:
        matrix = dct(blocks.shape[1]).to(blocks)
        basis = self.learned_basis() if self.training else self.basis
        if forward:
            turned = torch.einsum("at,btchw->bachw", matrix, blocks)
            return conv2d(turned.flatten(0, 1), basis[:, :, None, None]).view_as(blocks)
        turned = conv2d(blocks.flatten(0, 1), basis.T[:, :, None, None]).view_as(blocks)
        return torch.einsum("at,bachw->btchw", matrix, turned)

    def _centre(self) -> Tensor:
        return self.mean[:, None, None, None]


class Correction(nn.Module):
    """What an orthonormal transform cannot say of a decoded rotation: a sum that begins as nothing, in steps."""

    def __init__(self, preset: TransformPreset) -> None:
        super().__init__()
        self.enter = convolution(4 * CHANNELS, preset.width, 1)
        self.quality_knots = nn.Parameter(torch.zeros(KNOTS, preset.width))
        self.blocks = nn.Sequential(*(DepthBlock(preset.width) for _ in range(preset.blocks)))
        self.leave = nn.Conv2d(preset.width, CHANNELS, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))

    def forward(self, blocks: Tensor, quality: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks B T 64 h w as they should be, and hidden features B T W h w."""
        count = blocks.shape[1]
        before, after = blocks[:, [0, *range(count - 1)]], blocks[:, [*range(1, count), count - 1]]
        seen = torch.cat([blocks, before, after, blocks.mean(1, keepdim=True).expand_as(blocks)], dim=2)
        told = through_knots(self.quality_knots, quality).repeat_interleave(count, 0)[:, :, None, None]
        x = seen.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        hidden = self.blocks(self.enter(x) + told)
        added = self.leave(hidden).view_as(blocks)
        return blocks + step[:, None, None, None, None] * added, hidden.unflatten(0, blocks.shape[:2])


class TransformBottleneck(nn.Module):
    """`measure` begins it, `forward` trains it, `freeze` makes its integers, `compress` and `decompress` use them.

    Args:
        thrift: how its encoder rounds (likelihoods.rounded), in training too.
        rotation: latents that are coded together, 1 to 9.
    """

    table_frequencies: Tensor

    def __init__(self, preset: TransformPreset, thrift: float = 0.0, rotation: int = DEFAULT_ROTATION) -> None:
        super().__init__()
        if not 1 <= rotation <= LONGEST:
            raise ValueError(f"a rotation takes 1 to {LONGEST} latents, not {rotation}")
        self.preset, self.thrift, self.length = preset, thrift, rotation
        self.rotation = Rotation()
        self.lowest = SliceEntropy(preset, lowest=True, thrift=thrift)
        self.higher = SliceEntropy(preset, lowest=False, thrift=thrift)
        self.correction = Correction(preset)
        self.register_buffer("table_frequencies", normal_tables())
        self.register_buffer("frozen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def measure(self, latents: Tensor, smallest: float, largest: float) -> None:
        """Begin as the transform code of latents like these, for qualities with λ from the smallest to the largest.

        Args:
            latents: of training clips, N 16 T h w, of as many latents as a rotation will have or more.
        """
        self.rotation.mean.copy_(latents.mean((0, 2, 3, 4)))
        self.rotation.turn.zero_()
        self.rotation.measured.copy_(torch.eye(CHANNELS))
        self.rotation.freeze()
        longest = self.rotation(latents[:, :, :LONGEST]).transpose(1, 2).transpose(0, 1).flatten(1).double()
        components = torch.linalg.eigh(longest @ longest.T).eigenvectors.flip(1).T
        self.rotation.measured.copy_(components)
        self.rotation.freeze()
        log_lambda = torch.linspace(math.log(smallest), math.log(largest), KNOTS)
        for model in (self.lowest, self.higher):
            model.start.copy_(math.log(GAIN_AT_ONE) + log_lambda / 2)
            for (length, number), row in model.rows.items():
                there = min(length, latents.shape[2])
                slices = self.rotation(latents[:, :, :there])[:, min(number, there - 1)]
                power = slices.double().square().mean((0, 2, 3))
                model.log_scale[row] = power.sqrt().clamp_min(SMALLEST_SCALE).log().float()

    def forward(self, latents: Tensor, quality: Tensor) -> Trained:
        """B 16 T h w with even h and w; one quality for each clip, B or B T."""
        check_latents(latents)
        quality = quality[:, 0] if quality.ndim == 2 else quality
        decoded, features, bits = [], [], []
        for part in latents.split(self.length, dim=2):
            slices, seen = self.rotation(part), None
            symbols, spent = [], []
            for number, slice_ in enumerate(slices.unbind(1)):
                model, at = self._model(number), (part.shape[2], number)
                gain = model.gain(quality, band_of(*at))
                likely = model(slice_ * gain, at, quality, None if seen is None else seen.context())
                seen = _after(seen, likely.values)
                symbols.append(likely.symbols / gain)
                spent.append(likely.bits)
            found, hidden = self._decoded(torch.stack(symbols, 1), quality)
            decoded.append(found)
            features.append(hidden)
            bits += spent
        return Trained(torch.cat(decoded, 2), torch.cat(features, 2), torch.stack(bits, 1))

    def freeze(self) -> None:
        """The integers that decide symbols, their bounds proven, and the tables."""
        places = torch.arange(QUALITIES, device=self.table_frequencies.device)
        self.rotation.freeze()
        for layer in self.modules():
            if isinstance(layer, IntegerConv):
                layer.freeze()
            elif isinstance(layer, SliceEntropy):
                layer.freeze(places)
        self.table_frequencies.copy_(normal_tables())
        cast(Tensor, self.frozen).fill_(1)

    def compress(self, latents: Tensor, quality: Sequence[int]) -> tuple[list[Payload], list[DecodedLatent]]:
        """One payload for each clip of the batch, and what a decoder will have."""
        check_latents(latents)
        tables = self._tables()
        encoders, hashes = [Encoder(tables) for _ in latents], [new_hash() for _ in latents]
        decoded = list(self._code(encoders, hashes, latents.shape[3:], quality, latents))
        coded = zip(encoders, hashes, strict=True)
        return [Payload(encoder.finish(), digest.digest(), encoder.bits) for encoder, digest in coded], decoded

    def decompress(
        self, payloads: Sequence[bytes], symbol_hashes: Sequence[bytes], size: tuple[int, int], quality: Sequence[int]
    ) -> Iterator[DecodedLatent]:
        """Latents of h × w, rotation by rotation, clips of one length side by side; the last is followed by the proof.

        Raises:
            BitstreamError: the bytes are none of ours, or decoded to other symbols than were coded.
        """
        tables = self._tables()
        decoders, hashes = [Decoder(payload, tables) for payload in payloads], [new_hash() for _ in payloads]
        yield from self._code(decoders, hashes, size, quality)
        for decoder, digest, wanted in zip(decoders, hashes, symbol_hashes, strict=True):
            decoder.finish()
            if digest.digest() != wanted:
                raise BitstreamError("the symbols are not those that were coded")

    def _code(
        self,
        coders: Coders,
        hashes: "list[hashlib.blake2b]",
        size: Sequence[int],
        quality: Sequence[int],
        latents: Tensor | None = None,
    ) -> Iterator[DecodedLatent]:
        """Either direction: latents into encoders, or where there are none out of decoders."""
        device = self.table_frequencies.device
        levels = torch.full((len(coders),), _single_quality(quality), device=device)
        for first in range(0, len(quality), self.length):
            count = min(self.length, len(quality) - first)
            with torch.inference_mode(), torch.autocast(device.type, enabled=False):
                slices = None if latents is None else self.rotation(latents[:, :, first : first + count].float())
                symbols, seen = [], None
                for number in range(count):
                    model, at = self._model(number), (count, number)
                    gain = model.gain(levels, band_of(*at))
                    y = None if slices is None else slices[:, number] * gain
                    context: Tensor | None = None if seen is None else seen.context()
                    coded = model.code(coders, (size[0] // 2, size[1] // 2), at, levels, context, y)
                    for digest, one in zip(hashes, coded.symbols, strict=True):
                        digest.update(one.to("cpu", torch.int32).contiguous().numpy().tobytes())
                    symbols.append(coded.symbols.float() / UNITS / gain)
                    seen = _after(seen, coded.values)
                found, features = self._decoded(torch.stack(symbols, 1), levels)
            yield from map(DecodedLatent, found.unbind(2), features.unbind(2))

    def _decoded(self, slices: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """l̂ B 16 T h w and f B F T h w of a rotation's ŷ."""
        step = torch.exp(-through_knots(self.lowest.start[:, None], quality))[:, 0]
        blocks, hidden = self.correction(self.rotation.inverse(slices), quality, step)
        return self.rotation.latents(blocks), pixel_shuffle(hidden, 2).transpose(1, 2)

    def _model(self, number: int) -> SliceEntropy:
        return self.higher if number else self.lowest

    def _tables(self) -> Tables:
        if not bool(self.frozen) or self.training:
            raise GnvcError("this model has no frozen integers to code with: freeze() and eval() come first")
        return tables_of(self.table_frequencies)


def _after(seen: SliceHistory | None, values: Tensor) -> SliceHistory:
    if seen is None:
        return SliceHistory(values.detach())
    seen.add(values.detach())
    return seen


def _blocks(latents: Tensor) -> Tensor:
    """B 16 T h w to B T 64 h/2 w/2."""
    return pixel_unshuffle(latents.transpose(1, 2), 2)


def _single_quality(quality: Sequence[int]) -> int:
    if len(set(quality)) != 1:
        raise GnvcError("a transform codec has one quality for a whole GOP: other policies are of contextual codecs")
    return quality[0]
