"""Files of a study: streams on disk, decoded by another process, and measured.

python -m lab.coded_files MODEL FILE… --out DIR [--patterns FILE] [--steps L]

The command is that other process: it decodes .gnvc files to DIR/NAME.mkv, without loss. --patterns names policies that
the package does not know, a JSON object of offsets of the quality for each of a GOP's latents; the first one has the
number after the package's own.
"""

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gnvc_vd.bitstream import BitstreamError, Header, Unit
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.bitstream.playback import DecodeOptions, UnitDecoder, decode_stream
from gnvc_vd.codecs.load import load
from gnvc_vd.common import strict
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, Colour, Frame, GnvcError, UsageError
from gnvc_vd.learned.bottleneck.policies import POLICIES
from gnvc_vd.learned.codec import GnvcVd, GnvcVdDecoder
from gnvc_vd.video import VideoInfo, create_video, open_video

if TYPE_CHECKING:
    from gnvc_vd.report.curves import Row

SIDE, FRAMES = 256, 25
RATE = Fraction(25)

Pattern = Sequence[int]  # offsets of the quality, for each latent


class PatternDecoder(GnvcVdDecoder):
    """A decoder that knows more policies than the package's."""

    patterns: Sequence[Pattern] = ()

    def _levels(self, unit: Unit) -> list[int]:
        number = unit.policy - len(POLICIES)
        if not 0 <= number < len(self.patterns):
            return super()._levels(unit)
        pattern, count = self.patterns[number], gops.latents_of(unit.frames)
        said = f"GOP {unit.index} has {count} latents, but its policy is for {len(pattern)}"
        require(len(pattern) == count, said, BitstreamError)
        return levels_of(pattern, unit.quality)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--patterns", type=Path, metavar="FILE", help="policies beside the package's")
    arguments = parser.parse_args(argv)

    def run() -> None:
        codec = load(arguments.model)
        decode_files(arguments, pattern_decoders(codec, read_patterns(arguments.patterns)))

    return exit_code("coded_files", run)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every command that decodes files."""
    parser.add_argument("model")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, metavar="L", help="of refinement, 0 for none (default: as the file says)")


def exit_code(name: str, run: Callable[[], object]) -> int:
    """Run a command; what is wrong with its input is said in a sentence."""
    try:
        run()
    except (GnvcError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def pattern_decoders(
    codec: GnvcVd, patterns: Mapping[str, Pattern]
) -> Callable[[Header, DecodeOptions], GnvcVdDecoder]:
    def decoder(header: Header, decoding: DecodeOptions) -> GnvcVdDecoder:
        made = PatternDecoder(codec, header, decoding, codec.check(header))
        made.patterns = tuple(patterns.values())
        return made

    return decoder


def read_patterns(path: Path | None) -> dict[str, Pattern]:
    read: dict[str, Any] = {} if path is None else dict(strict.read_object(path))
    whole = all(isinstance(one, list) and all(type(offset) is int for offset in one) for one in read.values())
    require(whole, f"{path}: a pattern is a list of whole numbers", GnvcError)
    return read


def levels_of(pattern: Pattern, quality: int) -> list[int]:
    return [min(max(quality + offset, 0), QUALITIES - 1) for offset in pattern]


def decode_files(arguments: argparse.Namespace, decoder_of: Callable[[Header, DecodeOptions], UnitDecoder]) -> None:
    for path in arguments.files:
        try:
            stream = decode_stream(path.read_bytes(), decoder_of, steps=arguments.steps)
            frames = np.concatenate(list(stream))
        except BitstreamError as error:
            raise BitstreamError(f"{path}: {error}") from error
        write_video(arguments.out / f"{path.stem}.mkv", frames)


def write_video(path: Path, frames: Frame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with create_video(path, frames.shape[2], frames.shape[1], RATE) as writer:
        for frame in frames:
            writer.write(frame)


def decode_apart(command: Sequence[str], files: Sequence[Path], out: Path, options: Sequence[str] = ()) -> list[Path]:
    """Decode files in another process; the videos it wrote."""
    given = [*command, *map(str, files), "--out", str(out), *options]
    done = subprocess.run([sys.executable, "-m", *given], capture_output=True, text=True, check=False)
    require(done.returncode == 0, done.stderr.strip().rpartition("\n")[2], GnvcError)
    return [out / f"{path.stem}.mkv" for path in files]


def measured(
    name: str, sequence: str, level: int, size: int, pair: tuple[Path, Path], metrics: Sequence[str], pixels: int
) -> "Row":
    """A point of a file of this size, from the videos of the original and of what was decoded."""
    from gnvc_vd.evaluate.compare import compare  # a process that decodes needs no metrics
    from gnvc_vd.report.curves import Row

    found = compare(str(pair[0]), str(pair[1]), metrics=metrics).figures
    figures = {metric: found[metric] for metric in metrics}
    bpp = 8 * size / pixels
    return Row(name, sequence, level, size, bpp, bpp * SIDE**2 * float(RATE) / 1000, figures)


def keep(path: Path, rows: Sequence["Row"]) -> None:
    """Write points as lines of JSON."""
    path.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in rows), encoding="utf-8")


def clips(path: Path, count: int) -> Iterator[Frame]:
    """Consecutive clips from the middle of a video's pictures."""
    with open_video(path) as video:
        pictures = iter(video)
        for _ in range(count):
            clip = list(islice(pictures, FRAMES))
            if len(clip) < FRAMES:
                return
            height, width = clip[0].shape[:2]
            require(min(height, width) >= SIDE, f"{path}: {width}×{height} is smaller than {SIDE}×{SIDE}", GnvcError)
            top, left = (height - SIDE) // 2, (width - SIDE) // 2
            yield np.stack([one[top : top + SIDE, left : left + SIDE] for one in clip])


def info_of(clip: Frame) -> VideoInfo:
    return VideoInfo(clip.shape[2], clip.shape[1], RATE, None, Colour("bt709", "limited"), "", "")


if __name__ == "__main__":
    raise SystemExit(main())
