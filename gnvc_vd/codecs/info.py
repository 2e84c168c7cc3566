"""Inspect a .gnvc stream without decoding it: header, units, damage, overhead."""

import json
from dataclasses import dataclass

from gnvc_vd.bitstream import BitstreamError, CodecId, Damage, End, Header, Reader, Unit
from gnvc_vd.codecs.contract import parameters_of
from gnvc_vd.common.files import input_stream
from gnvc_vd.conventions import MAX_PIXELS, Colour, bits_per_pixel, kilobits_per_second
from gnvc_vd.presets import BottleneckKind


@dataclass(frozen=True)
class Inspection:
    """Everything that `gnvc-vd info` prints."""

    bytes: int
    header: Header
    described: str  # the codec's parameters in words
    units: tuple[tuple[int | None, Unit], ...]  # with their first frames; None after damage that lost an unknown number
    damages: tuple[Damage, ...]
    frames: int  # by the closing unit; if that is missing, the units' frames

    @property
    def codec(self) -> str:
        return self.header.codec.name.lower().replace("_", "-")

    @property
    def bottleneck(self) -> BottleneckKind | None:
        """The latent codec, told by its units, of which only the transform codec's have a rotation; None for GVC."""
        if self.header.codec is not CodecId.GNVC_VD or not self.units:
            return None
        return "transform" if self.units[0][1].rotation else "contextual"

    @property
    def overhead(self) -> int:
        """Bytes of the file beside payloads and enhancements."""
        return self.bytes - sum(len(unit.payload) + len(unit.enhancement) for _, unit in self.units)

    @property
    def bpp(self) -> float | None:
        size = self.header.width, self.header.height
        return bits_per_pixel(self.bytes, *size, self.frames) if self.frames else None


def inspect(source: str, max_pixels: int = MAX_PIXELS) -> Inspection:
    """Read a whole file, or standard input for `-`."""
    units, damages = list[tuple[int | None, Unit]](), list[Damage]()
    end: End | None = None
    frame: int | None = 0
    with input_stream(source) as stream:
        reader = Reader(stream, max_pixels)
        for part in reader:
            if isinstance(part, Unit):
                units.append((frame, part))
                frame = None if frame is None else frame + part.frames
            elif isinstance(part, Damage):
                damages.append(part)
                frame = frame if part.lost == 0 else None
            else:
                end = part
    try:
        described = parameters_of(reader.header).describe()
    except BitstreamError as error:
        described = str(error)
    frames = end.frames if end else sum(unit.frames for _, unit in units)
    return Inspection(reader.bytes_read, reader.header, described, tuple(units), tuple(damages), frames)


def as_json(inspection: Inspection) -> str:
    """JSON in one line; keys of the header are its fields' names."""
    fields = {
        "bytes": inspection.bytes,
        **(vars(inspection.header) | {"codec": inspection.codec}),
        "described": inspection.described,
        "frames": inspection.frames,
        "gops": len(inspection.units),
        "bpp": inspection.bpp,
        "units": [_unit_as_dict(unit, first) for first, unit in inspection.units],
        "damages": [vars(damage) for damage in inspection.damages],
        "complete": not inspection.damages,
    }
    return json.dumps(fields, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return vars(value) if isinstance(value, Colour) else str(value)


def _unit_as_dict(unit: Unit, first_frame: int | None) -> dict[str, object]:
    fields = {name: getattr(unit, name) for name in ("frames", "quality", "policy", "canvas", "rotation", "sigma_0")}
    sizes = {"bytes": unit.size, "payload": len(unit.payload), "enhancement": len(unit.enhancement)}
    return {"gop": unit.index, "first_frame": first_frame, **fields, **sizes, "symbol_hash": unit.symbol_hash}


def as_text(inspection: Inspection) -> str:
    header, size = inspection.header, f"{inspection.bytes} bytes"
    if inspection.bpp is not None:
        rate = kilobits_per_second(inspection.bytes, inspection.frames, header.rate)
        size += f", {inspection.bpp:.5f} bpp, {rate:.1f} kbit/s"
    lines = [
        f"codec       {inspection.codec}, parameters {header.parameters.hex() or 'none'}, version {header.version}",
        f"decoding    {inspection.described}",
        f"model       coded {header.coded_identity.hex()}, shown {header.shown_identity.hex()}",
        f"video       {header.width}×{header.height}, {inspection.frames} frames at {header.rate}/s, {header.colour}",
        f"size        {size}",
        f"overhead    {inspection.overhead} bytes beside the payloads",
        *_table([_row(unit, first) for first, unit in inspection.units]),
    ]
    for damage in inspection.damages:
        lost = f"GOPs lost: {'unknown' if damage.lost is None else damage.lost}"
        lines.append(
            f"DAMAGE at byte {damage.offset}, {damage.size} bytes, from GOP {damage.first_gop} on: "
            f"{damage.reason}; {lost}"
        )
    return "\n".join(lines)


def _row(unit: Unit, first_frame: int | None) -> dict[str, str]:
    """A unit's row of the table, by the columns' titles; a cell is empty if the unit has no such value."""
    return {
        "GOP": str(unit.index),
        "first": "?" if first_frame is None else str(first_frame),
        "frames": str(unit.frames),
        "quality": str(unit.quality),
        "policy": str(unit.policy),
        "canvas": "yes" if unit.canvas else "",
        "rotation": str(unit.rotation or ""),
        "σ_0": "" if unit.sigma_0 is None else f"{unit.sigma_0:g}",
        "bytes": str(unit.size),
        "enhancement": str(len(unit.enhancement) or ""),
        "symbol hash": unit.symbol_hash.hex(),
    }


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Lines of the table, after a blank line, without columns that are empty in every row."""
    if not rows:
        return []
    titles = [title for title in rows[0] if any(row[title] for row in rows)]
    widths = {title: max(len(title), *(len(row[title]) for row in rows)) for title in titles}
    lines = [{title: title for title in titles}, *rows]
    return ["", *("  ".join(line[title].rjust(widths[title]) for title in titles) for line in lines)]
