"""The command line's options of GVC, and what they decide."""

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
OPTIONS = (  # what GVC alone understands; None is what was not said
    *("atoms", "mode", "caption", "codebook", *SCHEDULE, "withhold", "no_overlap"),
    *("tail_atoms", "tail_step", "still_quality", "still_weights", "gaussian", "paper"),
)
PAPER = {"codebook": 16384, "gaussian": True, "no_scenecut": True}
PAPER_I2V = {"no_overlap": True, "tail_atoms": 128, "tail_step": 64}
LARGEST_UNASKED = 1920 * 1088  # pixels of a stream that is decoded without --max-pixels
PAPER_SHIFT, SMALL_HEIGHT, SMALL_SHIFT = 5.0, 480, 3.0  # T2V takes the small pictures' shift at every size


def gvc_options(parser: argparse.ArgumentParser) -> None:
    gvc = parser.add_argument_group("gvc, the zero-shot codec")
    gvc.add_argument("--mode", choices=MODES, help="what the model is given (default: t2v, no frame)")
    gvc.add_argument("--caption", metavar="TEXT", help="tell the model what is shown; the file holds it")
    gvc.add_argument("--codebook", type=whole, metavar="K", help="atoms to choose from (default: the model's)")
    gvc.add_argument("--sde-steps", type=whole, metavar="N", help="steps in all (default: 20)")
    gvc.add_argument("--ode-tail", type=whole, metavar="N", help="last of them without noise (default: 3)")
    gvc.add_argument("--shift", type=decimal, help="of the time grid, in sixteenths (default: 3)")
    gvc.add_argument("--g-scale", type=decimal, help="of the diffusion, in sixteenths (default: 3)")
    for option, meaning in (
        ("--paper", "the published setting, where no option says otherwise; also says what the paper would count"),
        ("--gaussian", "atoms drawn from a Gaussian, as published: the search takes far longer"),
        ("--reuse", "ask the model at every second step only"),
        ("--withhold", "no atoms for a latent that the model is shown"),
        ("--no-overlap", "i2v: chained GOPs share no frame, as published"),
    ):
        gvc.add_argument(option, action="store_true", default=None, help=meaning)
    gvc.add_argument("--tail-atoms", type=whole, metavar="M", help="i2v: of a GOP's last two latents (default: 2 M)")
    meaning = "i2v: code the last latent's error in steps of 2^(−X/8); 64: zlib"
    gvc.add_argument("--tail-step", type=whole, metavar="0..64", help=meaning)
    still_options(gvc)  # type: ignore[arg-type]
    gvc.add_argument(
        "--still-quality", type=whole, metavar="0..63", help="of given frames (default: follows the atoms)"
    )


def check_size(header: "Header", max_pixels: int) -> None:
    """A few bytes may ask for hours of sampling, so what is large must be allowed."""
    if header.codec is CodecId.GVC and max_pixels == MAX_PIXELS and header.width * header.height > LARGEST_UNASKED:
        size, pixels = f"{header.width}×{header.height}", header.width * header.height
        raise GnvcError(f"GVC would sample {size} for hours, however small its file: --max-pixels {pixels} allows it")


def still_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--still-weights", metavar="FILE", help="gvc: of compressai's bmshj2018-factorized, for given frames (not AV1)"
    )


def as_published(arguments: argparse.Namespace, height: int) -> argparse.Namespace:
    """The authors' setting for pictures of a height, where nothing was said; M and GOPs are theirs by default."""
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
        raise UsageError("--still-weights is for modes that give the model frames")
    if arguments.still_weights is not None and arguments.still_quality is not None:
        raise UsageError("--still-quality is AV1's; a file of still weights has one quality")
    schedule = {SCHEDULE[name]: value for name, value in explicit_options(arguments, SCHEDULE).items()}
    codebook = codebook_of(codec.prior.dit_preset) if arguments.codebook is None else arguments.codebook
    overlap, withhold, still = not arguments.no_overlap, bool(arguments.withhold), codec.stills.name
    gaussian = bool(arguments.gaussian)
    parameters = Parameters(mode, codebook, Schedule(**schedule), overlap, withhold, still, arguments.seed, gaussian)
    atoms = arguments.atoms if arguments.quality is None else atoms_of(arguments.quality)
    own = explicit_options(arguments, ("gop", "tail_atoms", "tail_step", "still_quality", "caption"))
    return GvcEncodeOptions(atoms, arguments.bpp, scenecut=not arguments.no_scenecut, parameters=parameters, **own)


def explicit_options(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of these options that have a value; the others are left to who takes them."""
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


class PublishedCount:
    """The bytes that the authors' programs would count of what is being encoded, beside those of the file."""

    def __init__(self, parameters: "Parameters") -> None:
        self._parameters, self._bytes = parameters, 0.0

    def add(self, unit: "Unit") -> None:
        self._bytes += self._parameters.published_bytes(unit)

    def beside(self, done: "EncodeResult") -> dict[str, float]:
        """What `encode --json` says more."""
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
