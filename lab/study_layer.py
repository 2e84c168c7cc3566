"""A GVC layer on a GNVC-VD base: what atoms chosen from a codebook add to decoded latents, a few in each step.

python -m lab.study_layer study MODEL VIDEO… --out DIR [--qualities 6 20] [--metrics psnr_rgb,vmaf]
python -m lab.study_layer decode MODEL FILE… --out DIR [--steps L]

Of every video the first 25 frames are coded, 256×256 from the middle. A file is MODEL's stream, whose unit holds the
layer as its enhancement: `gnvc-vd decode` shows the base of it, `decode` here the layer. A layer starts at x(σ_0) from
the decoded latents and goes to σ = 0 in a few steps. At each step but the last, noise is replaced by the atoms that
match what is missing, x_1 − x̂_1 (η = 1: all of it), latent by latent. Two models steer: the refiner, which knows what
the base decoded, and the backbone's transformer alone, as in GVC. `shape` is the bound without any model: the atoms'
direction is added to the decoded latents at its best length, a byte for each latent.

An enhancement holds: the first two bytes of the base's symbol hash; the model in two bits and the steps in six; σ_0 in
1/200; the atoms of a step and latent; of `shape` the lengths, in 1/256; the atoms as in GVC's payload (docs/format.md).

`study` writes every file to DIR, decodes them in another process, and keeps the figures in DIR/rows.jsonl; files that
are there are taken as they are. Printed as Markdown, for each base quality: every layer, and what the base (refined or
not) and GVC alone have at the same rate, read off the curves of their own files.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from gnvc_vd.backbone import flow
from gnvc_vd.bitstream import BitstreamError, CodecId, Header, Unit, pack_stream
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.bitstream.layout import SIGMA_STEPS, FieldError, Fields, sigma_code, varint
from gnvc_vd.bitstream.playback import DecodeOptions, UnitDecoder
from gnvc_vd.codecs.load import load, load_gvc
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import Frame
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd, GnvcVdDecoder, Gop
from gnvc_vd.video import Video
from gnvc_vd.zeroshot.codebook import Choice, Codebook
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.combinadic import MAX_ATOMS
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
from gnvc_vd.zeroshot.payload import atom_bytes, pack_sets, read_sets
from lab.coded_files import (
    add_arguments,
    clips,
    decode_apart,
    decode_files,
    exit_code,
    info_of,
    keep,
    measured,
    write_video,
)

if TYPE_CHECKING:
    from gnvc_vd.report.curves import Row

SIZE = 1024  # atoms in a codebook
SEED = (0, 0x4C415945)
ATOMS = (4, 32)  # of a step and latent
SAMPLINGS = ((0.1, 2, 4), (0.1, 2, 32), (0.3, 5, 32))  # σ_0, steps, atoms
LEVELS = (6, 13, 20, 28, 36)  # of the base's curve
GVC_ATOMS = (1, 4, 16)  # of GVC's
TAG, LENGTH_STEPS = 2, 256

Model = Literal["shape", "refiner", "backbone"]
MODELS: tuple[Model, ...] = get_args(Model)
Sets = list[tuple[Choice, ...]]  # for each step, for each latent
Noise = Callable[[int, Tensor], Tensor]  # of a step's number and the estimate of the clean latents


@dataclass(frozen=True)
class Layer:
    """How a layer is made; `shape` takes no σ_0 and one step."""

    model: Model
    sigma_0: float
    steps: int
    atoms: int

    @property
    def name(self) -> str:
        if self.model == "shape":
            return f"shape, {self.atoms} atoms"
        return f"{self.model}, σ_0 {self.sigma_0:g}, {self.steps} steps, {self.atoms} atoms"


@dataclass(frozen=True)
class Base:
    """What a decoder has of a GOP before its layer."""

    latents: Tensor  # 1 16 T h w
    features: Tensor


class LayerDecoder(GnvcVdDecoder):
    """Decodes units with a layer to what the layer makes of them, and others as they are."""

    def _refine(self, latents: Tensor, features: Tensor, context: Tensor | None, unit: Unit, window: int) -> Tensor:
        if not unit.enhancement:
            return super()._refine(latents, features, context, unit, window)
        whole = latents.shape[2] == gops.latents_of(unit.frames)
        require(whole, "a layer is for a GOP of one window", BitstreamError)
        return show_layer(self._codec, Base(latents, features), unit)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    studying = verbs.add_parser("study", help="write, decode and measure all files, and print tables")
    studying.add_argument("model")
    studying.add_argument("videos", nargs="+", type=Path)
    studying.add_argument("--out", type=Path, required=True, metavar="DIR")
    studying.add_argument("--qualities", nargs="+", type=int, default=[6, 20], metavar="Q", help="of the base")
    studying.add_argument("--metrics", default="psnr_rgb,vmaf", metavar="NAME,…")
    add_arguments(verbs.add_parser("decode", help="decode files, with their layers where they have one"))
    arguments = parser.parse_args(argv)

    def run() -> None:
        if arguments.verb == "decode":
            decode_files(arguments, layer_decoders(arguments.model))
        else:
            study(load(arguments.model), arguments)

    return exit_code("study_layer", run)


def layer_decoders(model: str) -> Callable[[Header, DecodeOptions], UnitDecoder]:
    known = dict[CodecId, GnvcVd | Gvc]()

    def decoder(header: Header, decoding: DecodeOptions) -> UnitDecoder:
        if header.codec not in known:
            known[header.codec] = load_gvc(model) if header.codec is CodecId.GVC else load(model)
        codec = known[header.codec]
        if isinstance(codec, GnvcVd):
            return LayerDecoder(codec, header, decoding, codec.check(header))
        return codec.decoder(header, decoding)

    return decoder


def study(codec: GnvcVd, arguments: argparse.Namespace) -> None:
    rows, metrics = list["Row"](), arguments.metrics.split(",")
    for path in arguments.videos:
        (clip,) = clips(path, 1)
        rows += measure(codec, path.stem, clip, arguments, metrics)
        keep(arguments.out / "rows.jsonl", rows)
        for quality in arguments.qualities:
            for line in table([row for row in rows if row.sequence == path.stem], quality, metrics):
                print(line, flush=True)


def measure(
    codec: GnvcVd, name: str, clip: Frame, arguments: argparse.Namespace, metrics: Sequence[str]
) -> Iterator["Row"]:
    """Write every file of a clip, decode all in other processes, and measure; what is there already stays."""
    out, original = arguments.out, arguments.out / f"{name}.mkv"
    write_video(original, clip)
    titles = {
        "base": [f"{quality}" for quality in sorted({*LEVELS, *arguments.qualities})],
        "layer": [f"{quality} {layer.name}" for quality in arguments.qualities for layer in layers()],
        "gvc": [f"{atoms}" for atoms in GVC_ATOMS],
    }
    files = {kind: [out / name / kind / f"{title}.gnvc" for title in those] for kind, those in titles.items()}
    if not all(path.is_file() for those in files.values() for path in those):
        for kind, title, stream in streams(codec, clip, arguments):
            path = out / name / kind / f"{title}.gnvc"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream)
    command = ["lab.study_layer", "decode", arguments.model]
    for kind, title, options in (
        ("base", "base", ["--steps", "0"]),
        ("base", "refined", ["--steps", "1"]),
        ("layer", "", []),
        ("gvc", "gvc", []),
    ):
        folder = out / name / (title or kind)
        missing = [path for path in files[kind] if not (folder / f"{path.stem}.mkv").is_file()]
        if missing:
            decode_apart(command, missing, folder, options)
        for path in files[kind]:
            level, _, layer = path.stem.partition(" ")
            pair, size = (original, folder / f"{path.stem}.mkv"), path.stat().st_size
            yield measured(title or layer, name, int(level), size, pair, metrics, clip[..., 0].size)


def streams(codec: GnvcVd, clip: Frame, arguments: argparse.Namespace) -> Iterator[tuple[str, str, bytes]]:
    """Every stream of a clip: its kind, its file's name and its bytes."""
    info, settings = info_of(clip), EncodeOptions(scenecut=False)
    header = codec.header(info, settings)
    (gop,) = codec.latents(clip, settings)
    for quality in sorted({*LEVELS, *arguments.qualities}):
        unit = codec.encode_gop(0, gop, quality, settings)
        yield "base", f"{quality}", pack_stream(header, [unit])
        if quality in arguments.qualities:
            base = base_of(codec, header, unit)
            for layer in layers():
                with_layer, _ = add_layer(codec, base, gop, unit, layer)
                yield "layer", f"{quality} {layer.name}", pack_stream(header, [with_layer])
    gvc = load_gvc(arguments.model)
    for atoms in GVC_ATOMS:
        video = Video(info, ((frame, None) for frame in clip))
        yield "gvc", f"{atoms}", gvc.encode(video, GvcEncodeOptions(atoms=atoms, scenecut=False))


def layers() -> list[Layer]:
    found = [Layer("shape", 1.0, 1, atoms) for atoms in ATOMS]
    return found + [Layer(model, *at) for at in SAMPLINGS for model in MODELS[1:]]


def base_of(codec: GnvcVd, header: Header, unit: Unit) -> Base:
    decoded = list(codec.decoder(header).symbols(unit))
    parts = ([one.latent for one in decoded], [one.feature for one in decoded])
    return Base(*(torch.stack(part, dim=2) for part in parts))


@torch.inference_mode()
def add_layer(codec: GnvcVd, base: Base, gop: Gop, unit: Unit, layer: Layer) -> tuple[Unit, Tensor]:
    """A unit with a layer, and the latents that its decoder will have."""
    chosen: Sets = []

    def choose(number: int, estimate: Tensor) -> Tensor:
        missing = (gop.latents - estimate)[0].unbind(1)
        chosen.append(
            tuple(book.select(one, layer.atoms) for book, one in zip(books(number, estimate), missing, strict=True))
        )
        return assembled(chosen[-1], number, estimate)

    lengths = b""
    if layer.model == "shape":
        missing = gop.latents - base.latents
        wanted = (missing * choose(0, base.latents)).mean((0, 1, 3, 4))  # atoms have unit variance
        lengths = bytes((LENGTH_STEPS * wanted).round().clamp(0, 255).int().tolist())
        latents = shaped(base, chosen, lengths)
    else:
        latents = sampled(base, layer, velocity_of(codec, base, layer), choose)
    head = unit.symbol_hash[:TAG] + bytes([MODELS.index(layer.model) << 6 | layer.steps, sigma_code(layer.sigma_0)])
    added = head + varint(layer.atoms) + lengths + pack_sets(chosen, SIZE)
    return replace(unit, enhancement=added), latents


def show_layer(codec: GnvcVd, base: Base, unit: Unit) -> Tensor:
    """The latents that a unit's layer makes of its base, in inference mode."""
    layer, lengths, sets = parse_layer(unit, base.latents.shape[2])
    if layer.model == "shape":
        return shaped(base, sets, lengths)
    return sampled(
        base, layer, velocity_of(codec, base, layer), lambda number, like: assembled(sets[number], number, like)
    )


def parse_layer(unit: Unit, latents: int) -> tuple[Layer, bytes, Sets]:
    """A unit's layer, the lengths of its latents' shapes and its atoms; its bytes may be hostile."""
    fields = Fields(unit.enhancement)
    try:
        tag, mixed, sigma, atoms = fields.take(TAG), fields.byte(), fields.byte(), fields.varint(MAX_ATOMS)
        require(tag == unit.symbol_hash[:TAG], "the layer is of another base", BitstreamError)
        model, steps = mixed >> 6, mixed & 63
        known = model < len(MODELS) and steps and atoms and 1 <= sigma <= SIGMA_STEPS
        require(
            known and (MODELS[model] != "shape" or steps == 1), "the layer has values that none has", BitstreamError
        )
        layer = Layer(MODELS[model], sigma / SIGMA_STEPS, steps, atoms)
        lengths = fields.take(latents if layer.model == "shape" else 0)
    except FieldError:
        raise BitstreamError("the layer is cut short or a number in it is out of bounds") from None
    counts, rest = [atoms] * latents, fields.take(fields.remaining)
    wanted = atom_bytes(counts, steps, SIZE)
    require(len(rest) == wanted, f"the layer's atoms take {wanted} bytes, but there are {len(rest)}", BitstreamError)
    return layer, lengths, list(read_sets(rest, counts, steps, SIZE))


def sampled(base: Base, layer: Layer, velocity: flow.Velocity, noise: Noise) -> Tensor:
    """From x(σ_0) to σ = 0; encoder and decoder differ in where the noise comes from."""
    x, estimate = flow.start_point(base.latents, noise(0, base.latents), layer.sigma_0), base.latents
    sigmas = flow.grid(layer.sigma_0, layer.steps)
    for number, (sigma, following) in enumerate(pairwise(sigmas), start=1):
        estimate = flow.estimate(x, sigma, velocity(x, sigma))
        if number < layer.steps:
            x = flow.start_point(estimate, noise(number, estimate), following)
    return estimate


def shaped(base: Base, sets: Sets, lengths: bytes) -> Tensor:
    length = torch.tensor(list(lengths), dtype=torch.float32)[:, None, None] / LENGTH_STEPS
    return base.latents + length * assembled(sets[0], 0, base.latents)


def velocity_of(codec: GnvcVd, base: Base, layer: Layer) -> flow.Velocity:
    if layer.model == "backbone":
        return codec.backbone.dit.velocity
    hints = codec.refiner.hints(base.latents, base.features, layer.sigma_0)
    return partial(codec.refiner.velocity, hints=hints)


def assembled(choices: Sequence[Choice], number: int, like: Tensor) -> Tensor:
    """A step's noise: for each latent its atoms, of unit variance."""
    pairs = zip(books(number, like), choices, strict=True)
    parts = [book.assemble(choice).view_as(like[:, :, 0]) for book, choice in pairs]
    return torch.stack(parts, dim=2)


def books(number: int, like: Tensor) -> list[Codebook]:
    """A step's codebooks, one for each latent."""
    places = like[0, :, 0].numel()
    return [Codebook(SIZE, places, SEED, (number, place, 0), like.device) for place in range(like.shape[2])]


def table(rows: Sequence["Row"], quality: int, metrics: Sequence[str]) -> Iterator[str]:
    """A base quality's layers, and the other ways at their rates."""
    from lab.results import figure_at  # a process that decodes needs no tables

    curves = {title: [row for row in rows if row.codec == title] for title in ("base", "refined", "gvc")}
    yield f"\n{rows[0].sequence}, quality {quality}: {' / '.join(metrics)}\n"
    yield "| layer | bpp | base with it | base alone | base refined | GVC alone |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        if row.level != quality or row.codec == "gvc":
            continue
        cells = [figures(row.figures)]
        for curve in curves.values():  # as far as each goes: at its ends it stays as it is
            cells.append(figures({name: figure_at(curve, row.bpp, name) for name in metrics}))
        yield f"| {row.codec} | {row.bpp:.5f} | {' | '.join(cells)} |"


def figures(those: Mapping[str, float | None]) -> str:
    return " / ".join("–" if value is None else f"{value:.2f}" for value in those.values())


if __name__ == "__main__":
    raise SystemExit(main())
