"""The command line's arguments and help texts."""

import argparse
from typing import NoReturn

from gnvc_vd import __version__
from gnvc_vd.cli import gvc, values
from gnvc_vd.conventions import MAX_PIXELS

DECODED = (
    ".mkv (exact), .y4m or .yuv (exact to 4:2:0, 8 bit), .mp4 or .mov (H.264, CRF 12: lossy), "
    "a folder of PNGs (exact), or - (y4m)"
)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} ({self.prog} --help says more)\n")


def parser() -> Parser:
    whole = Parser(prog="gnvc-vd", description="Generative video compression.")
    whole.add_argument("--version", action="version", version=f"gnvc-vd {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    encode = commands.add_parser("encode", help="encode a video as .gnvc")
    encode.add_argument("source", metavar="IN", help="any video, a folder of PNGs, or - for standard input")
    encode.add_argument("target", metavar="OUT.gnvc", help="the stream to write, or - for standard output")
    encode.add_argument(
        "--codec", choices=["gnvc-vd", "gvc"], default="gnvc-vd", help="learned or zero-shot (default: gnvc-vd)"
    )
    _model_options(encode)
    rate = encode.add_mutually_exclusive_group()
    rate.add_argument(
        "--quality",
        type=values.whole,
        metavar="0..63",
        help="higher is better (default: 32; for gvc 48, which is 64 atoms)",
    )
    rate.add_argument(
        "--bpp", type=values.positive_decimal, metavar="X", help="the quality nearest to a rate, in bits per pixel"
    )
    rate.add_argument(
        "--target-kbps",
        type=values.positive_decimal,
        metavar="X",
        help="the highest quality whose whole file has at most this rate, in kbit/s",
    )
    rate.add_argument(
        "--target-size",
        type=values.positive,
        metavar="BYTES",
        help="the highest quality whose whole file has at most this size",
    )
    rate.add_argument("--atoms", type=values.whole, metavar="M", help="gvc: atoms for each latent and step, up to 256")
    encode.add_argument("--gop", type=values.whole, metavar="N", help="frames per GOP, 1 + 4k (default: 25; gvc: 33)")
    encode.add_argument(
        "--window", type=values.whole, metavar="N", help="frames the refiner processes at once (default: the model's)"
    )
    encode.add_argument(
        "--steps", type=values.whole, metavar="L", help="refinement steps, 0 for none (default: the model's)"
    )
    encode.add_argument(
        "--sigma-0", type=values.decimal, metavar="S", help="refinement's initial sigma, 0–1 (default: the model's)"
    )
    encode.add_argument(
        "--noise-scale", type=values.decimal, metavar="X", help="refinement's noise, 0–1 (default: the model's)"
    )
    encode.add_argument("--no-scenecut", action="store_true", help="do not start a GOP at a scene cut")
    encode.add_argument(
        "--policy",
        choices=["constant", "hierarchical"],
        help="how quality varies over a GOP's latents (default: constant)",
    )
    encode.add_argument(
        "--rotation", type=values.positive, metavar="N", help="transform codec: latents per temporal transform, 1–9"
    )
    encode.add_argument(
        "--canvas", choices=["auto", "off"], help="compensate a camera's pan where that saves bits (default: auto)"
    )
    encode.add_argument("--frames", type=values.positive, metavar="N", help="encode the first N frames only")
    encode.add_argument("--seed", type=values.whole, default=0, metavar="S", help="noise seed (default: 0)")
    gvc.gvc_options(encode)
    encode.add_argument(
        "--precision",
        choices=["bf16", "fp32"],
        default="fp32",
        help="precision of the VAE's encoder (default: fp32; gvc: fp32)",
    )
    _tile_option(encode, "in Wan's VAE encoder (default: auto, if a GPU's memory does not suffice without)")
    _raw_options(encode)
    encode.add_argument("--json", action="store_true", help="one JSON line instead of text")

    decode = commands.add_parser("decode", help="decode a .gnvc file")
    decode.add_argument("source", metavar="IN.gnvc", help="a stream, or - for standard input")
    decode.add_argument("target", metavar="OUT", help=DECODED)
    _model_options(decode)
    decode.add_argument(
        "--precision",
        choices=["auto", "bf16", "fp32"],
        default="auto",
        help="precision of the decoder's networks (default: auto, which is bf16 if it is faster; gvc: fp32)",
    )
    decode.add_argument("--attention", metavar="NAME", help="diffusers' attention back-end (default: native)")
    meaning = "compile the networks, which the first GOP waits for: for many GOPs of one size on a GPU (not for gvc)"
    decode.add_argument("--compile", action="store_true", help=meaning)
    _tile_option(decode, "in refiner and Wan's VAE (default: auto, as the model says and a GPU's memory needs)")
    meaning = "refinement steps (default: the stream's, up to the quality that the model refines)"
    decode.add_argument("--steps", type=values.positive, metavar="L", help=meaning)
    decode.add_argument("--no-refine", dest="refine", action="store_false", help="decode without the refiner")
    decode.add_argument("--apart", action="store_true", help="refine each latent alone, without a window")
    decode.add_argument(
        "--gops", type=values.span, default=(0, None), metavar="A:B", help="GOPs A to B only, B excluded"
    )
    decode.add_argument("--conceal", action="store_true", help="repeat the last good frame in place of damaged GOPs")
    decode.add_argument("--allow-other-weights", action="store_true", help="accept other weights, for wrong pictures")
    gvc.still_options(decode)
    _reading_options(decode)

    verify = commands.add_parser("verify", help="check every CRC and every symbol; exits 1 on any damage")
    verify.add_argument("source", metavar="FILE", help="a stream, or - for standard input")
    _model_options(verify)
    gvc.still_options(verify)
    _reading_options(verify)

    info = commands.add_parser("info", help="summarise a .gnvc file without decoding any symbol")
    info.add_argument("file", help="a .gnvc file, or - for standard input")
    _reading_options(info)

    compare = commands.add_parser("compare", help="measure videos against a reference: fidelity, perception, flicker")
    compare.add_argument("reference", metavar="REF", help="the original: any video, a folder of PNGs, or -")
    compare.add_argument("tests", nargs="+", metavar="TEST", help="the decoded video, or several, in the same size")
    compare.add_argument("--frames", type=values.positive, metavar="N", help="compare the first N frames only")
    compare.add_argument("--metrics", metavar="NAME,…", help="only these (default: all; VGG metrics are slow)")
    compare.add_argument(
        "--flow", choices=["dis", "raft"], default="dis", help="optical flow for e_warp and flicker (default: dis)"
    )
    compare.add_argument(
        "--html", metavar="DIR", help="write an offline page that plays the videos side by side: DIR/index.html"
    )
    _raw_options(compare)
    compare.add_argument(
        "--device", type=values.device, default="auto", help="auto, cpu, cuda, cuda:1 … (default: auto)"
    )
    compare.add_argument("--json", action="store_true", help="one JSON line instead of text")

    demo = commands.add_parser("demo", help="run both codecs, x265 and VVenC on a short clip: table, plots, page")
    demo.add_argument(
        "folder", nargs="?", default="outputs/demo", metavar="DIR", help="folder of the results (default: outputs/demo)"
    )
    _model_options(demo)

    bench = commands.add_parser("bench", help="measure time and memory of every stage against its usual implementation")
    bench.add_argument("stages", nargs="*", metavar="STAGE", help="which stages (default: all)")
    meaning = "video sizes for entropy, refine and codec (defaults: 832x480; 256x256 for codec, and refine on a CPU)"
    bench.add_argument("--sizes", type=values.size, nargs="+", default=(), metavar="WxH", help=meaning)
    meaning = "device for the stages entropy and refine (default: a GPU if there is one)"
    bench.add_argument("--device", choices=("cpu", "cuda"), help=meaning)
    meaning = "compile codec's decoders, and measure refine on a CPU compiled too, as on a GPU"
    bench.add_argument("--compile", action="store_true", help=meaning)
    bench.add_argument("--json", action="store_true", help="print the JSON line only, without the table")
    return whole


def _model_options(parser: argparse.ArgumentParser) -> None:
    meaning = "a preset, a model folder, or a hub id: owner/name or owner/name@revision (default: tiny)"
    parser.add_argument("--model", metavar="NAME|DIR|HUB_ID", help=meaning)
    parser.add_argument(
        "--device", type=values.device, default="auto", help="auto, cpu, cuda, cuda:1 … (default: auto)"
    )


def _tile_option(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument(
        "--tile", type=values.tile, metavar="auto|off|PIXELS", help=f"overlapping tiles for large pictures, {meaning}"
    )


def _raw_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=values.size, metavar="WxH", help="size of raw YUV input")
    parser.add_argument(
        "--fps", type=values.rate, metavar="F", help="frame rate of raw YUV input: 25, 29.97, 30000/1001 (default: 25)"
    )
    parser.add_argument(
        "--pix", choices=["yuv420p", "yuv420p10le"], default="yuv420p", help="pixel format of raw YUV input"
    )


def _reading_options(parser: argparse.ArgumentParser) -> None:
    meaning = "largest picture that is accepted (default: 8K; for decoding gvc 1920×1088)"
    parser.add_argument("--max-pixels", type=values.positive, default=MAX_PIXELS, metavar="P", help=meaning)
    parser.add_argument("--json", action="store_true", help="one JSON line instead of text")
