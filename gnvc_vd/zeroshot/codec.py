"""The GVC codec: encodes frames to the units of a .gnvc stream, and decodes them. Nothing is trained for it.

frames ─scenes, GOPs─▶ VAE ─▶ x_0 ─▶ trajectory, choosing atoms ─▶ unit …
unit … ─▶ the same trajectory, atoms given ─▶ latents ─▶ VAE ─▶ frames
                  ▲ given frames: coded stills, or a frame of the GOP before (modes.py)
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from gnvc_vd.backbone.encoders import CLIP_TOKENS, NoTextEncoderError
from gnvc_vd.backbone.streaming import VideoVae, frames_of_latents, latents_of_frames
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.bitstream import BitstreamError, CodecId, Header, Unit, pack_stream
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.bitstream.playback import DecodeOptions, check_weights, decode_stream
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import LATENT_CHANNELS, QUALITIES, Frame, UsageError
from gnvc_vd.video import Video, VideoInfo
from gnvc_vd.video.scenes import scenes
from gnvc_vd.zeroshot import tail
from gnvc_vd.zeroshot.encoding import BESIDE, GvcEncodeOptions, largest, quality_of
from gnvc_vd.zeroshot.modes import Chain, GopCondition
from gnvc_vd.zeroshot.parameters import Parameters, StillName
from gnvc_vd.zeroshot.payload import Content, pack, symbol_hash
from gnvc_vd.zeroshot.sde import Velocity
from gnvc_vd.zeroshot.stills import Av1, StillCodec
from gnvc_vd.zeroshot.trajectory import Gop, drift, sketch

STILL_NEEDS: dict[StillName, str] = {
    "av1": "decode it without --still-weights",
    "factorized": "give the file of their weights with --still-weights",
}
HEADER_AND_END = 45  # bytes
BPP_TOLERANCE = 0.05  # relative error; a target rate missed by more is reported as out of reach
ARITHMETIC = b"GVC 1: affine codes of Philox words, halving ranks, geometric tails"


class Gvc:
    """The zero-shot codec.

    Args:
        prior: a pretrained video model.
        stills: codec of the given frames; None: AV1.
    """

    late_seconds = 0.0  # always 0: the transformer is loaded at the first step, and that counts as coding time

    def __init__(self, prior: Backbone, stills: StillCodec | None = None) -> None:
        self.prior, self.stills = prior, stills or Av1()
        self.name, self.note = prior.name, prior.note
        # Keeps one embedding, as the next GOP mostly has the same caption.
        self.embed = lru_cache(maxsize=1)(lambda caption: prior.embed(caption))
        self.coded_identity = hashlib.blake2b(ARITHMETIC, digest_size=8).digest()
        self.shown_identity = hashlib.sha256(prior.identity + self.stills.identity).digest()[:4]

    @property
    def device(self) -> torch.device:
        return self.prior.vae.mean.device

    def to(self, device: torch.device | str) -> "Gvc":
        self.prior.to(device)
        return self

    def header(self, info: VideoInfo, settings: GvcEncodeOptions) -> Header:
        self._check_mode(settings.parameters)
        if settings.parameters.still != self.stills.name:
            raise UsageError(f"stills of {settings.parameters.still} are asked for; the codec has {self.stills.name}")
        identities, packed = (self.coded_identity, self.shown_identity), settings.parameters.pack()
        return Header(CodecId.GVC, *identities, info.width, info.height, info.rate, info.colour, packed)

    def encode(self, video: Video, settings: GvcEncodeOptions | None = None, **options: Any) -> bytes:
        """Encode a video to a whole stream; options are fields of `GvcEncodeOptions`."""
        settings = replace(settings or GvcEncodeOptions(), **options)
        return pack_stream(self.header(video.info, settings), self.encode_units(video, settings))

    def encode_units(
        self,
        frames: Iterable[Frame],
        settings: GvcEncodeOptions,
        info: VideoInfo | None = None,
        on_trial: object = None,
        notify: Callable[[str], object] = lambda sentence: None,
    ) -> Iterator[Unit]:
        """Encode unit by unit as frames arrive; each GOP gets its share of a target rate, so there is no rate search.

        Args:
            notify: called with a message if the target is out of reach.
        """
        self._check_mode(settings.parameters)
        encoder, taken, pixels = _Encoder(self, settings), HEADER_AND_END, 0
        for scene in scenes(frames) if settings.scenecut else iter([iter(frames)]):
            for number, gop in enumerate(gops.split_gops(scene, settings.gop, settings.parameters.shared)):
                unit = encoder.encode_gop(np.stack(gop), fresh=number == 0)
                taken, pixels = taken + unit.size, pixels + unit.frames * gop[0][..., 0].size
                yield unit
        rate = 8 * taken / max(pixels, 1)
        if settings.bpp is not None and abs(rate / settings.bpp - 1) > BPP_TOLERANCE:
            notify(f"the {'highest' if rate < settings.bpp else 'lowest'} rate for this video is about {rate:.4g} bpp")

    def decode(
        self, stream: bytes | BinaryIO, decoding: DecodeOptions | None = None, **options: Any
    ) -> Iterator[Frame]:
        """Decode to frames T H W 3, GOP by GOP; options are fields of `DecodeOptions`."""
        return decode_stream(stream, self.decoder, decoding, **options)

    def decoder(self, header: Header, decoding: DecodeOptions | None = None, pictures: bool = True) -> "GvcDecoder":
        """A decoder for a stream with this header.

        Args:
            pictures: False to verify only; symbols are always checked, and GOPs replayed if this model encoded them.
        """
        decoding = decoding or DecodeOptions()
        if decoding.steps is not None or decoding.apart or not decoding.refine:
            raise UsageError("only a GNVC-VD decoder can set steps or refinement; a GVC stream fixes its own steps")
        if header.codec is not CodecId.GVC:
            raise BitstreamError(f"this is a stream of {header.codec.name}, but the codec is {CodecId.GVC.name}")
        if header.coded_identity != self.coded_identity:
            raise BitstreamError("this GVC stream was coded by another version of GVC")
        parameters = Parameters.parse(header.parameters)
        self._check_mode(parameters, pictures)
        if pictures and parameters.chained and parameters.still != self.stills.name:
            needs = STILL_NEEDS[parameters.still]
            raise BitstreamError(f"the stream's given frames are stills of {parameters.still!r}: {needs}")
        if pictures and not decoding.allow_other_weights:
            codec_name = f"{self.name} with these still weights" if self.stills.identity else self.name
            check_weights(header, self.shown_identity, codec_name)
        return GvcDecoder(self, header, parameters)

    def velocity(self, given: GopCondition, latents: int) -> Velocity:
        """The prior's velocity, conditioned on a GOP's caption and given frames."""
        condition = given.condition(self.prior, latents)
        text = self.embed(given.caption) if given.caption else None
        return lambda x, sigma: self.prior.dit.velocity(x, sigma, condition, text=text)

    def _check_mode(self, parameters: Parameters, pictures: bool = True) -> None:
        preset = self.prior.dit_preset
        if parameters.chained and not preset.condition_channels:
            raise UsageError(f"mode {parameters.mode} conditions the model on frames, and {self.name} takes none")
        if parameters.chained and preset.image_dim is not None:
            given, taken = parameters.given, (preset.image_tokens or CLIP_TOKENS) // CLIP_TOKENS
            require(given == taken, f"mode {parameters.mode} gives the model {given} frames; {self.name} takes {taken}")
            # Loaded now, so that a missing one is reported before any work.
            _ = pictures and self.prior.image_encoder


class _Encoder:
    """Encodes GOPs in order; keeps the frame that one passes on to the next, and the bytes left of a target rate."""

    def __init__(self, codec: Gvc, encoding: GvcEncodeOptions) -> None:
        self._codec, self._encoding, self._parameters = codec, encoding, encoding.parameters
        self._chain = Chain()
        self._index = 0
        # Bytes that the target rate allows for the GOPs so far, minus those used.
        self._credit = -float(HEADER_AND_END)

    def encode_gop(self, frames: Frame, fresh: bool) -> Unit:
        codec, encoding, parameters = self._codec, self._encoding, self._parameters
        height, width = frames.shape[1:3]
        padded, latents = gops.pad(frames), gops.latents_of(len(frames))
        count = len(frames) - (0 if fresh else parameters.shared)
        budget = self._credit + (encoding.bpp or 0.0) * (count * height * width) / 8
        room = budget - len(encoding.caption.encode()) - BESIDE
        coded, given = self._stills(padded, fresh, room)
        atoms = encoding.fixed_atoms
        if atoms is None:
            room -= sum(map(len, coded.values()))
            atoms = encoding.largest_within(room, latents, parameters.withheld)
        allotment = encoding.allotment(atoms)
        counts = allotment.counts(latents, parameters.withheld)
        with torch.inference_mode():
            target = latents_of_frames(codec.prior.vae, padded, codec.device)
            velocity = codec.velocity(GopCondition(**given, caption=encoding.caption), latents)
            sampled = Gop(parameters, self._index, target.shape, counts, codec.device).encode(velocity, target)
        residual, reached, is_i2v = None, sampled.latents, parameters.mode == "i2v"
        if is_i2v and encoding.tail_step is not None:
            residual = tail.encode((target - reached)[0, :, -1], encoding.tail_step)
            reached = with_residual(reached, residual)
        content = Content(
            allotment, sampled.sets, sketch(sampled.latents), encoding.caption, **coded, residual=residual
        )
        payload = pack(content, parameters.codebook)
        unit = Unit(self._index, count, quality_of(atoms), 0, symbol_hash(content), payload)
        passed_on = last_frame(codec.prior.vae, reached, len(frames)) if is_i2v else given.get("last")
        self._chain = Chain(self._index, passed_on)
        self._index, self._credit = self._index + 1, budget - unit.size
        return unit

    def _stills(self, padded: Frame, fresh: bool, room: float) -> tuple[dict[str, bytes], dict[str, Frame]]:
        """This unit's coded stills, and all its given frames as decoded; the keys are "first" and "last"."""
        stills, (height, width) = self._codec.stills, padded.shape[1:3]
        wanted: dict[str, Frame] = {"first": padded[0]} if fresh and self._parameters.chained else {}
        if self._parameters.mode == "flf2v":
            wanted["last"] = padded[-1]
        quality = self._still_quality(list(wanted.values()), len(padded), room)
        coded = {place: stills.encode(frame, quality) for place, frame in wanted.items()}
        given = {place: stills.decode(still, width, height) for place, still in coded.items()}
        if self._parameters.chained and not fresh:
            given["first"] = self._chain.first_frame(self._index)
        return coded, given

    def _still_quality(self, frames: list[Frame], count: int, room: float) -> int:
        """The stills' quality: as set, else that of the fixed number of atoms.

        With a target rate, it is the highest that leaves bytes for atoms of at least the same quality.
        """
        if not (frames and self._codec.stills.adjustable):
            return 0
        if self._encoding.still_quality is not None:
            return self._encoding.still_quality
        if self._encoding.fixed_atoms is not None:
            return quality_of(self._encoding.fixed_atoms)

        def leaves_as_much(quality: int) -> bool:
            stills = sum(len(self._codec.stills.encode(one, quality)) for one in frames)
            atoms = self._encoding.largest_within(room - stills, gops.latents_of(count), ())
            return quality_of(atoms) >= quality

        return largest(0, QUALITIES - 1, leaves_as_much)


class GvcDecoder:
    """Decodes a stream's units to frames, in order; keeps the frame that one GOP passes on to the next."""

    def __init__(self, codec: Gvc, header: Header, parameters: Parameters) -> None:
        self._codec, self._header, self._parameters = codec, header, parameters
        self._chain = Chain()
        self._padded = gops.padded_size(header.width, header.height)
        self._replays = header.shown_identity == codec.shown_identity
        # By GOP: estimated RMS difference of its replayed latents from the encoder's.
        self.drifts: dict[int, float] = {}
        self.refined: dict[int, int | None] = {}

    def symbols(self, unit: Unit) -> Content:
        """A unit's content, checked against its hash."""
        return self._parameters.open(unit)

    def verify(self, unit: Unit) -> None:
        """Decode all symbols, which checks their hash; also replay the GOP if this model encoded it."""
        self.symbols(unit)
        try:
            if self._replays:
                for _ in self.frames(unit):  # decoded to the end, as the next GOP may begin with the last frame
                    pass
        except NoTextEncoderError:
            self._replays = False

    def frames(self, unit: Unit) -> Iterator[Frame]:
        return self.decode_frames(unit, *self.replay(unit))

    def replay(self, unit: Unit) -> tuple[Tensor, int]:
        """A unit's latents, and how many of their first frames the GOP before has already shown."""
        codec, parameters, before = self._codec, self._parameters, self._chain
        content = self.symbols(unit)
        last = self._still(content.last)
        if parameters.mode == "flf2v":
            self._chain = Chain(unit.index, last)  # set before sampling, as the next GOP needs only this still
        first = self._still(content.first)
        if first is None and parameters.chained:
            first = before.first_frame(unit.index)
        columns, rows = gops.latent_size(*self._padded)
        shape = (1, LATENT_CHANNELS, len(content.counts), rows, columns)
        with torch.inference_mode():
            velocity = codec.velocity(GopCondition(first, last, content.caption), len(content.counts))
            gop = Gop(parameters, unit.index, shape, content.counts, codec.device)
            latents = gop.decode(velocity, content.sets)
        self.drifts[unit.index] = drift(content.sketch, latents)
        if content.residual is not None:
            latents = with_residual(latents, content.residual)
        return latents, parameters.repeated_frames(content.first)

    def decode_frames(self, unit: Unit, latents: Tensor, repeated: int) -> Iterator[Frame]:
        """A replayed unit's frames, without those that the GOP before has shown."""
        # place: index of the part's first frame in the unit; negative if the GOP before has shown it
        place, wanted = -repeated, unit.frames
        for part in frames_of_latents(self._codec.prior.vae, latents):
            frames = part[max(0, -place) : max(0, wanted - place)]
            if self._parameters.mode == "i2v" and place + len(part) >= wanted > place:
                self._chain = Chain(unit.index, part[wanted - 1 - place])
            place += len(part)
            if len(frames):
                yield gops.crop(frames, len(frames), self._header.width, self._header.height)

    def skip(self, unit: Unit) -> None:
        """Decode only what later units need of a unit that is not shown."""
        if self._parameters.mode == "i2v":
            for _ in self.frames(unit):
                pass
        elif self._parameters.mode == "flf2v":
            self._chain = Chain(unit.index, self._still(self.symbols(unit).last))

    def _still(self, coded: bytes | None) -> Frame | None:
        return None if coded is None else self._codec.stills.decode(coded, *self._padded)


def with_residual(latents: Tensor, coded: bytes) -> Tensor:
    """Latents with the coded residual added to the last one."""
    _, error = tail.decode(coded, *latents.shape[3:])
    return torch.cat([latents[:, :, :-1], latents[:, :, -1:] + error.to(latents.device)[None, :, None]], dim=2)


def last_frame(vae: VideoVae, latents: Tensor, count: int) -> Frame:
    """The last of a GOP's `count` frames, decoded and still padded."""
    frames = (frame for part in frames_of_latents(vae, latents) for frame in part)
    return next(islice(frames, count - 1, None))
