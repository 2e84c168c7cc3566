"""The command line: `gnvc-vd COMMAND …`.

All commands print results to standard output, as text or with --json as one JSON line, and progress and messages to
standard error. Exit codes: 0 success, 1 damaged or refused input, 2 wrong call. An error is one sentence without a
traceback. Heavy modules are imported by the commands that need them, so that --help is instant.
"""

import argparse
import errno
import gc
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gnvc_vd.cli import gvc
from gnvc_vd.cli.arguments import parser
from gnvc_vd.cli.checks import check_files
from gnvc_vd.common.interruption import interruptible
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError, UsageError

if TYPE_CHECKING:
    from gnvc_vd.backbone.tiles import Tiling
    from gnvc_vd.backbone.weights import Options
    from gnvc_vd.bitstream import Header
    from gnvc_vd.codecs.contract import Codec
    from gnvc_vd.codecs.transcode import DecodeResult, EncodeResult
    from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
    from gnvc_vd.video import RawVideo

C = TypeVar("C", bound="Codec[Any]")
DONE, REFUSED, MISUSED, INTERRUPTED = 0, 1, 2, 130
REFINEMENT = ("window", "steps", "sigma_0", "noise_scale")  # options that override the model's refinement
# Options for GNVC-VD only; None if not given.
GNVC_VD_OPTIONS = (*REFINEMENT, "policy", "rotation", "canvas", "target_kbps", "target_size")
SEARCHED = ("bpp", "target_kbps", "target_size")  # rates of the whole file
NUMBERS = {"bf16": "bfloat16", "fp32": "float32"}
DECODING = ("steps", "refine", "apart", "tile", "conceal", "allow_other_weights", "max_pixels")


def main(argv: Sequence[str] | None = None) -> int:
    import gnvc_vd.common.sleeping_threads  # noqa: F401 - before torch; a library's user has the say there

    arguments = parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot print ×
    try:
        with interruptible() as interruption:
            check_files(arguments)
            code = COMMANDS[arguments.command](arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        return _fail(error, MISUSED)
    except GnvcError as error:
        return _fail(error, REFUSED)
    except BrokenPipeError:  # the reader of our output has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        where = error.filename
        if where is None and error.errno == errno.ENOSPC:  # full disk; errors of other files name them
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            where = "standard output"
        return _fail(f"{where}: {error.strerror}" if where else error.strerror or error, REFUSED)
    except KeyboardInterrupt:
        return _fail("interrupted", interruption.code or INTERRUPTED)
    return code


def _fail(message: object, code: int) -> int:
    _notify(message)
    return code


def _notify(message: object) -> None:
    print(f"gnvc-vd: {message}", file=sys.stderr)


def _raw(arguments: argparse.Namespace) -> "RawVideo | None":
    from gnvc_vd.video import RawVideo

    if not arguments.size:
        return None
    width, height = arguments.size
    return RawVideo(width, height, arguments.fps or Fraction(25), arguments.pix)


@contextmanager
def _loading() -> Iterator[None]:
    """Collect no garbage while modules or a model load, and leave these out of later collections, to start sooner."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _codec_of(arguments: argparse.Namespace) -> "Callable[[Header], Codec[Any]]":
    @_loading()
    def load(header: "Header") -> "Codec[Any]":
        from gnvc_vd.codecs.load import load_for

        gvc.check_size(header, arguments.max_pixels)
        return _ready(load_for(header, arguments.model, arguments.still_weights, _options()), arguments)

    return load


def _options(**more: Any) -> "Options":
    from gnvc_vd.backbone.weights import Options

    lean = more.get("attention", "native") == "native"  # diffusers may download the kernels of other back-ends
    return Options(lean=lean, **more)


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
    if arguments.codec == "gvc":
        steps = "" if arguments.steps is None else " (GVC has --sde-steps)"
        _refuse(arguments, GNVC_VD_OPTIONS, f"of GNVC-VD{steps}")
        given = arguments.precision == "bf16" or arguments.tile
        require(not given, "GVC encodes in float32, as its decoder does, and whole: leave --precision and --tile out")
    else:
        _refuse(arguments, gvc.OPTIONS, "for --codec gvc")
    from gnvc_vd.video import open_video

    with open_video(arguments.source, _raw(arguments)) as video:  # before a model is loaded
        with _loading():
            from gnvc_vd.codecs.transcode import encode_video
            from gnvc_vd.learned.codec import EncodeOptions

        begun = time.perf_counter()
        codec, settings = _encoder(arguments, video.info.height)
        loading = time.perf_counter() - begun
        published = gvc.PublishedCount(settings.parameters) if arguments.paper else None
        count = published.add if published else lambda unit: None
        done = encode_video(codec, video, arguments.target, settings, arguments.frames, _notify, count)
        done = replace(done, loading_seconds=done.loading_seconds + loading)
    if isinstance(settings, EncodeOptions) and settings.refinement and arguments.steps:
        limit, asked = settings.refinement.highest_quality, f"gnvc-vd decode --steps {arguments.steps}"
        if done.quality > limit:
            _notify(f"{codec.name} refines up to quality {limit}, this is {done.quality}: only `{asked}` refines it")
    text = (
        f"{done.frames} frames of {done.width}×{done.height} in {_gops(done.gops)} at quality {done.quality}: "
        f"{done.bytes} bytes, {done.bpp:.5f} bpp, {done.kbps:.1f} kbit/s; {_speed(done)}"
    )
    if published is None:
        return _done(arguments, done, text)
    return _done(arguments, done, f"{text}\n{published.as_text(done)}", **published.beside(done))


def _gops(count: int) -> str:
    return "1 GOP" if count == 1 else f"{count} GOPs"


def _speed(done: "EncodeResult | DecodeResult") -> str:
    """Loading is apart: it takes the same time however long the video is."""
    return f"{done.loading_seconds:.2f} s of loading, then {done.frames / done.seconds:.2f} frames/s"


@_loading()
def _encoder(arguments: argparse.Namespace, height: int) -> "tuple[Codec[Any], Any]":
    """The codec and its encoder settings, for pictures of this height."""
    import torch

    from gnvc_vd.codecs.load import load, load_gvc

    if arguments.codec == "gvc":
        zeroshot = _ready(load_gvc(arguments.model, _options(), arguments.still_weights), arguments)
        return zeroshot, gvc.gvc_settings(arguments, zeroshot, height)
    kind = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    options = _options(vae_encoder=kind, tiling=_tiling(arguments.tile))
    learned = _ready(load(arguments.model, options), arguments)
    return learned, _settings(arguments, learned)


def _tiling(tile: int | None) -> "Tiling | Literal['auto'] | None":
    """Tiling of Wan's VAE for a value of --tile."""
    from gnvc_vd.backbone.tiles import Tiling
    from gnvc_vd.bitstream.refinement import check_tile

    check_tile(tile or None)
    return "auto" if tile is None else Tiling.of_size(tile) if tile else None


def _refuse(arguments: argparse.Namespace, names: Sequence[str], whose: str) -> None:
    """Refuse options of the other codec."""
    options = [f"--{name.replace('_', '-')}" for name in gvc.explicit_options(arguments, names)]
    require(not options, f"{', '.join(options)}: {'an option' if len(options) == 1 else 'options'} {whose}")


def _settings(arguments: argparse.Namespace, codec: "GnvcVd") -> "EncodeOptions":
    from gnvc_vd.learned.codec import EncodeOptions

    refinement = replace(codec.refinement, seed=arguments.seed, **gvc.explicit_options(arguments, REFINEMENT))
    if arguments.sigma_0 is not None:
        refinement = replace(refinement, sigma_ratio=None)  # one start for all GOPs
    options = gvc.explicit_options(arguments, ("quality", *SEARCHED, "gop", "policy", "rotation", "canvas"))
    return EncodeOptions(scenecut=not arguments.no_scenecut, refinement=refinement, **options)


def _decode(arguments: argparse.Namespace) -> int:
    with _loading():
        from gnvc_vd.bitstream.playback import DecodeOptions
        from gnvc_vd.codecs.transcode import decode_file

    first_gop, last_gop = arguments.gops
    decoding = DecodeOptions(first_gop=first_gop, last_gop=last_gop, **gvc.explicit_options(arguments, DECODING))
    load = DecoderLoader(arguments)
    done = decode_file(load, arguments.source, arguments.target, decoding, _notify)
    text = f"{done.frames} frames of {done.width}×{done.height}: {_speed(done)}"
    text += f" in {NUMBERS[load.precision]}{', compiled' if arguments.compile else ''}"
    if done.drift is None:  # not GVC
        text += ", refined" if done.refined_gops else ", not refined"
    if done.tile is not None:
        text += f" in tiles of {done.tile} pixels"
    if done.held:
        text += f", {done.held} of them repeats in place of lost ones"
    if done.drift is not None:
        text += f", latents within {done.drift:.4f} of the encoder's"
    return _done(arguments, done, text, precision=load.precision, compiled=arguments.compile)


class DecoderLoader:
    """Loads the codec for a stream's header; afterwards holds its precision."""

    precision = "fp32"

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments

    @_loading()
    def __call__(self, header: "Header") -> "Codec[Any]":
        import torch

        from gnvc_vd.backbone.decoder_precision import decoder_dtype
        from gnvc_vd.bitstream import CodecId
        from gnvc_vd.codecs.load import load_for

        arguments, options = self.arguments, _options()
        gvc.check_size(header, arguments.max_pixels)
        if header.codec is CodecId.GVC:
            given = arguments.precision == "bf16" or arguments.attention or arguments.tile or arguments.compile
            why = "GVC decodes in float32, whole and not compiled, as its encoder did"
            require(not given, f"{why}: leave --precision, --attention, --tile and --compile out")
        else:
            kind = decoder_dtype(arguments.precision, torch.device(_device(arguments.device)))
            self.precision = "bf16" if kind is torch.bfloat16 else "fp32"
            attention, tiling = arguments.attention or "native", _tiling(arguments.tile)
            more = {"tiling": tiling, "attention": attention, "compile": arguments.compile}
            options = _options(vae_decoder=kind, transformer=kind, **more)
        return _ready(load_for(header, arguments.model, arguments.still_weights, options), arguments)


def _done(arguments: argparse.Namespace, done: object, text: str, **more: float | str | None) -> int:
    """Print the result to standard output, or to standard error if the video goes to standard output."""
    result = json.dumps(vars(done) | more) if arguments.json else text
    print(result, file=sys.stderr if arguments.target == "-" else sys.stdout)
    return DONE


def _verify(arguments: argparse.Namespace) -> int:
    with _loading():
        from gnvc_vd.codecs.transcode import verify_file

    result = verify_file(_codec_of(arguments), arguments.source, arguments.max_pixels)
    if arguments.json:
        damages = [vars(damage) for damage in result.damages]
        drifts = {"drifts": result.drifts} if result.drifts else {}
        print(json.dumps({"whole": result.whole, "gops": result.gops, "damages": damages} | drifts))
    else:
        for damage in result.damages:
            print(f"DAMAGE at byte {damage.offset}, from GOP {damage.first_gop} on: {damage.reason}")
        for gop, verdict in result.gops.items():
            if verdict:
                print(f"GOP {gop}: {verdict}")
        if result.drifts:
            gop, drift = max(result.drifts.items(), key=itemgetter(1))
            print(f"replayed latents drift from the encoder's by {drift:.4f} at most, in GOP {gop}")
        print(f"{_gops(len(result.gops))} read, {'all whole' if result.whole else 'damage found'}")
    return DONE if result.whole else REFUSED


def _info(arguments: argparse.Namespace) -> int:
    from gnvc_vd.codecs.info import as_json, as_text, inspect

    inspection = inspect(arguments.file, arguments.max_pixels)
    print(as_json(inspection) if arguments.json else as_text(inspection))
    return REFUSED if inspection.damages else DONE


def _compare(arguments: argparse.Namespace) -> int:
    with _loading():
        from gnvc_vd.evaluate.compare import METRICS, compare

    raw, device = _raw(arguments), _device(arguments.device)
    metrics = arguments.metrics.split(",") if arguments.metrics is not None else tuple(METRICS)
    several = len(arguments.tests) > 1
    comparisons = {}
    for test in arguments.tests:
        one = compare(arguments.reference, test, arguments.frames, metrics, raw, arguments.flow, device)
        comparisons[test] = one
        for notice in one.notices:
            _notify(notice)
        if arguments.json:
            print(json.dumps(({"test": test} if several else {}) | one.as_dict()))
        else:
            print(f"{test}: {one.as_text()}" if several else one.as_text())
    if arguments.html is not None:
        from gnvc_vd.report.side_by_side import write_side_by_side

        page = write_side_by_side(arguments.reference, comparisons, arguments.html, raw)
        print(page, file=sys.stderr if arguments.json else sys.stdout)
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
    from gnvc_vd.bench.harness import print_nothing

    print_line = print_nothing if arguments.json else partial(print, flush=True)
    device = arguments.device and _device(arguments.device)  # one that is not there is refused
    options = {"sizes": arguments.sizes, "device": device, "compile": arguments.compile}
    print(json.dumps(run(arguments.stages, print_line, **options)))
    return DONE


COMMANDS = {
    "encode": _encode,
    "decode": _decode,
    "verify": _verify,
    "info": _info,
    "compare": _compare,
    "demo": _demo,
    "bench": _bench,
}
