"""GVC's parameters in the header, seven bytes: all settings of the sampling, beside the model itself.

They also decide how a unit's payload is read: its number of latents, which of them have atoms, and which stills it has.

bits  2 mode · 5 log2 K · 1 reuse · 1 overlap · 1 withhold · 1 Gaussian · 1 still codec · 7 steps · 5 tail ·
      8 shift/16 · 8 g_scale/16 · 16 seed
"""

from dataclasses import dataclass, field
from typing import Literal, get_args

from gnvc_vd.bitstream import BitstreamError, Unit
from gnvc_vd.bitstream.gop import latents_of
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import UsageError
from gnvc_vd.zeroshot.codebook import MAX_SIZE
from gnvc_vd.zeroshot.payload import Content, PayloadParser, atom_bytes, symbol_hash
from gnvc_vd.zeroshot.sde import Schedule
from gnvc_vd.zeroshot.tail import counted_bytes

Mode = Literal["t2v", "i2v", "flf2v"]
StillName = Literal["av1", "factorized"]

MODES = get_args(Mode)
STILLS = get_args(StillName)
WIDTHS = (2, 5, 1, 1, 1, 1, 1, 7, 5, 8, 8, 16)
SIXTEENTHS = 16
MAX_TAIL = 31
MAX_SEED = (1 << 16) - 1
BYTES = sum(WIDTHS) // 8


@dataclass(frozen=True)
class Parameters:
    """Sampling parameters, which encoder and decoder share.

    Args:
        mode: conditioning on text alone (t2v), on the first frame too (i2v), or on the first and the last (flf2v).
        codebook: K, the number of atoms in a codebook.
        overlap: whether a chained GOP begins with the last frame of the GOP before. If not, as published, that frame
            is given as the GOP's first frame, although it is one frame earlier.
        withhold: whether latents whose frames are all given to the model get no atoms.
        still: codec of the given frames.
        gaussian: whether atoms are Gaussian, as published (gaussian_codebook.py), or ±1.
    """

    mode: Mode = "t2v"
    codebook: int = 16384
    schedule: Schedule = field(default_factory=Schedule)
    overlap: bool = True
    withhold: bool = False
    still: StillName = "av1"
    seed: int = 0
    gaussian: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.codebook <= MAX_SIZE or self.codebook & (self.codebook - 1):
            raise UsageError(f"a codebook holds a power of two of atoms up to {MAX_SIZE}, not {self.codebook}")
        good = self.schedule.tail <= MAX_TAIL and 0 <= self.seed <= MAX_SEED
        require(good, f"GVC's seeds are 0 to {MAX_SEED}, and the last ODE steps at most {MAX_TAIL}")
        for value in (self.schedule.shift, self.schedule.g_scale):
            whole = value * SIXTEENTHS == round(value * SIXTEENTHS)
            require(whole, f"shift and g_scale are multiples of 1/{SIXTEENTHS}, not {value}")

    @property
    def chained(self) -> bool:
        """Whether a scene's GOPs, after its first, are conditioned on a frame of the GOP before."""
        return self.mode != "t2v"

    @property
    def given(self) -> int:
        """Number of frames that the model is conditioned on."""
        return MODES.index(self.mode)

    @property
    def shared(self) -> int:
        """Number of frames that consecutive GOPs of a scene have in common."""
        return int(self.mode == "flf2v" or (self.mode == "i2v" and self.overlap))

    @property
    def withheld(self) -> tuple[int, ...]:
        """Latents without atoms: the first one, if its frame is given. Of the last latent's four frames only one is."""
        return (0,) if self.withhold and self.chained else ()

    def repeated_frames(self, first: bytes | None) -> int:
        """Number of a GOP's frames that the GOP before has shown already: none if it has a first still."""
        return self.shared if first is None else 0

    def open(self, unit: Unit) -> Content:
        """Parse a unit, which may be hostile, and check it against its hash."""
        for name in ("policy", "rotation", "sigma_0", "canvas"):
            value = getattr(unit, name)
            require(not value, f"GOP {unit.index} has {name} {value}, which GVC does not have", BitstreamError)
        parsed = PayloadParser(unit.payload)
        latents = latents_of(unit.frames + self.repeated_frames(parsed.first))
        counts = parsed.allotment.counts(latents, self.withheld)
        content = parsed.content(counts, self.schedule.stochastic, self.codebook)
        strange = content.first is not None and not self.chained
        if strange or (content.last is not None) != (self.mode == "flf2v"):
            raise BitstreamError(f"GOP {unit.index} does not hold the stills of its mode")
        require(symbol_hash(content) == unit.symbol_hash, "the symbols are not those that were coded", BitstreamError)
        return content

    def cost(self, unit: Unit) -> dict[str, int]:
        """Bytes of a unit's payload by their content, and of its enhancement if it has one."""
        content = self.open(unit)
        atoms = atom_bytes(content.counts, self.schedule.stochastic, self.codebook)
        stills = len(content.first or b"") + len(content.last or b"")
        parts = {"atoms": atoms, "stills": stills, "tail": len(content.residual or b"")}
        parts |= {"the rest": len(unit.payload) - sum(parts.values())}
        return parts | ({"enhancement": len(unit.enhancement)} if unit.enhancement else {})

    def published_bytes(self, unit: Unit) -> float:
        """Bytes of a unit as the authors' programs count them.

        They count S · F · M · (log2 K + 1) bits, FLF2V's stills and the levels of a tail residual, but not captions,
        the container, I2V's still, the further atoms of its tail, or the ranges of its residual.
        """
        content = self.open(unit)
        bits = self.schedule.stochastic * len(content.counts) * content.allotment.atoms * self.codebook.bit_length()
        stills = len(content.first or b"") + len(content.last or b"") if self.mode == "flf2v" else 0
        return bits / 8 + stills + counted_bytes(content.residual or b"")

    def pack(self) -> bytes:
        schedule = self.schedule
        values = (
            MODES.index(self.mode), self.codebook.bit_length() - 1, schedule.reuse, self.overlap, self.withhold,
            self.gaussian, STILLS.index(self.still), schedule.steps, schedule.tail,
            round(schedule.shift * SIXTEENTHS), round(schedule.g_scale * SIXTEENTHS), self.seed,
        )  # fmt: skip
        packed = 0
        for value, width in zip(values, WIDTHS, strict=True):
            packed = packed << width | int(value)
        return packed.to_bytes(BYTES, "big")

    @classmethod
    def parse(cls, data: bytes) -> "Parameters":
        require(len(data) == BYTES, f"{len(data)} bytes of parameters where GVC has {BYTES}", BitstreamError)
        packed, values = int.from_bytes(data, "big"), list[int]()
        for width in reversed(WIDTHS):
            values.insert(0, packed & ((1 << width) - 1))
            packed >>= width
        mode, size, reuse, overlap, withhold, gaussian, still, steps, tail, shift, g_scale, seed = values
        require(mode < len(MODES), "the header names a mode that this program does not know", BitstreamError)
        try:
            schedule = Schedule(steps, tail, shift / SIXTEENTHS, g_scale / SIXTEENTHS, bool(reuse))
            options = bool(overlap), bool(withhold), STILLS[still], seed, bool(gaussian)
            return cls(MODES[mode], 1 << size, schedule, *options)
        except UsageError as error:
            raise BitstreamError(f"the header's parameters are out of bounds: {error}") from error

    def describe(self) -> str:
        """The parameters in words."""
        schedule = self.schedule
        options = [name for name in ("overlap", "withhold") if getattr(self, name) and self.chained]
        options += ["reuse"] if schedule.reuse else []
        kind = "Gaussian atoms" if self.gaussian else "atoms"
        return (
            f"{self.mode}, {self.codebook} {kind} to choose from, {schedule.steps} steps ({schedule.tail} of the ODE), "
            f"shift {schedule.shift:g}, g_scale {schedule.g_scale:g}, seed {self.seed}"
            + (f", stills {self.still}" if self.chained else "")
            + "".join(f", {name}" for name in options)
        )
