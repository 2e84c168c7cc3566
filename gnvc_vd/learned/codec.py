"""GNVC-VD assembled: frames to units of a .gnvc stream, and back.

    frames ─scenes, GOPs─▶ VAE ─▶ bottleneck ─▶ unit …
    unit … ─▶ bottleneck ─l̂, f─▶ windows ─▶ refiner ─▶ VAE ─▶ frames

Both directions are generators: encoding holds a GOP of frames, decoding a window of latents.
"""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from gnvc_vd.backbone.interfaces import State
from gnvc_vd.backbone.streaming import latents_of_frames
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.bitstream import BitstreamError, CodecId, Header, Reader, Unit, whole_stream
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.bitstream.playback import Decoding, Playback
from gnvc_vd.bitstream.refinement import Parameters
from gnvc_vd.common.noise import normal
from gnvc_vd.conventions import QUALITIES, Frame, UsageError
from gnvc_vd.learned.bottleneck.contextual import Bottleneck
from gnvc_vd.learned.bottleneck.networks import DecodedLatent
from gnvc_vd.learned.bottleneck.policies import POLICIES, Policy, qualities
from gnvc_vd.learned.bottleneck.schema import coded_identity, stored_tensors
from gnvc_vd.video import Video, VideoInfo
from gnvc_vd.video.pixels import to_frames
from gnvc_vd.video.scenes import scenes

if TYPE_CHECKING:
    from gnvc_vd.learned.refine.refiner import Refiner

NOISE_KEY = 0x474E5643  # the second half of a noise key; the stream's seed is the first
BPP_TOLERANCE = 0.05
DEFAULT_QUALITY = 32


@dataclass(frozen=True)
class Encoding:
    """What an encoder decides."""

    quality: int = DEFAULT_QUALITY
    gop: int = gops.DEFAULT_WINDOW
    scenecut: bool = True
    policy: Policy = "constant"
    parameters: Parameters | None = None  # as the model's own

    def __post_init__(self) -> None:
        gops.check_gop(self.gop)
        if not 0 <= self.quality < QUALITIES:
            raise UsageError(f"quality is 0 to {QUALITIES - 1}, not {self.quality}")


class GnvcVd:
    """A whole codec: `encode` and `decode` in one call, or unit by unit.

    Args:
        name: what messages call it.
        shown_identity: what its streams say of the float weights, by `shown_identity_of`.
        load_refiner: called when something is refined for the first time; no encoder ever does.
        note: what its user must know (that nano's pictures mean nothing).
        refinement: what its streams say of it, unless the encoder wants it otherwise.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        bottleneck: Bottleneck,
        shown_identity: bytes,
        load_refiner: Callable[[], "Refiner"],
        note: str = "",
        refinement: Parameters = Parameters(),  # noqa: B008 - frozen
    ) -> None:
        self.name, self.note, self.refinement = name, note, refinement
        self.backbone, self.bottleneck, self.load_refiner = backbone, bottleneck.eval(), load_refiner
        self.coded_identity = coded_identity(bottleneck)
        self.shown_identity = shown_identity

    @cached_property
    def refiner(self) -> "Refiner":
        with torch.inference_mode(False):  # whoever asks first, it is there for everyone
            return self.load_refiner().eval().to(self.device)

    @property
    def device(self) -> torch.device:
        return self.bottleneck.table_frequencies.device

    def to(self, device: torch.device | str) -> "GnvcVd":
        self.backbone.to(device)
        self.bottleneck.to(device)
        if "refiner" in vars(self):
            self.refiner.to(device)
        return self

    def header(self, info: VideoInfo, encoding: Encoding) -> Header:
        return Header(
            CodecId.GNVC_VD,
            self.coded_identity,
            self.shown_identity,
            info.width,
            info.height,
            info.rate,
            info.colour,
            (encoding.parameters or self.refinement).pack(),
        )

    def encode(self, video: Video, quality: int = DEFAULT_QUALITY) -> bytes:
        """A whole stream."""
        encoding = Encoding(quality)
        return whole_stream(self.header(video.info, encoding), self.encode_units(video, encoding))

    def encode_units(self, frames: Iterable[Frame], encoding: Encoding) -> Iterator[Unit]:
        """Unit by unit, as the frames come."""
        for index, (count, latents) in enumerate(self.latents(frames, encoding)):
            yield self.unit(index, count, latents, encoding.quality, encoding.policy)

    def encode_to_bpp(
        self,
        frames: Iterable[Frame],
        encoding: Encoding,
        info: VideoInfo,
        bpp: float,
        tried: Callable[[int, float], object] = lambda quality, bpp: None,
    ) -> list[Unit]:
        """All units at the quality whose stream comes nearest to a rate; frames pass the VAE once.

        The latents of the whole clip are held, half a byte for each of its pixels. `tried` hears of every quality
        that was coded, seven at most, and its rate.
        """
        clip = list(self.latents(frames, encoding))
        pixels = info.width * info.height * sum(count for count, _ in clip)

        def at(quality: int) -> tuple[float, list[Unit]]:
            units = [self.unit(i, count, x, quality, encoding.policy) for i, (count, x) in enumerate(clip)]
            found = stream_size(self.header(info, encoding), units) * 8 / pixels
            tried(quality, found)
            return found, units

        return _nearest(at, bpp)

    def latents(self, frames: Iterable[Frame], encoding: Encoding) -> Iterator[tuple[int, Tensor]]:
        """Each GOP's frame count and its latents, 1 16 T h w."""
        for scene in scenes(frames) if encoding.scenecut else iter([iter(frames)]):
            for gop in gops.cut_stream(scene, encoding.gop):
                yield len(gop), latents_of_frames(self.backbone.vae, gops.pad(np.stack(gop)), self.device)

    def unit(self, index: int, frames: int, latents: Tensor, quality: int, policy: Policy = "constant") -> Unit:
        (payload,), _ = self.bottleneck.compress(latents, qualities(quality, latents.shape[2], policy))
        return Unit(index, frames, quality, POLICIES.index(policy), payload.symbol_hash, payload.data)

    def decode(self, stream: bytes | BinaryIO, decoding: Decoding | None = None) -> Iterator[Frame]:
        """Frames T H W 3, window by window.

        Raises:
            BitstreamError: damage (unless it is to be concealed), or a stream of another model.
        """
        decoding = decoding or Decoding()
        reader = Reader(io.BytesIO(stream) if isinstance(stream, bytes) else stream, decoding.max_pixels)
        return self.decode_from(reader, decoding)

    def decode_from(self, reader: Reader, decoding: Decoding) -> Iterator[Frame]:
        """The same, of a stream whose header has been read."""
        self.check(reader.header, decoding.allow_other_weights)
        header = reader.header
        return Playback(reader, decoding, lambda unit: self.decode_unit(header, unit, decoding)).frames()

    def check(self, header: Header, allow_other_weights: bool = False) -> Parameters:
        """Refuse streams that this model would read wrongly."""
        if header.codec is not CodecId.GNVC_VD:
            raise BitstreamError(f"a stream of {header.codec.name}; this is {CodecId.GNVC_VD.name}")
        if header.coded_identity != self.coded_identity:
            raise BitstreamError(
                f"coded with model {header.coded_identity.hex()}; {self.name} is {self.coded_identity.hex()}"
            )
        if header.shown_identity != self.shown_identity and not allow_other_weights:
            raise BitstreamError(
                f"coded with weights {header.shown_identity.hex()}; {self.name} has {self.shown_identity.hex()} and "
                "would show wrong pictures (--allow-other-weights shows them)"
            )
        return Parameters.parse(header.parameters)

    def symbols(self, header: Header, unit: Unit) -> Iterator[DecodedLatent]:
        """A unit's latents, with the check of its symbol hash after the last."""
        if unit.policy >= len(POLICIES):
            raise BitstreamError(f"GOP {unit.index} has policy {unit.policy}, which this program does not know")
        width, height = gops.latent_size(header.width, header.height)
        levels = qualities(unit.quality, gops.latents_of(unit.frames), POLICIES[unit.policy])
        return self.bottleneck.decompress([unit.payload], [unit.symbol_hash], (height, width), levels)

    def decode_unit(self, header: Header, unit: Unit, decoding: Decoding) -> Iterator[Frame]:
        """A GOP's frames, window by window."""
        parameters = Parameters.parse(header.parameters)
        decoded = self.symbols(header, unit)
        count = gops.latents_of(unit.frames)
        held: list[DecodedLatent] = []  # the window's latents, and the one before it
        refined: Tensor | None = None
        state: State | None = None
        for number, window in enumerate(gops.windows(count, parameters.window)):
            held = held[-1:] + [next(decoded) for _ in range(window.stop - window.start)]
            if window.stop == count:
                next(decoded, None)  # the symbol hash, before the last pictures are shown
            latents = torch.stack([one.latent for one in held], dim=2)
            features = torch.stack([one.feature for one in held], dim=2)
            with torch.inference_mode():
                context = None if refined is None else refined[:, :, -1:]
                place = (unit.index, number)
                refined = self._refined(latents, features, context, parameters, decoding, place)
                parts = []
                for latent in refined.split(1, dim=2):
                    part, state = self.backbone.vae.decode_step(state, latent)
                    parts.append(to_frames(part[0]))
            start, stop = gops.frame_span(window.start, window.stop)
            frames = np.concatenate(parts)
            yield gops.crop(frames, min(stop, unit.frames) - start, header.width, header.height)

    def _refined(
        self,
        latents: Tensor,
        features: Tensor,
        context: Tensor | None,
        parameters: Parameters,
        decoding: Decoding,
        place: tuple[int, int],
    ) -> Tensor:
        if not decoding.refine:
            return latents if context is None else latents[:, :, 1:]
        key = (parameters.seed, NOISE_KEY)
        noise = parameters.noise_scale * normal(latents.shape, key, (*place, 0), latents.device)
        steps = decoding.steps or parameters.steps
        if decoding.apart:
            alone = [apart(given if context is None else given[:, :, 1:]) for given in (latents, features, noise)]
            refined: Tensor = self.refiner(*alone, parameters.sigma_0, steps)
            return rearrange(refined, "(b t) c 1 h w -> b c t h w", b=len(latents))
        out: Tensor = self.refiner(latents, features, noise, parameters.sigma_0, steps, context)
        return out


def shown_identity_of(backbone: Backbone, bottleneck: Bottleneck, adaptor: Mapping[str, Tensor]) -> bytes:
    """What a stream says of every float that its pictures depend on."""
    digest = hashlib.sha256(backbone.identity)
    for state in (stored_tensors(bottleneck), adaptor):
        for name, value in sorted(state.items()):
            if value.is_floating_point():
                digest.update(name.encode())
                digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.digest()[:4]


def apart(window: Tensor) -> Tensor:
    """Each latent of a window as a window of its own."""
    return rearrange(window, "b c t h w -> (b t) c 1 h w")


def stream_size(header: Header, units: Iterable[Unit]) -> int:
    """Bytes of the whole file."""
    return len(whole_stream(header, units))


def _nearest(at: Callable[[int], tuple[float, list[Unit]]], bpp: float) -> list[Unit]:
    """Bisection over quality: the units whose rate is within tolerance, or else the nearest that was seen."""
    low, high = 0, QUALITIES - 1
    best: tuple[float, list[Unit]] | None = None
    while low <= high:
        middle = (low + high) // 2
        found, units = at(middle)
        if best is None or abs(found - bpp) < abs(best[0] - bpp):
            best = (found, units)
        if abs(found - bpp) <= BPP_TOLERANCE * bpp:
            break
        low, high = (middle + 1, high) if found < bpp else (low, middle - 1)
    assert best is not None
    return best[1]
