"""The command line: `gnvc-vd COMMAND …`.

Rules that every command keeps: results go to standard output, as text or with --json as one JSON line; progress and
messages go to standard error. Exit code 0: done; 1: the input is damaged or refused; 2: the call is wrong. An error is
one sentence, never a traceback. Heavy imports happen inside the command that needs them, so that --help is instant.
"""

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Sequence

from gnvc_vd import __version__
from gnvc_vd.conventions import GnvcError, UsageError

DONE, REFUSED, MISUSED = 0, 1, 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without × is no reason to fail
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # clean up as after Ctrl-C
    try:
        code: int = arguments.run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except UsageError as error:
        return _fail(error, MISUSED)
    except GnvcError as error:
        return _fail(error, REFUSED)
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
    print(f"gnvc-vd: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gnvc-vd", description="Generative video compression.")
    parser.add_argument("--version", action="version", version=f"gnvc-vd {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    info = commands.add_parser("info", help="what a .gnvc file says of itself, without decoding a symbol")
    info.add_argument("file", help="a .gnvc file, or - for standard input")
    info.add_argument("--max-pixels", type=_positive, metavar="P", help="largest picture accepted (default: about 8K)")
    info.add_argument("--json", action="store_true", help="one JSON line instead of text")
    info.set_defaults(run=_info)

    bench = commands.add_parser(
        "bench", help="time and memory, stage by stage, against the stock way of doing the same"
    )
    bench.add_argument("stages", nargs="*", metavar="STAGE", help="which stages (default: all)")
    bench.add_argument("--json", action="store_true", help="the JSON line alone, without the table")
    bench.set_defaults(run=_bench)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _info(arguments: argparse.Namespace) -> int:
    from gnvc_vd.conventions import MAX_PIXELS
    from gnvc_vd.info import as_dict, as_text, inspect

    found = inspect(arguments.file, arguments.max_pixels or MAX_PIXELS)
    print(json.dumps(as_dict(found)) if arguments.json else as_text(found))
    return REFUSED if found.damages else DONE


def _bench(arguments: argparse.Namespace) -> int:
    from gnvc_vd.evaluate.bench import run

    for line in run(arguments.stages, table=not arguments.json):
        print(line)
    return DONE
