"""The command line's options of GVC, and what they decide."""

import argparse
from typing import TYPE_CHECKING

from gnvc_vd.conventions import UsageError

if TYPE_CHECKING:
    from gnvc_vd.bitstream import Header
    from gnvc_vd.zeroshot.codec import Gvc
    from gnvc_vd.zeroshot.encoding import GvcEncoding


def gvc_options(parser: argparse.ArgumentParser) -> None:
    gvc = parser.add_argument_group("gvc, the zero-shot codec")
    gvc.add_argument("--mode", choices=["t2v", "i2v", "flf2v"], default="t2v", help="what the model is given")
    gvc.add_argument("--caption", default="", metavar="TEXT", help="tell the model what is shown; the file holds it")
    gvc.add_argument("--codebook", type=int, metavar="K", help="atoms to choose from (default: the model's)")
    gvc.add_argument("--sde-steps", type=int, default=20, metavar="N", help="steps in all (default: 20)")
    gvc.add_argument("--ode-tail", type=int, default=3, metavar="N", help="last of them without noise (default: 3)")
    gvc.add_argument("--shift", type=float, default=3.0, help="of the time grid, in sixteenths (default: 3)")
    gvc.add_argument("--g-scale", type=float, default=3.0, help="of the diffusion, in sixteenths (default: 3)")
    gvc.add_argument("--reuse", action="store_true", help="ask the model at every second step only")
    gvc.add_argument("--withhold", action="store_true", help="no atoms for a latent that the model is shown")
    gvc.add_argument("--no-overlap", action="store_true", help="i2v: chained GOPs share no frame, as published")
    gvc.add_argument("--tail-atoms", type=int, metavar="M", help="i2v: of a GOP's last two latents (default: 2 M)")
    gvc.add_argument(
        "--tail-step",
        type=int,
        metavar="0..64",
        help="i2v: code the last latent's error in steps of 2^(−X/8); 64: zlib",
    )
    still_options(gvc)  # type: ignore[arg-type]
    gvc.add_argument("--still-quality", type=int, metavar="0..63", help="of given frames (default: follows the atoms)")


def still_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--still-weights", metavar="FILE", help="gvc: of compressai's bmshj2018-factorized, for given frames (not AV1)"
    )


def gvc_for(arguments: argparse.Namespace, header: "Header | None" = None) -> "Gvc":
    """The codec of this call; with a stream's header, one that has the still codec that the stream names."""
    from gnvc_vd.codecs.load import DEFAULT_MODEL, load_gvc
    from gnvc_vd.zeroshot.parameters import Parameters

    weights = arguments.still_weights
    if header is not None and Parameters.parse(header.parameters).still == "av1":
        weights = None
    return load_gvc(arguments.model or DEFAULT_MODEL, still_weights=weights)


def gvc_encoding(arguments: argparse.Namespace, codec: "Gvc") -> "GvcEncoding":
    from gnvc_vd.presets import codebook_of
    from gnvc_vd.zeroshot.encoding import DEFAULT_ATOMS, DEFAULT_GOP, GvcEncoding, atoms_of
    from gnvc_vd.zeroshot.parameters import Parameters
    from gnvc_vd.zeroshot.sde import Schedule

    if arguments.still_weights is not None and arguments.mode == "t2v":
        raise UsageError("--still-weights is for modes that give the model frames")
    if arguments.still_weights is not None and arguments.still_quality is not None:
        raise UsageError("--still-quality is AV1's; a file of still weights has one quality")
    schedule = Schedule(arguments.sde_steps, arguments.ode_tail, arguments.shift, arguments.g_scale, arguments.reuse)
    atoms = arguments.atoms if arguments.quality is None else atoms_of(arguments.quality)
    if atoms is None and arguments.bpp is None:
        atoms = DEFAULT_ATOMS
    return GvcEncoding(
        atoms,
        arguments.bpp,
        DEFAULT_GOP if arguments.gop is None else arguments.gop,
        not arguments.no_scenecut,
        arguments.tail_atoms,
        arguments.tail_step,
        arguments.still_quality,
        arguments.caption,
        Parameters(
            arguments.mode,
            arguments.codebook or codebook_of(codec.prior.dit_preset),
            schedule,
            not arguments.no_overlap,
            arguments.withhold,
            codec.stills.name,
            seed=arguments.seed,
        ),
    )
