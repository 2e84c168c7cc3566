"""What a .gnvc stream says of itself: header, units, damage, overhead. No symbol is decoded."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gnvc_vd.bitstream import Damage, End, Header, Reader, Unit
from gnvc_vd.conventions import MAX_PIXELS, UsageError, bits_per_pixel, kilobits_per_second


@dataclass(frozen=True)
class Inspection:
    """Everything that `gnvc-vd info` says."""

    bytes: int
    header: Header
    units: tuple[Unit, ...]
    first_frames: tuple[int | None, ...]  # of each unit; None after damage that hides how many frames it swallowed
    damages: tuple[Damage, ...]
    end: End | None

    @property
    def frames(self) -> int:
        """As the closing unit says, else as many as are there."""
        return self.end.frames if self.end else sum(unit.frames for unit in self.units)

    @property
    def bpp(self) -> float | None:
        size = self.header.width, self.header.height
        return bits_per_pixel(self.bytes, *size, self.frames) if self.frames else None


def inspect(source: str, max_pixels: int = MAX_PIXELS) -> Inspection:
    """Read a file, or standard input for `-`, from front to back."""
    if source == "-" and sys.stdin is None:
        raise UsageError("standard input is closed")
    if "\0" in source:
        raise UsageError("a file name cannot hold a NUL")
    with ExitStack() as stack:
        stream = sys.stdin.buffer if source == "-" else stack.enter_context(Path(source).open("rb"))
        reader = Reader(stream, max_pixels)
        units, first_frames, damages = list[Unit](), list[int | None](), list[Damage]()
        end = None
        frame: int | None = 0
        for part in reader:
            if isinstance(part, Unit):
                units.append(part)
                first_frames.append(frame)
                frame = None if frame is None else frame + part.frames
            elif isinstance(part, Damage):
                damages.append(part)
                frame = frame if part.lost == 0 else None
            else:
                end = part
        return Inspection(reader.bytes_read, reader.header, tuple(units), tuple(first_frames), tuple(damages), end)


def as_dict(found: Inspection, spoken: str) -> dict[str, object]:
    """`spoken` is what the codec says of its parameters."""
    header = found.header
    return {
        "bytes": found.bytes,
        "codec": header.codec.name.lower().replace("_", "-"),
        "coded_identity": header.coded_identity.hex(),
        "shown_identity": header.shown_identity.hex(),
        "width": header.width,
        "height": header.height,
        "rate": str(header.rate),
        "colour": {"matrix": header.colour.matrix, "range": header.colour.range},
        "parameters": header.parameters.hex(),
        "described": spoken,
        "frames": found.frames,
        "gops": len(found.units),
        "bpp": found.bpp,
        "units": [_unit_as_dict(unit, first) for unit, first in zip(found.units, found.first_frames, strict=True)],
        "damages": [vars(damage) for damage in found.damages],
        "complete": not found.damages,
    }


def _unit_as_dict(unit: Unit, first_frame: int | None) -> dict[str, object]:
    return {
        "gop": unit.index,
        "first_frame": first_frame,
        "frames": unit.frames,
        "quality": unit.quality,
        "policy": unit.policy,
        "bytes": unit.size,
        "payload": len(unit.payload),
        "symbol_hash": unit.symbol_hash.hex(),
    }


def as_text(found: Inspection, spoken: str) -> str:
    header, size = found.header, f"{found.bytes} bytes"
    if found.bpp is not None:
        rate = kilobits_per_second(found.bytes, found.frames, header.rate)
        size += f", {found.bpp:.5f} bpp, {rate:.1f} kbit/s"
    lines = [
        f"codec       {header.codec.name.lower().replace('_', '-')}, parameters {header.parameters.hex() or 'none'}",
        f"decoding    {spoken}",
        f"model       coded {header.coded_identity.hex()}, shown {header.shown_identity.hex()}",
        f"video       {header.width}×{header.height}, {found.frames} frames at {header.rate}/s, {header.colour}",
        f"size        {size}",
        f"overhead    {found.bytes - sum(len(unit.payload) for unit in found.units)} bytes beside the payloads",
    ]
    if found.units:
        lines += ["", "  GOP   first  frames  quality  policy     bytes  symbol hash"]
    for unit, first in zip(found.units, found.first_frames, strict=True):
        lines.append(
            f"{unit.index:5} {'?' if first is None else first:>7} {unit.frames:7} {unit.quality:8} {unit.policy:7} "
            f"{unit.size:9}  {unit.symbol_hash.hex()}"
        )
    for damage in found.damages:
        lost = f"GOPs lost: {'unknown' if damage.lost is None else damage.lost}"
        lines.append(
            f"DAMAGE at byte {damage.offset}, {damage.size} bytes, from GOP {damage.first_gop} on: "
            f"{damage.reason}; {lost}"
        )
    return "\n".join(lines)
