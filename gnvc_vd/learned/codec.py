"""The GNVC-VD codec: encodes frames to the units of a .gnvc stream, and decodes them.

    frames ─scenes, GOPs─▶ canvas, if it saves bits ─▶ VAE ─▶ bottleneck ─▶ unit …
    unit … ─▶ bottleneck ─l̂, f─▶ windows ─▶ refiner ─▶ VAE ─▶ out of the canvas ─▶ frames

Both directions are generators: the encoder keeps one GOP of frames in memory, the decoder one window of latents.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from gnvc_vd.backbone import flow
from gnvc_vd.backbone.streaming import State, latents_of_frames
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.bitstream import BitstreamError, CodecId, Header, Unit, pack_stream
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.bitstream.playback import DecodeOptions, check_weights, decode_stream, model_hint
from gnvc_vd.bitstream.refinement import Refinement, check_tile
from gnvc_vd.common.noise import normal
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, Frame, UsageError
from gnvc_vd.learned.bottleneck.base import Bottleneck
from gnvc_vd.learned.bottleneck.networks import DecodedLatent
from gnvc_vd.learned.bottleneck.policies import POLICIES, Policy, qualities
from gnvc_vd.learned.bottleneck.schema import coded_identity, stored_tensors
from gnvc_vd.learned.canvas import Canvas
from gnvc_vd.learned.pan_search import stabilise
from gnvc_vd.learned.rate_search import TargetSize, search
from gnvc_vd.video import Video, VideoInfo
from gnvc_vd.video.pixels import to_frames
from gnvc_vd.video.scenes import scenes

if TYPE_CHECKING:
    from gnvc_vd.learned.refine.refiner import Refiner

NOISE_KEY = 0x474E5643  # second half of the noise generator's key; the first is the stream's seed
DEFAULT_QUALITY = 32
NO_REFINER = "was trained without a refiner: its streams cannot be refined, so steps must be 0"


@dataclass(frozen=True)
class EncodeOptions:
    """Encoder options.

    Args:
        bpp: target bits per pixel; search for the quality with the nearest rate, ignoring `quality`.
        target_kbps: maximum kbit/s; search for the highest quality within it. `target_size`: likewise, in bytes.
        rotation: latents per rotation (temporal DCT) of a transform codec, 1 to 9; default: the fewest rotations.
        canvas: compensate camera pans in GOPs where it saves bits ("auto"), or in none ("off").
        refinement: refinement settings written to the stream; None: the model's.
    """

    quality: int = DEFAULT_QUALITY
    bpp: float | None = None
    target_kbps: float | None = None
    target_size: int | None = None
    gop: int = gops.DEFAULT_WINDOW
    scenecut: bool = True
    policy: Policy = "constant"
    rotation: int | None = None
    canvas: Literal["auto", "off"] = "auto"
    refinement: Refinement | None = None

    def __post_init__(self) -> None:
        gops.check_gop(self.gop)
        require(self.canvas in ("auto", "off"), f"a canvas is auto or off, not {self.canvas!r}")
        require(0 <= self.quality < QUALITIES, f"quality is 0 to {QUALITIES - 1}, not {self.quality}")
        several = sum(rate is not None for rate in self._rates()) > 1
        require(not several, "give only one of a rate in bits per pixel, a rate in kbit/s and a size")

    @property
    def searches(self) -> bool:
        """Whether a rate or size is the target, not a quality."""
        return any(rate is not None for rate in self._rates())

    def target_bytes(self, info: VideoInfo, frames: int) -> float | None:
        """Target size of the whole file in bytes, rounded to a thousandth so that float error costs no byte."""
        if self.bpp is not None:
            return round(self.bpp * info.width * info.height * frames / 8, 3)
        if self.target_kbps is not None:
            return round(self.target_kbps * 1000 * frames / float(info.rate) / 8, 3)
        return self.target_size

    def _rates(self) -> tuple[float | None, ...]:
        return self.bpp, self.target_kbps, self.target_size


class Gop(NamedTuple):
    """A GOP's latents before quantisation, and its canvas if it has one."""

    frames: int
    latents: Tensor  # 1 16 T h w
    canvas: Canvas | None


@dataclass(eq=False, repr=False)
class GnvcVd:
    """The whole codec: encodes and decodes in one call, or unit by unit.

    Args:
        name: the model's name in error messages.
        shown_identity: hash of the float weights, written to its streams (`shown_identity_of`).
        load_refiner: called at the first refinement; encoding never needs it.
        note: a warning for users, e.g. nano's that its pictures mean nothing.
        refinement: refinement settings written to its streams, unless `EncodeOptions.refinement` is set.
    """

    name: str
    backbone: Backbone
    bottleneck: Bottleneck
    shown_identity: bytes
    load_refiner: Callable[[], "Refiner"]
    note: str = ""
    refinement: Refinement = field(default_factory=Refinement)
    late_seconds = 0.0  # time spent loading the refiner, which does not count as coding

    def __post_init__(self) -> None:
        self.coded_identity = coded_identity(self.bottleneck.eval())

    @cached_property
    def refiner(self) -> "Refiner":
        begun = time.perf_counter()
        with torch.inference_mode(False):  # normal tensors, so that it also works outside inference mode
            loaded = self.load_refiner().eval().to(self.device)
        self.late_seconds = time.perf_counter() - begun
        return loaded

    @property
    def refines(self) -> bool:
        """Whether it has a trained refiner, so that refinement steps can be set."""
        return self.refinement.steps > 0

    @property
    def device(self) -> torch.device:
        return self.bottleneck.table_frequencies.device

    def to(self, device: torch.device | str) -> "GnvcVd":
        self.backbone.to(device)
        self.bottleneck.to(device)
        if "refiner" in vars(self):
            self.refiner.to(device)
        return self

    def header(self, info: VideoInfo, settings: EncodeOptions) -> Header:
        refinement, size = settings.refinement or self.refinement, (info.width, info.height)
        require(self.refines or not refinement.steps, f"{self.name} {NO_REFINER}")
        identities = self.coded_identity, self.shown_identity
        return Header(CodecId.GNVC_VD, *identities, *size, info.rate, info.colour, refinement.pack())

    def encode(self, video: Video, settings: EncodeOptions | None = None, **options: Any) -> bytes:
        """Encode a video to a whole stream; options are fields of `EncodeOptions`."""
        settings = replace(settings or EncodeOptions(), **options)
        return pack_stream(self.header(video.info, settings), self.encode_units(video, settings, video.info))

    def encode_units(
        self,
        frames: Iterable[Frame],
        settings: EncodeOptions,
        info: VideoInfo | None = None,
        on_trial: Callable[[int, float], object] = lambda quality, bpp: None,
        notify: Callable[[str], object] = lambda sentence: None,
    ) -> Iterator[Unit]:
        """Encode unit by unit as frames arrive; with a target rate, all units come after the last frame.

        The rate search keeps the whole clip's latents in memory: about 0.3 bytes per pixel at the default GOP.

        Args:
            info: of the video, to count the file's bytes besides its units; needed only for a target rate or size.
            on_trial: called with each quality that the rate search has tried (seven at most) and its bits per pixel.
            notify: called with a message if the target is out of reach.
        """
        # Two latents suffice to show whether the policy varies the quality within a GOP.
        levels = qualities(settings.quality, 2, settings.policy)
        reason = self.bottleneck.unsupported_reason(levels, settings.rotation or self.bottleneck.usual_rotation(2))
        if reason:
            raise UsageError(reason)
        clip: Iterable[Gop] = self.latents(frames, settings)

        def coded(quality: int) -> Iterator[Unit]:
            for index, gop in enumerate(clip):
                yield self.encode_gop(index, gop, quality, settings)

        if not settings.searches:
            yield from coded(settings.quality)
            return
        if info is None:
            raise UsageError("a target rate or size counts the whole file, so `info` is needed")
        clip = list(clip)
        total = settings.target_bytes(info, sum(gop.frames for gop in clip))
        wanted = TargetSize(total or 0, is_limit=settings.bpp is None)
        yield from search(lambda quality: list(coded(quality)), self.header(info, settings), wanted, on_trial, notify)

    def latents(self, frames: Iterable[Frame], settings: EncodeOptions) -> Iterator[Gop]:
        """Cut frames into GOPs and encode each to latents, on a canvas if it has one."""
        for scene in scenes(frames) if settings.scenecut else iter([iter(frames)]):
            for gop in gops.split_gops(scene, settings.gop):
                pictures = np.stack(gop)
                canvas, placed = stabilise(pictures) if settings.canvas == "auto" else (None, pictures)
                latents = latents_of_frames(self.backbone.vae, gops.pad(placed), self.device)
                yield Gop(len(gop), latents, canvas)

    def encode_gop(self, index: int, gop: Gop, quality: int, settings: EncodeOptions | None = None) -> Unit:
        settings = settings or EncodeOptions()
        levels = qualities(quality, gop.latents.shape[2], settings.policy)
        unit = self.encode_levels(index, gop, quality, levels, settings)
        return replace(unit, policy=POLICIES.index(settings.policy))

    def encode_levels(self, index: int, gop: Gop, quality: int, levels: Sequence[int], settings: EncodeOptions) -> Unit:
        """Encode a GOP with a quality for each of its latents; the unit states no policy."""
        refinement = settings.refinement or self.refinement
        taken = settings.rotation or self.bottleneck.usual_rotation(len(levels))
        (coded,), decoded = self.bottleneck.compress(gop.latents, levels, taken)
        payload = coded.data if gop.canvas is None else gop.canvas.pack() + coded.data
        has_canvas = gop.canvas is not None
        sigma_0 = None
        if refinement.steps and refinement.sigma_ratio is not None:
            error = torch.stack([one.latent for one in decoded], dim=2) - gop.latents
            sigma_0 = flow.sigma_0_for(error, refinement.sigma_ratio).item()
        return Unit(index, gop.frames, quality, 0, coded.symbol_hash, payload, taken, sigma_0, canvas=has_canvas)

    def decode(
        self, stream: bytes | BinaryIO, decoding: DecodeOptions | None = None, **options: Any
    ) -> Iterator[Frame]:
        """Decode to frames T H W 3, part by part; `options` are fields of `DecodeOptions`, such as steps=5."""
        return decode_stream(stream, self.decoder, decoding, **options)

    def decoder(self, header: Header, decoding: DecodeOptions | None = None, pictures: bool = True) -> "GnvcVdDecoder":
        """A decoder for a stream with this header.

        Args:
            pictures: False to verify symbols only, which works with any float weights.
        """
        decoding = decoding or DecodeOptions()
        require(self.refines or not (decoding.steps or decoding.apart), f"{self.name} {NO_REFINER}")
        refinement = self.check(header, decoding.allow_other_weights or not pictures)
        if pictures and decoding.refine and refinement.steps and not self.refines:
            message = f"the header asks for {refinement.steps} steps of refinement"
            raise BitstreamError(f"{message}, and {self.name} was trained without a refiner (give --no-refine)")
        return GnvcVdDecoder(self, header, decoding, refinement)

    def check(self, header: Header, allow_other_weights: bool = False) -> Refinement:
        """Refuse streams that this model would decode wrongly; returns the stream's refinement settings."""
        if header.codec is not CodecId.GNVC_VD:
            raise BitstreamError(f"this is a stream of {header.codec.name}, but the codec is {CodecId.GNVC_VD.name}")
        if header.coded_identity != self.coded_identity:
            raise BitstreamError(
                f"coded with model {header.coded_identity.hex()}; {self.name} is {self.coded_identity.hex()}"
                f"{model_hint(header)}"
            )
        if not allow_other_weights:
            check_weights(header, self.shown_identity, self.name)
        return Refinement.parse(header.parameters)


class GnvcVdDecoder:
    """Decodes a stream's units to frames."""

    def __init__(self, codec: GnvcVd, header: Header, decoding: DecodeOptions, refinement: Refinement) -> None:
        self._codec, self._header, self._decoding, self._refinement = codec, header, decoding, refinement
        self._tile = codec.refinement.tile if decoding.tile is None else decoding.tile or None
        check_tile(self._tile)
        self.drifts: dict[int, float] = {}  # by GOP, distance of latents from the encoder's: GVC only, empty here
        self.refined: dict[int, int | None] = {}  # by refined GOP, the size of its tiles, if it took any

    @property
    def decodes_ahead(self) -> bool:
        return self._codec.device.type == "cpu" and not self._codec.backbone.vae.compiled

    def symbols(self, unit: Unit) -> Iterator[DecodedLatent]:
        """Decode a unit's latents; its symbol hash is checked after the last."""
        return self._parse_unit(unit)[1]

    def _parse_unit(self, unit: Unit) -> tuple[Canvas | None, Iterator[DecodedLatent]]:
        """A unit's canvas, if it has one, and its latents, decoded one by one."""
        levels = self._levels(unit)
        size, canvas, symbols = (self._header.height, self._header.width), None, unit.payload
        if unit.canvas:
            canvas, length = Canvas.parse(unit.payload, unit.frames, *size)
            size, symbols = canvas.size, unit.payload[length:]
            limit = self._decoding.max_pixels
            within = size[0] * size[1] <= limit
            require(within, f"a canvas of {size[1]}×{size[0]} is above the limit of {limit} pixels", BitstreamError)
        width, height = gops.latent_size(size[1], size[0])
        sent = [symbols], [unit.symbol_hash]
        return canvas, self._codec.bottleneck.decompress(*sent, (height, width), levels, unit.rotation)

    def _levels(self, unit: Unit) -> list[int]:
        """The quality of each of a unit's latents."""
        if unit.policy >= len(POLICIES):
            raise BitstreamError(f"GOP {unit.index} has policy {unit.policy}, which this program does not know")
        return qualities(unit.quality, gops.latents_of(unit.frames), POLICIES[unit.policy])

    def verify(self, unit: Unit) -> None:
        """Decode all symbols, which checks their hash."""
        for _ in self.symbols(unit):
            pass

    def skip(self, unit: Unit) -> None:
        """Do nothing: GOPs are independent."""

    def frames(self, unit: Unit) -> Iterator[Frame]:
        """Decode a GOP's frames, latent by latent."""
        return self._frames(unit, *self._parse_unit(unit))

    def prepare(self, unit: Unit) -> Callable[[], list[Frame]]:
        """Decode a GOP's symbols; its frames are left to what is returned, which any thread may call."""
        canvas, decoded_latents = self._parse_unit(unit)
        latents = list(decoded_latents)
        if self._steps(unit):
            self._codec.refiner  # noqa: B018 - loaded by this thread, once
        return lambda: list(self._frames(unit, canvas, iter(latents)))

    def _frames(self, unit: Unit, canvas: Canvas | None, decoded_latents: Iterator[DecodedLatent]) -> Iterator[Frame]:
        count = gops.latents_of(unit.frames)
        if self._steps(unit):
            size = (self._header.height, self._header.width) if canvas is None else canvas.size
            self.refined[unit.index] = self._tile if self._tile and max(size) > self._tile else None
        held: list[DecodedLatent] = []  # the last latent of the previous window, then this window's latents
        refined: Tensor | None = None
        state: State | None = None
        for number, window in enumerate(gops.windows(count, self._refinement.window)):
            held = held[-1:] + [next(decoded_latents) for _ in range(window.stop - window.start)]
            if window.stop == count:
                next(decoded_latents, None)  # checks the symbol hash, before the last frames are yielded
            latents = torch.stack([one.latent for one in held], dim=2)
            features = torch.stack([one.feature for one in held], dim=2)
            with torch.inference_mode():
                context = None if refined is None else refined[:, :, -1:]
                refined = self._refine(latents, features, context, unit, number)
            for index, latent in enumerate(refined.split(1, dim=2), start=window.start):
                with torch.inference_mode():
                    part, state = self._codec.backbone.vae.decode_step(state, latent)
                    frames = to_frames(part[0])
                start, stop = gops.frame_span(index, index + 1)
                length = min(stop, unit.frames) - start
                if canvas is None:
                    yield gops.crop(frames, length, self._header.width, self._header.height)
                else:
                    yield canvas.crop_frames(gops.crop(frames, length, canvas.size[1], canvas.size[0]), start)

    def _refine(self, latents: Tensor, features: Tensor, context: Tensor | None, unit: Unit, window: int) -> Tensor:
        refinement, steps = self._refinement, self._steps(unit)
        if not steps:
            return latents if context is None else latents[:, :, 1:]
        place, sigma_0 = (unit.index, window, 0), unit.sigma_0 or refinement.sigma_0
        noise = refinement.noise_scale * normal(latents.shape, (refinement.seed, NOISE_KEY), place, latents.device)
        if self._decoding.apart:
            alone = [
                split_latents(given if context is None else given[:, :, 1:]) for given in (latents, features, noise)
            ]
            refined: Tensor = self._codec.refiner(*alone, sigma_0, steps, tile=self._tile)
            return rearrange(refined, "(b t) c 1 h w -> b c t h w", b=len(latents))
        out: Tensor = self._codec.refiner(latents, features, noise, sigma_0, steps, context, self._tile)
        return out

    def _steps(self, unit: Unit) -> int:
        """Refinement steps: the decoder's if set; else the stream's, or 0 above the model's highest refined quality."""
        if not self._decoding.refine:
            return 0
        if self._decoding.steps is not None:
            return self._decoding.steps
        return self._refinement.steps if unit.quality <= self._codec.refinement.highest_quality else 0


def shown_identity_of(backbone: Backbone, bottleneck: Bottleneck, adaptor: Mapping[str, Tensor]) -> bytes:
    """Hash of all float weights that decoded frames depend on."""
    digest = hashlib.sha256(backbone.identity)
    for state in (stored_tensors(bottleneck), adaptor):
        for name, value in sorted(state.items()):
            if value.is_floating_point():
                digest.update(name.encode())
                digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.digest()[:4]


def split_latents(window: Tensor) -> Tensor:
    """Split a window into windows of one latent each, along the batch."""
    return rearrange(window, "b c t h w -> (b t) c 1 h w")
