"""GVC assembled: frames to units of a .gnvc stream, and back. No part of it is trained.

frames ─scenes, GOPs─▶ VAE ─▶ x_0 ─▶ trajectory, choosing atoms ─▶ unit …
unit … ─▶ the same trajectory, atoms given ─▶ latents ─▶ VAE ─▶ frames
                  ▲ stills, or the GOP before (modes.py)
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.image_condition import VelocityModel
from gnvc_vd.backbone.streaming import VideoVae, frames_of_latents, latents_of_frames
from gnvc_vd.backbone.weights import NoTextEncoderError
from gnvc_vd.bitstream import BitstreamError, CodecId, Header, Unit, whole_stream
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.bitstream.playback import Decoding, decoded
from gnvc_vd.conventions import LATENT_CHANNELS, Frame, UsageError
from gnvc_vd.presets import DitPreset
from gnvc_vd.video import Video, VideoInfo
from gnvc_vd.video.scenes import scenes
from gnvc_vd.zeroshot import tail
from gnvc_vd.zeroshot.encoding import BESIDE, GvcEncoding, quality_of
from gnvc_vd.zeroshot.modes import Chain, Conditioning
from gnvc_vd.zeroshot.parameters import Opened, Parameters, StillName
from gnvc_vd.zeroshot.payload import Content, pack, symbol_hash
from gnvc_vd.zeroshot.sde import Velocity
from gnvc_vd.zeroshot.stills import Av1, StillCodec
from gnvc_vd.zeroshot.trajectory import Gop, drift, sketch

STILL_NEEDS: dict[StillName, str] = {
    "av1": "they need no still weights",
    "factorized": "--still-weights names the file of weights that they need",
}
ARITHMETIC = b"GVC 1: affine codes of Philox words, halving ranks, geometric tails"


class Prior(Protocol):
    """A pretrained video model: what `load_backbone` gives, or anything that does the same."""

    @property
    def name(self) -> str: ...
    @property
    def note(self) -> str: ...
    @property
    def identity(self) -> bytes: ...
    @property
    def vae(self) -> VideoVae: ...
    @property
    def dit(self) -> VelocityModel: ...
    @property
    def dit_preset(self) -> DitPreset: ...
    def embed(self, prompt: str) -> Tensor: ...
    def to(self, device: torch.device | str) -> object: ...


@dataclass(frozen=True)
class Replayed:
    """A GOP at the decoder: what both ends hold, and how far it is from what the encoder had."""

    latents: Tensor  # 1 16 T h w, with the tail's residual
    drift: float
    repeated: int  # frames at its beginning that the GOP before has shown


class Gvc:
    """The zero-shot codec on a prior.

    Args:
        stills: what codes given frames.
    """

    def __init__(self, prior: Prior, stills: StillCodec | None = None) -> None:
        self.prior, self.stills = prior, stills or Av1()
        self.name, self.note = prior.name, prior.note
        self._told: tuple[str, Tensor] | None = None
        self.coded_identity = hashlib.blake2b(ARITHMETIC, digest_size=8).digest()
        self.shown_identity = hashlib.sha256(prior.identity + self.stills.identity).digest()[:4]

    @property
    def device(self) -> torch.device:
        return self.prior.vae.mean.device

    def to(self, device: torch.device | str) -> "Gvc":
        self.prior.to(device)
        return self

    def header(self, info: VideoInfo, settings: GvcEncoding) -> Header:
        self._check_mode(settings.parameters)
        if settings.parameters.still != self.stills.name:
            raise UsageError(f"stills of {settings.parameters.still} are asked for, and here is {self.stills.name}")
        identities, packed = (self.coded_identity, self.shown_identity), settings.parameters.pack()
        return Header(CodecId.GVC, *identities, info.width, info.height, info.rate, info.colour, packed)

    def encode(self, video: Video, settings: GvcEncoding | None = None, **options: Any) -> bytes:
        """A whole stream; options are fields of `GvcEncoding`."""
        settings = replace(settings or GvcEncoding(), **options)
        return whole_stream(self.header(video.info, settings), self.encode_units(video, settings))

    def encode_units(
        self, frames: Iterable[Frame], settings: GvcEncoding, info: VideoInfo | None = None, on_trial: object = None
    ) -> Iterator[Unit]:
        """Unit by unit, as the frames come; each GOP takes its share of a rate, so nothing is tried."""
        self._check_mode(settings.parameters)
        encoder, index = _Encoder(self, settings), 0
        for scene in scenes(frames) if settings.scenecut else iter([iter(frames)]):
            shared = settings.parameters.shared
            for number, gop in enumerate(gops.cut(scene, settings.gop, shared=shared)):
                yield encoder.unit(index, np.stack(gop), fresh=number == 0)
                index += 1

    def decode(self, stream: bytes | BinaryIO, decoding: Decoding | None = None, **options: Any) -> Iterator[Frame]:
        """Frames T H W 3, GOP by GOP; options are fields of `Decoding`."""
        return decoded(stream, self.decoder, decoding, **options)

    def decoder(self, header: Header, decoding: Decoding | None = None, pictures: bool = True) -> "GvcDecoder":
        """For a stream with this header.

        Args:
            pictures: whether any are wanted; without, units are verified as far as the model is here.
        """
        decoding = decoding or Decoding()
        if decoding.steps is not None or decoding.apart or not decoding.refine:
            raise UsageError("steps and refinement are a GNVC-VD decoder's to choose; a GVC stream fixes its own steps")
        parameters = self.check(header, decoding.allow_other_weights or not pictures)
        if pictures:
            self._check_stills(parameters)
        return GvcDecoder(self, header, parameters)

    def check(self, header: Header, allow_other_weights: bool = False) -> Parameters:
        """Refuse streams that this model would read wrongly."""
        if header.codec is not CodecId.GVC:
            raise BitstreamError(f"a stream of {header.codec.name}; this is {CodecId.GVC.name}")
        if header.coded_identity != self.coded_identity:
            raise BitstreamError("a GVC stream of another version of the method")
        parameters = Parameters.parse(header.parameters)
        self._check_mode(parameters)
        if header.shown_identity != self.shown_identity and not allow_other_weights:
            self._check_stills(parameters)
            own = f"{self.name} with these still weights" if self.stills.identity else self.name
            raise BitstreamError(
                f"coded with weights {header.shown_identity.hex()}; {own} has {self.shown_identity.hex()} and "
                "would show wrong pictures (--allow-other-weights shows them)"
            )
        return parameters

    def velocity(self, conditioning: Conditioning, latents: int) -> Velocity:
        """The prior's, under what a GOP is given."""
        condition = conditioning.condition(self.prior.vae, latents, self.device)
        text = self._embedded(conditioning.caption)
        return lambda x, sigma: self.prior.dit.velocity(x, sigma, condition, text=text)

    def shape(self, width: int, height: int, latents: int) -> tuple[int, ...]:
        columns, rows = gops.latent_size(width, height)
        return (1, LATENT_CHANNELS, latents, rows, columns)

    def _embedded(self, caption: str) -> Tensor | None:
        """Kept for the next GOP, which mostly has the same one."""
        if caption and (self._told is None or self._told[0] != caption):
            self._told = (caption, self.prior.embed(caption))
        return self._told[1] if caption and self._told else None

    def _check_stills(self, parameters: Parameters) -> None:
        if parameters.chained and parameters.still != self.stills.name:
            raise BitstreamError(
                f"its given frames are stills of {parameters.still!r}: {STILL_NEEDS[parameters.still]}"
            )

    def _check_mode(self, parameters: Parameters) -> None:
        preset = self.prior.dit_preset
        if parameters.chained and not preset.condition_channels:
            raise UsageError(f"mode {parameters.mode} gives the model frames, and {self.name} takes none")
        if parameters.chained and preset.image_dim is not None:
            raise UsageError(
                f"mode {parameters.mode} of {self.name} needs CLIP's embedding of the given frames, which is not here"
            )


class _Encoder:
    """What an encoder carries from GOP to GOP."""

    def __init__(self, codec: Gvc, encoding: GvcEncoding) -> None:
        self._codec, self._encoding, self._parameters = codec, encoding, encoding.parameters
        self._chain = Chain()
        self._credit = 0.0  # bytes that the rate has promised and no unit has taken
        self._opened = False

    def unit(self, index: int, frames: Frame, fresh: bool) -> Unit:
        codec, parameters = self._codec, self._parameters
        height, width = frames.shape[1:3]
        padded = gops.pad(frames)
        repeated = 0 if fresh else parameters.shared
        latents = gops.latents_of(len(frames))
        budget, caption = self._budget((len(frames) - repeated) * height * width), self._encoding.caption
        room = budget - len(caption.encode()) - BESIDE
        first, last, stills = self._stills(index, padded, fresh, room)
        atoms = self._encoding.atoms
        if atoms is None:
            spent = sum(len(one) for one in stills if one is not None)
            atoms = self._encoding.largest_within(room - spent, latents, parameters.withheld)
        allotment = self._encoding.allotment(atoms)
        with torch.inference_mode():
            target = latents_of_frames(codec.prior.vae, padded, codec.device)
            velocity = codec.velocity(Conditioning(first, last, caption), latents)
            counts = allotment.counts(latents, parameters.withheld)
            gop = Gop(parameters, index, target.shape, counts, codec.device)
            sampled = gop.encode(velocity, target)
        residual, reached = self._residual(target, sampled.latents)
        content = Content(allotment, sampled.sets, sketch(sampled.latents), caption, *stills, residual)
        unit = Unit(
            index,
            len(frames) - repeated,
            quality_of(atoms),
            0,
            symbol_hash(content),
            pack(content, parameters.codebook),
        )
        self._credit = budget - unit.size
        if parameters.mode == "i2v":
            last = last_frame(codec.prior.vae, reached, len(frames))
        self._chain.leave(index, last)
        return unit

    def _stills(
        self, index: int, padded: Frame, fresh: bool, room: float
    ) -> tuple[Frame | None, Frame | None, tuple[bytes | None, bytes | None]]:
        """Given frames as the decoder will have them, and what of them is coded here."""
        if not self._parameters.chained:
            return None, None, (None, None)
        fresh_frame = padded[0] if fresh else None
        last_frame = padded[-1] if self._parameters.mode == "flf2v" else None
        quality = self._still_quality([one for one in (fresh_frame, last_frame) if one is not None], len(padded), room)
        coded = tuple(
            None if one is None else self._codec.stills.encode(one, quality) for one in (fresh_frame, last_frame)
        )
        height, width = padded.shape[1:3]
        shown = [None if one is None else self._codec.stills.decode(one, width, height) for one in coded]
        first = self._chain.taken(index) if shown[0] is None else shown[0]
        return first, shown[1], (coded[0], coded[1])

    def _still_quality(self, frames: list[Frame], count: int, room: float) -> int:
        """As told; else what follows from the atoms, and under a rate the level at which stills and atoms meet it."""
        if not self._codec.stills.adjustable:
            return 0
        if self._encoding.still_quality is not None:
            return self._encoding.still_quality
        if self._encoding.atoms is not None:
            return quality_of(self._encoding.atoms)
        low, high = 0, 63
        while low < high and frames:
            middle = (low + high + 1) // 2
            stills = sum(len(self._codec.stills.encode(one, middle)) for one in frames)
            buys = self._encoding.largest_within(room - stills, gops.latents_of(count), ())
            low, high = (middle, high) if quality_of(buys) >= middle else (low, middle - 1)
        return low

    def _budget(self, pixels: int) -> float:
        if self._encoding.bpp is None:
            return 0.0
        beside = 0 if self._opened else HEADER_AND_END
        self._opened = True
        return self._credit + self._encoding.bpp * pixels / 8 - beside

    def _residual(self, target: Tensor, reached: Tensor) -> tuple[bytes | None, Tensor]:
        code = self._encoding.tail_step
        if self._parameters.mode != "i2v" or code is None:
            return None, reached
        coded = tail.encode((target - reached)[0, :, -1], code)
        return coded, with_residual(reached, coded)


HEADER_AND_END = 45  # bytes


class GvcDecoder:
    """Units in order to frames; what one GOP leaves for the next stays here."""

    def __init__(self, codec: Gvc, header: Header, parameters: Parameters) -> None:
        self._codec, self._header, self._parameters = codec, header, parameters
        self._chain = Chain()
        self._padded = gops.padded_size(header.width, header.height)
        self._replays = header.shown_identity == codec.shown_identity
        self.drifts: dict[int, float] = {}  # of each GOP replayed: how far its latents are from the encoder's

    def symbols(self, unit: Unit) -> Opened:
        """A unit's content, checked against its hash."""
        return self._parameters.open(unit)

    def verify(self, unit: Unit) -> None:
        """Read every symbol, and replay the GOP where its model is here."""
        self.symbols(unit)
        try:
            if self._replays:
                for _ in self.frames(unit):  # the next GOP may begin with its last picture
                    pass
        except NoTextEncoderError:
            self._replays = False

    def frames(self, unit: Unit) -> Iterator[Frame]:
        return self.show(unit, self.replay(unit))

    def replay(self, unit: Unit) -> Replayed:
        """A unit's latents."""
        codec, parameters = self._codec, self._parameters
        found = self.symbols(unit)
        content = found.content
        last = None if content.last is None else codec.stills.decode(content.last, *self._padded)
        if parameters.mode == "flf2v":
            taken, self._chain = self._chain, Chain()
            self._chain.leave(unit.index, last)  # the next GOP needs no more of this one
        else:
            taken = self._chain
        first = None
        if content.first is not None:
            first = codec.stills.decode(content.first, *self._padded)
        elif parameters.chained:
            first = taken.taken(unit.index)
        shape = codec.shape(self._header.width, self._header.height, found.latents)
        with torch.inference_mode():
            velocity = codec.velocity(Conditioning(first, last, content.caption), found.latents)
            gop = Gop(parameters, unit.index, shape, found.counts, codec.device)
            reached = gop.decode(velocity, content.sets)
        self.drifts[unit.index] = drift(content.sketch, reached)
        if content.residual is not None:
            reached = with_residual(reached, content.residual)
        return Replayed(reached, self.drifts[unit.index], found.repeated)

    def show(self, unit: Unit, replayed: Replayed) -> Iterator[Frame]:
        """A replayed unit's frames, without those that the GOP before has shown."""
        place, wanted = -replayed.repeated, unit.frames
        for part in frames_of_latents(self._codec.prior.vae, replayed.latents):
            shown = part[max(0, -place) : max(0, wanted - place)]
            if self._parameters.mode == "i2v" and place + len(part) >= wanted > place:
                self._chain.leave(unit.index, part[wanted - 1 - place])
            place += len(part)
            if len(shown):
                yield gops.crop(shown, len(shown), self._header.width, self._header.height)

    def skip(self, unit: Unit) -> None:
        """Only what later units need of one that is not shown."""
        if self._parameters.mode == "i2v":
            for _ in self.show(unit, self.replay(unit)):
                pass
        elif self._parameters.mode == "flf2v":
            still = self.symbols(unit).content.last or b""
            self._chain.leave(unit.index, self._codec.stills.decode(still, *self._padded))


def with_residual(latents: Tensor, coded: bytes) -> Tensor:
    """The last latent with what sampling left of its error, at either end."""
    _, error = tail.decode(coded, *latents.shape[3:])
    return torch.cat([latents[:, :, :-1], latents[:, :, -1:] + error.to(latents.device)[None, :, None]], dim=2)


def last_frame(vae: VideoVae, latents: Tensor, count: int) -> Frame:
    """Frame `count` − 1 of a GOP, padded."""
    frames = (frame for part in frames_of_latents(vae, latents) for frame in part)
    return next(islice(frames, count - 1, None))
