"""The command line's options for GVC, and the encoder settings that they make."""

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gnvc_vd.bitstream.layout import CodecId, Header
from gnvc_vd.cli.values import decimal, whole
from gnvc_vd.conventions import MAX_PIXELS, SAMPLES_PER_PIXEL, GnvcError, UsageError, bits_per_pixel

if TYPE_CHECKING:
    from gnvc_vd.bitstream import Unit
    from gnvc_vd.codecs.transcode import EncodeResult
    from gnvc_vd.zeroshot.codec import Gvc
    from gnvc_vd.zeroshot.encoding import GvcEncodeOptions
    from gnvc_vd.zeroshot.parameters import Parameters

MODES = ("t2v", "i2v", "flf2v")
SCHEDULE = {"sde_steps": "steps", "ode_tail": "tail", "shift": "shift", "g_scale": "g_scale", "reuse": "reuse"}
OPTIONS = (  # for GVC only; None if not given
    *("atoms", "mode", "caption", "codebook", *SCHEDULE, "withhold", "no_overlap"),
    *("tail_atoms", "tail_step", "still_quality", "still_weights", "gaussian", "paper"),
)
PAPER = {"codebook": 16384, "gaussian": True, "no_scenecut": True}
PAPER_I2V = {"no_overlap": True, "tail_atoms": 128, "tail_step": 64}
LARGEST_UNASKED = 1920 * 1088  # pixels of the largest picture that is decoded without --max-pixels
PAPER_SHIFT, SMALL_HEIGHT, SMALL_SHIFT = 5.0, 480, 3.0  # T2V has the shift of small pictures at every size


def gvc_options(parser: argparse.ArgumentParser) -> None:
    gvc = parser.add_argument_group("gvc, the zero-shot codec")
    gvc.add_argument(
        "--mode", choices=MODES, help="frames given to the model: none, first, first and last (default: t2v)"
    )
    gvc.add_argument("--caption", metavar="TEXT", help="prompt that describes the video; it is stored in the file")
    gvc.add_argument("--codebook", type=whole, metavar="K", help="number of atoms in a codebook (default: the model's)")
    gvc.add_argument("--sde-steps", type=whole, metavar="N", help="number of sampling steps (default: 20)")
    gvc.add_argument("--ode-tail", type=whole, metavar="N", help="number of last steps without noise (default: 3)")
    gvc.add_argument("--shift", type=decimal, help="shift of the sigma schedule, a multiple of 1/16 (default: 3)")
    gvc.add_argument("--g-scale", type=decimal, help="scale of the injected noise, a multiple of 1/16 (default: 3)")
    for option, meaning in (
        ("--paper", "the published settings, where no option is given; also prints the size as the paper counts it"),
        ("--gaussian", "Gaussian atoms, as published: the search takes far longer"),
        ("--reuse", "run the model at every second step only"),
        ("--withhold", "no atoms for latents whose frames are given to the model"),
        ("--no-overlap", "i2v: chained GOPs share no frame, as published"),
    ):
        gvc.add_argument(option, action="store_true", default=None, help=meaning)
    gvc.add_argument("--tail-atoms", type=whole, metavar="M", help="i2v: M of a GOP's last two latents (default: 2 M)")
    meaning = "i2v: code the residual of the last latent with a step of 2^(−X/8); 64: as published, with zlib"
    gvc.add_argument("--tail-step", type=whole, metavar="0..64", help=meaning)
    still_options(gvc)  # type: ignore[arg-type]
    gvc.add_argument(
        "--still-quality", type=whole, metavar="0..63", help="quality of given frames (default: by the number of atoms)"
    )


def check_size(header: "Header", max_pixels: int) -> None:
    """Refuse streams of large pictures unless --max-pixels allows them: a small file can ask for hours of sampling."""
    if header.codec is CodecId.GVC and max_pixels == MAX_PIXELS and header.width * header.height > LARGEST_UNASKED:
        size, pixels = f"{header.width}×{header.height}", header.width * header.height
        raise GnvcError(f"GVC would sample {size} for hours, however small its file: --max-pixels {pixels} allows it")


def still_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--still-weights", metavar="FILE", help="gvc: bmshj2018-factorized's weights, for given frames instead of AV1"
    )


def as_published(arguments: argparse.Namespace, height: int) -> argparse.Namespace:
    """Fill in the authors' settings for options that were not given; M and GOP have theirs as defaults anyway."""
    mode = arguments.mode or "t2v"
    shift = SMALL_SHIFT if mode == "t2v" or height <= SMALL_HEIGHT else PAPER_SHIFT
    theirs = PAPER | (PAPER_I2V if mode == "i2v" else {}) | {"shift": shift}
    said = vars(arguments)
    unsaid = {name: value for name, value in theirs.items() if said[name] is None or said[name] is False}
    return argparse.Namespace(**said | unsaid)


def gvc_settings(arguments: argparse.Namespace, codec: "Gvc", height: int) -> "GvcEncodeOptions":
    from gnvc_vd.presets import codebook_of
    from gnvc_vd.zeroshot.encoding import GvcEncodeOptions, atoms_of
    from gnvc_vd.zeroshot.parameters import Mode, Parameters
    from gnvc_vd.zeroshot.sde import Schedule

    if arguments.paper:
        arguments = as_published(arguments, height)
    mode: Mode = arguments.mode or "t2v"
    if arguments.still_weights is not None and mode == "t2v":
        raise UsageError("--still-weights is for modes with given frames: i2v and flf2v")
    if arguments.still_weights is not None and arguments.still_quality is not None:
        raise UsageError("--still-quality is for AV1; a file of still weights has one quality")
    schedule = {SCHEDULE[name]: value for name, value in explicit_options(arguments, SCHEDULE).items()}
    codebook = codebook_of(codec.prior.dit_preset) if arguments.codebook is None else arguments.codebook
    overlap, withhold, still = not arguments.no_overlap, bool(arguments.withhold), codec.stills.name
    gaussian = bool(arguments.gaussian)
    parameters = Parameters(mode, codebook, Schedule(**schedule), overlap, withhold, still, arguments.seed, gaussian)
    atoms = arguments.atoms if arguments.quality is None else atoms_of(arguments.quality)
    own = explicit_options(arguments, ("gop", "tail_atoms", "tail_step", "still_quality", "caption"))
    return GvcEncodeOptions(atoms, arguments.bpp, scenecut=not arguments.no_scenecut, parameters=parameters, **own)


def explicit_options(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Options that have a value, by name; the others are left to the callee's defaults."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


class PublishedCount:
    """Adds up the bytes that the authors' programs would count for the units of an encoding."""

    def __init__(self, parameters: "Parameters") -> None:
        self._parameters, self._bytes = parameters, 0.0

    def add(self, unit: "Unit") -> None:
        self._bytes += self._parameters.published_bytes(unit)

    def beside(self, done: "EncodeResult") -> dict[str, float]:
        """Further keys of `encode --json`."""
        rate = bits_per_pixel(self._bytes, done.width, done.height, done.frames)
        return {
            "published_bytes": self._bytes,
            "published_bpp": rate,
            "published_bpp_printed": rate / SAMPLES_PER_PIXEL,
        }

    def as_text(self, done: "EncodeResult") -> str:
        said = self.beside(done)
        return (
            f"as the paper counts: {said['published_bytes']:.0f} bytes, {said['published_bpp']:.5f} bpp, "
            f"{said['published_bpp_printed']:.5f} as its first versions print (per sample of R, G and B)"
        )
