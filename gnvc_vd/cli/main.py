"""The command line: `gnvc-vd COMMAND …`.

Rules that every command keeps: results go to standard output, as text or with --json as one JSON line; progress and
messages go to standard error. Exit code 0: done; 1: the input is damaged or refused; 2: the call is wrong. An error is
one sentence, never a traceback. Heavy imports happen inside the command that needs them, so that --help is instant.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

from gnvc_vd import __version__
from gnvc_vd.cli import gvc
from gnvc_vd.cli.interruption import interruptible
from gnvc_vd.conventions import COMMON_RATES, MAX_PIXELS, GnvcError, UsageError

if TYPE_CHECKING:
    from gnvc_vd.bitstream import Header
    from gnvc_vd.codecs.contract import Codec
    from gnvc_vd.learned.codec import Encoding, GnvcVd
    from gnvc_vd.video import RawVideo

C = TypeVar("C", bound="Codec[Any]")
DONE, REFUSED, MISUSED = 0, 1, 2
INTERRUPTED = 130
REFINEMENT = ("window", "steps", "sigma_0", "noise_scale")  # what an encoder may wish; else as the model has it
GNVC_VD_OPTIONS = (*REFINEMENT, "policy", "rotation", "canvas")  # GNVC-VD's alone; None is what was not said
DECODING = ("steps", "refine", "apart", "conceal", "allow_other_weights", "max_pixels")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × is no reason to fail
    try:
        with interruptible() as interruption:
            code: int = arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        return _fail(error, MISUSED)
    except GnvcError as error:
        return _fail("interrupted", INTERRUPTED) if interruption.heard else _fail(error, REFUSED)
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", REFUSED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    return code


def _fail(message: object, code: int) -> int:
    _notify(message)
    return code


def _notify(message: object) -> None:
    print(f"gnvc-vd: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gnvc-vd", description="Generative video compression.")
    parser.add_argument("--version", action="version", version=f"gnvc-vd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], int], meaning: str) -> argparse.ArgumentParser:
        made = commands.add_parser(run.__name__.strip("_"), help=meaning)
        made.set_defaults(run=run)
        return made

    encode = command(_encode, "a video to a .gnvc file")
    encode.add_argument("source", metavar="IN", help="any video, a folder of PNGs, or - for standard input")
    encode.add_argument("target", metavar="OUT.gnvc", help="the stream to write, or - for standard output")
    encode.add_argument("--codec", choices=["gnvc-vd", "gvc"], default="gnvc-vd", help="(default: gnvc-vd)")
    _model_options(encode)
    rate = encode.add_mutually_exclusive_group()
    rate.add_argument("--quality", type=int, metavar="0..63", help="higher is better (default: 32; gvc: 48, 64 atoms)")
    rate.add_argument("--bpp", type=_positive_float, metavar="X", help="search the quality nearest to a rate")
    rate.add_argument("--atoms", type=int, metavar="M", help="gvc: atoms for each latent and step, up to 256")
    encode.add_argument("--gop", type=int, metavar="N", help="frames of a GOP, 1 + 4k (default: 25; gvc: 33)")
    encode.add_argument("--window", type=int, metavar="N", help="frames the refiner sees (default: the model's)")
    encode.add_argument("--steps", type=int, metavar="L", help="refinement steps, 0 for none (default: the model's)")
    encode.add_argument("--sigma-0", type=float, metavar="S", help="where refinement starts (default: the model's)")
    encode.add_argument("--noise-scale", type=float, metavar="X", help="of its noise, 0 to 1 (default: the model's)")
    encode.add_argument("--no-scenecut", action="store_true", help="do not start a GOP at a scene cut")
    encode.add_argument("--policy", choices=["constant", "hierarchical"], help="bits over a GOP (default: constant)")
    encode.add_argument("--rotation", type=_positive, metavar="N", help="latents that a transform codec takes together")
    encode.add_argument(
        "--canvas", choices=["auto", "off"], help="take a camera's pan out where it pays (default: auto)"
    )
    encode.add_argument("--frames", type=_positive, metavar="N", help="the first N alone")
    encode.add_argument("--seed", type=int, default=0, metavar="S", help="of all noise (default: 0)")
    gvc.gvc_options(encode)
    _raw_options(encode)
    encode.add_argument("--json", action="store_true", help="one JSON line instead of text")

    decode = command(_decode, "a .gnvc file to a video")
    decode.add_argument("source", metavar="IN.gnvc", help="a stream, or - for standard input")
    decode.add_argument("target", metavar="OUT", help=".mp4 .mkv .y4m .yuv, a folder of PNGs, or - (y4m)")
    _model_options(decode)
    decode.add_argument("--steps", type=_positive, metavar="L", help="of refinement (default: what the stream says)")
    decode.add_argument("--no-refine", dest="refine", action="store_false", help="show the latent codec's own pictures")
    decode.add_argument("--apart", action="store_true", help="refine each latent alone: what windows are worth")
    decode.add_argument("--gops", type=_span, default=(0, None), metavar="A:B", help="GOPs A up to, not with, B")
    decode.add_argument("--conceal", action="store_true", help="hold the last good frame where a GOP is damaged")
    decode.add_argument("--allow-other-weights", action="store_true", help="decode though pictures will be wrong")
    gvc.still_options(decode)
    _reading_options(decode)

    verify = command(_verify, "check every CRC and every symbol; exits 1 on any damage")
    verify.add_argument("source", metavar="FILE", help="a stream, or - for standard input")
    _model_options(verify)
    gvc.still_options(verify)
    _reading_options(verify)

    info = command(_info, "what a .gnvc file says of itself, without decoding a symbol")
    info.add_argument("file", help="a .gnvc file, or - for standard input")
    _reading_options(info)

    compare = command(_compare, "one video against another: fidelity, perception, flicker")
    compare.add_argument("reference", metavar="REF", help="the original: any video, a folder of PNGs, or -")
    compare.add_argument("test", metavar="TEST", help="what became of it, in the same size")
    compare.add_argument("--frames", type=_positive, metavar="N", help="the first N alone")
    compare.add_argument("--metrics", metavar="NAME,…", help="these alone (default: all; the VGG ones take long)")
    compare.add_argument("--flow", choices=["dis", "raft"], default="dis", help="for e_warp (default: dis)")
    _raw_options(compare)
    compare.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: auto)")
    compare.add_argument("--json", action="store_true", help="one JSON line instead of text")

    demo = command(_demo, "both codecs on a shipped clip, beside x265 and VVenC: table, plots, page")
    demo.add_argument("folder", nargs="?", default="outputs/demo", metavar="DIR", help="(default: outputs/demo)")
    _model_options(demo)

    bench = command(_bench, "time and memory, stage by stage, against the stock way of doing the same")
    bench.add_argument("stages", nargs="*", metavar="STAGE", help="which stages (default: all)")
    bench.add_argument("--json", action="store_true", help="the JSON line alone, without the table")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _positive_float(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return _positive(width), _positive(height)


def _rate(text: str) -> Fraction:
    try:
        stated = Fraction(text)
    except ZeroDivisionError as error:
        raise argparse.ArgumentTypeError(f"{text} is no rate") from error
    return next((rate for rate in COMMON_RATES if abs(rate - stated) < Fraction(1, 200)), stated)


def _span(text: str) -> tuple[int, int | None]:
    first, colon, last = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B")
    span = int(first or 0), int(last) if last else None
    if span[0] < 0 or (span[1] is not None and span[1] <= span[0]):
        raise argparse.ArgumentTypeError(f"{text!r} holds no GOP")
    return span


def _model_options(parser: argparse.ArgumentParser) -> None:
    meaning = "a preset, a model folder, or a hub id: owner/name or owner/name@revision (default: tiny)"
    parser.add_argument("--model", metavar="NAME|DIR|HUB_ID", help=meaning)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default: auto)")


def _raw_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=_size, metavar="WxH", help="of raw YUV")
    parser.add_argument("--fps", type=_rate, metavar="F", help="of raw YUV: 25, 29.97, 30000/1001")
    parser.add_argument("--pix", choices=["yuv420p", "yuv420p10le"], default="yuv420p", help="of raw YUV")


def _raw(arguments: argparse.Namespace) -> "RawVideo | None":
    from gnvc_vd.video import RawVideo

    if not arguments.size:
        return None
    width, height = arguments.size
    return RawVideo(width, height, arguments.fps or Fraction(25), arguments.pix)


def _reading_options(parser: argparse.ArgumentParser) -> None:
    meaning = "largest picture accepted (default: 8K)"
    parser.add_argument("--max-pixels", type=_positive, default=MAX_PIXELS, metavar="P", help=meaning)
    parser.add_argument("--json", action="store_true", help="one JSON line instead of text")


def _codec_of(arguments: argparse.Namespace) -> "Callable[[Header], Codec[Any]]":
    from gnvc_vd.codecs.load import load_for

    return lambda header: _ready(load_for(header, arguments.model, arguments.still_weights), arguments)


def _ready(codec: "C", arguments: argparse.Namespace) -> "C":
    if codec.note:
        _notify(f"{codec.name}: {codec.note}")
    return codec.to(_device(arguments.device))


def _device(name: str) -> str:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return name


def _encode(arguments: argparse.Namespace) -> int:
    from gnvc_vd.codecs.load import load, load_gvc
    from gnvc_vd.codecs.transcode import encode_file

    codec: Codec[Any]
    settings: Any
    if arguments.codec == "gvc":
        _refuse(
            arguments, GNVC_VD_OPTIONS, "of GNVC-VD" + ("" if arguments.steps is None else " (GVC has --sde-steps)")
        )
        codec = zeroshot = _ready(load_gvc(arguments.model, still_weights=arguments.still_weights), arguments)
        settings = gvc.gvc_settings(arguments, zeroshot)
    else:
        _refuse(arguments, gvc.OPTIONS, "for --codec gvc")
        codec = learned = _ready(load(arguments.model), arguments)
        settings = _settings(arguments, learned)
    done = encode_file(codec, arguments.source, arguments.target, settings, arguments.frames, _raw(arguments), _notify)
    text = (
        f"{done.frames} frames of {done.width}×{done.height} in {done.gops} GOPs at quality {done.quality}: "
        f"{done.bytes} bytes, {done.bpp:.5f} bpp, {done.frames / done.seconds:.2f} frames/s"
    )
    return _done(arguments, done, text)


def _refuse(arguments: argparse.Namespace, names: Sequence[str], whose: str) -> None:
    """Options of the other codec, which this one would ignore."""
    said = [f"--{name.replace('_', '-')}" for name in gvc.given(arguments, names)]
    if said:
        raise UsageError(f"{', '.join(said)}: {'an option' if len(said) == 1 else 'options'} {whose}")


def _settings(arguments: argparse.Namespace, codec: "GnvcVd") -> "Encoding":
    from gnvc_vd.learned.codec import Encoding

    refinement = replace(codec.refinement, seed=arguments.seed, **gvc.given(arguments, REFINEMENT))
    if arguments.sigma_0 is not None:
        refinement = replace(refinement, sigma_ratio=None)  # the same for all GOPs
    said = gvc.given(arguments, ("quality", "gop", "policy", "rotation", "canvas"))
    return Encoding(bpp=arguments.bpp, scenecut=not arguments.no_scenecut, refinement=refinement, **said)


def _decode(arguments: argparse.Namespace) -> int:
    from gnvc_vd.bitstream.playback import Decoding
    from gnvc_vd.codecs.transcode import decode_file

    first_gop, last_gop = arguments.gops
    decoding = Decoding(first_gop=first_gop, last_gop=last_gop, **gvc.given(arguments, DECODING))
    done = decode_file(_codec_of(arguments), arguments.source, arguments.target, decoding)
    text = f"{done.frames} frames of {done.width}×{done.height}, {done.frames / done.seconds:.2f} frames/s"
    if done.drift is not None:
        text += f", latents within {done.drift:.4f} of the encoder's"
    return _done(arguments, done, text)


def _done(arguments: argparse.Namespace, done: object, text: str) -> int:
    """Results go to standard output, unless the video itself does."""
    result = json.dumps(vars(done)) if arguments.json else text
    print(result, file=sys.stderr if arguments.target == "-" else sys.stdout)
    return DONE


def _verify(arguments: argparse.Namespace) -> int:
    from gnvc_vd.codecs.transcode import verify_file

    found = verify_file(_codec_of(arguments), arguments.source, arguments.max_pixels)
    if arguments.json:
        damages = [vars(damage) for damage in found.damages]
        drifts = {"drifts": found.drifts} if found.drifts else {}
        print(json.dumps({"whole": found.whole, "gops": found.gops, "damages": damages} | drifts))
    else:
        for damage in found.damages:
            print(f"DAMAGE at byte {damage.offset}, from GOP {damage.first_gop} on: {damage.reason}")
        for gop, verdict in found.gops.items():
            if verdict:
                print(f"GOP {gop}: {verdict}")
        if found.drifts:
            gop, drift = max(found.drifts.items(), key=itemgetter(1))
            print(f"replayed latents drift from the encoder's by {drift:.4f} at most, in GOP {gop}")
        print(f"{len(found.gops)} GOPs read, {'all whole' if found.whole else 'damage found'}")
    return DONE if found.whole else REFUSED


def _info(arguments: argparse.Namespace) -> int:
    from gnvc_vd.codecs.info import as_json, as_text, inspect

    found = inspect(arguments.file, arguments.max_pixels)
    print(as_json(found) if arguments.json else as_text(found))
    return REFUSED if found.damages else DONE


def _compare(arguments: argparse.Namespace) -> int:
    from gnvc_vd.evaluate.compare import METRICS, compare

    found = compare(
        arguments.reference,
        arguments.test,
        arguments.frames,
        arguments.metrics.split(",") if arguments.metrics is not None else tuple(METRICS),
        _raw(arguments),
        arguments.flow,
        _device(arguments.device),
    )
    for notice in found.notices:
        _notify(notice)
    print(json.dumps(found.as_dict()) if arguments.json else found.as_text())
    return DONE


def _demo(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from gnvc_vd.report.demo import demo
    from gnvc_vd.report.tables import as_text

    table, page = demo(Path(arguments.folder), arguments.model, _device(arguments.device))
    print(as_text(table))
    print(f"plots, tables and a page with a player: {page}")
    return DONE


def _bench(arguments: argparse.Namespace) -> int:
    from gnvc_vd.bench import run

    for line in run(arguments.stages, table=not arguments.json):
        print(line)
    return DONE
