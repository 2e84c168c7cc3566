"""Streams to read, break and sign again."""

import io
import zlib
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from random import Random

from gnvc_vd.bitstream import BitstreamError, CodecId, Damage, End, Header, Reader, Unit, Writer
from gnvc_vd.conventions import Colour

HEADER = Header(
    codec=CodecId.GNVC_VD,
    coded_identity=b"identity",
    shown_identity=b"shwn",
    width=1280,
    height=720,
    rate=Fraction(30000, 1001),
    colour=Colour("bt709", "limited"),
    parameters=b"\x05\x3c\x07",
)
HEADERS = {1: replace(HEADER, version=1), 2: HEADER}


def units(count: int, payload: int = 60, seed: int = 0) -> list[Unit]:
    random = Random(seed)
    return [
        Unit(i, 1 + i % 25, i % 64, i % 2, random.randbytes(4), random.randbytes(random.randint(0, 2 * payload)))
        for i in range(count)
    ]


def units_of(version: int, count: int, payload: int = 60, seed: int = 0) -> list[Unit]:
    """Units that use everything that a version has."""
    plain, random = units(count, payload, seed), Random(seed + 1)
    return plain if version == 1 else [enriched(unit, random) for unit in plain]


def enriched(unit: Unit, random: Random) -> Unit:
    """With a rotation, a σ_0, an enhancement and a canvas, each of them or not."""
    return replace(
        unit,
        rotation=random.randrange(10),
        sigma_0=random.choice([None, random.randint(1, 200) / 200]),
        enhancement=random.randbytes(random.choice([0, 1, 1 + len(unit.payload), 130])),
        canvas=random.random() < 0.5,
    )


def packed(parts: list[Unit], header: Header = HEADER) -> bytes:
    stream = io.BytesIO()
    writer = Writer(stream, header)
    for unit in parts:
        writer.write(unit)
    writer.close()
    assert writer.bytes_written == len(stream.getvalue())
    return stream.getvalue()


def bodies(stream: bytes) -> list[bytes]:
    """Header, units and closing unit, each without its CRC."""
    reader = Reader(io.BytesIO(stream))
    places, place = [0], reader.bytes_read
    for part in reader:
        places.append(place)
        if isinstance(part, Unit):
            place += part.size
    places.append(len(stream))
    return [stream[a : b - 4] for a, b in pairwise(places)]


def signed(parts: list[bytes]) -> bytes:
    """Bodies with valid CRCs, whatever they hold."""
    header = parts[0] + zlib.crc32(parts[0]).to_bytes(4, "big")
    start = zlib.crc32(header)
    return header + b"".join(body + zlib.crc32(body, start).to_bytes(4, "big") for body in parts[1:])


def read(stream: bytes) -> list[Unit | Damage | End]:
    return list(Reader(io.BytesIO(stream)))


def mutated(data: bytes, random: Random) -> bytes:
    """One to four bytes set, flipped, inserted or removed, or a stretch repeated."""
    out = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(out)) if out else 0
        match random.randrange(5):
            case 0 if out:
                out[place] = random.choice([0, 1, 127, 128, 255, 0xE7, 0xE8])
            case 1 if out:
                out[place] ^= 1 << random.randrange(8)
            case 2:
                out[place:place] = random.randbytes(random.randint(1, 8))
            case 3:
                del out[place : place + random.randint(1, 8)]
            case 4:
                out[place:place] = out[place : place + random.randint(1, 64)]
    return bytes(out)


def survives(stream: bytes) -> list[Unit | Damage | End] | None:
    """What is read, or None where the format's own error was raised; any other exception is a bug."""
    try:
        return read(stream)
    except BitstreamError:
        return None
