"""GVC's files beside what its authors' programs would count for the same atoms, in both conventions of bpp.

python -m lab.gvc_accounting FOLDER      the folder of an evaluation with codecs of GVC (experiment=gvc_t2v)

    FOLDER/streams/CODEC/SEQUENCE/LEVEL.gnvc ──▶ atoms · stills · tail · the rest ──▶ a row for each codec and level

Published count of a GOP: S · F · M · (⌈log2 K⌉ + 1) bits, S stochastic steps and F latents; a tail's further atoms are
not in it, nor I2V's first still; FLF2V's stills and the tail's residual are (`Parameters.published_bytes`).
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from gnvc_vd.bitstream import CodecId, Reader, Unit
from gnvc_vd.conventions import SAMPLES_PER_PIXEL, GnvcError
from gnvc_vd.evaluate.points import Point, read_point
from gnvc_vd.report.tables import Table, as_markdown
from gnvc_vd.zeroshot.parameters import Parameters

COLUMNS = (
    "codec", "level", "mode", "K", "bytes on disk", "atoms", "stills", "tail", "the rest", "published count, bytes",
    "ours / published", "bpp, per pixel", "published count", "bpp, per R, G and B sample (as v1 and v2 print)",
    "published count",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    folder = parser.parse_args().folder
    try:
        files = sorted((folder / "points").glob("*/*/*.json"))
        points = [point for file in files if (point := read_point(file)) is not None]
        tables = accounting_tables(points, folder / "streams")
        if not tables:
            raise GnvcError(f"{folder}: no points there whose codec is GVC")
    except GnvcError as error:
        print(f"gvc_accounting: {error}", file=sys.stderr)
        return 1
    print(as_markdown(tables))
    return 0


@dataclass(frozen=True)
class Account:
    """Bytes of a stream by what they hold, and the published count."""

    whole: int = 0
    atoms: int = 0
    stills: int = 0
    tail: int = 0
    published: float = 0.0

    def __add__(self, other: "Account") -> "Account":
        return Account(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def accounting_tables(points: Sequence[Point], streams: Path) -> list[Table]:
    """One table, or none where no codec is GVC."""
    rows = []
    for codec, level in dict.fromkeys((one.codec, one.level) for one in points):
        own = [one for one in points if (one.codec, one.level) == (codec, level)]
        accounts = [account_of(streams / codec / one.sequence / f"{level:02}.gnvc") for one in own]
        parameters, total = accounts[0][0], sum((account for _, account in accounts), Account())
        if parameters is None:
            continue
        pixels = sum(one.frames * one.width * one.height for one in own)
        rates = [8 * size / pixels / part for part in (1, SAMPLES_PER_PIXEL) for size in (total.whole, total.published)]
        rest = total.whole - total.atoms - total.stills - total.tail
        numbers = (total.whole, total.atoms, total.stills, total.tail, rest, round(total.published))
        ratio = f"{total.whole / total.published:.3f}" if total.published else "–"
        what = (codec, str(level), parameters.mode, str(parameters.codebook))
        rows.append((*what, *map(str, numbers), ratio, *(f"{rate:.5f}" for rate in rates)))
    notes = (
        "Bytes are of whole files, all sequences together. The published count is S · F · M · (⌈log2 K⌉ + 1) bits a "
        "GOP, FLF2V's stills and the tail's residual; captions, container, I2V's first still and its tail's further "
        "atoms are free there.",
    )
    return [Table("GVC: bytes on disk beside the published accounting", COLUMNS, tuple(rows), notes)] if rows else []


def account_of(stream: Path) -> tuple[Parameters | None, Account]:
    """No parameters where it is not a stream of GVC."""
    if not stream.is_file():
        return None, Account()
    with stream.open("rb") as file:
        reader = Reader(file)
        if reader.header.codec is not CodecId.GVC:
            return None, Account()
        parameters = Parameters.parse(reader.header.parameters)
        units = [part for part in reader if isinstance(part, Unit)]
    total = sum((_of_unit(parameters, unit) for unit in units), Account(whole=stream.stat().st_size))
    return parameters, total


def _of_unit(parameters: Parameters, unit: Unit) -> Account:
    cost = parameters.cost(unit)
    return Account(0, cost["atoms"], cost["stills"], cost["tail"], parameters.published_bytes(unit))


if __name__ == "__main__":
    raise SystemExit(main())
