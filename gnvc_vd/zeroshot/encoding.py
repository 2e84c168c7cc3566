"""GVC's encoder options, and the number of atoms for a rate or a quality."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gnvc_vd.bitstream import gop as gops
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, UsageError
from gnvc_vd.video import VideoInfo
from gnvc_vd.zeroshot.combinadic import MAX_ATOMS
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.payload import MAX_CAPTION, Allotment, atom_bytes
from gnvc_vd.zeroshot.tail import PUBLISHED

DEFAULT_GOP = 33
DEFAULT_ATOMS = 64
QUALITIES_PER_DOUBLING = 8  # of the number of atoms: quality 48 is 64 atoms
TAIL_LATENTS = 2
TAIL_FACTOR = 2
BESIDE = 48  # estimate of a unit's bytes beside atoms and stills


@dataclass(frozen=True)
class GvcEncodeOptions:
    """GVC's encoder options.

    Args:
        atoms: M, the number of atoms per step and latent; None: set by `bpp`, or 64 without a rate.
        bpp: target bits per pixel. Each GOP gets as many atoms as fit its share; bytes that it leaves, or takes too
            many, are added to or taken from the next GOP's share.
        tail_atoms: M of the last two latents of a chained I2V GOP; None: twice M.
        tail_step: code of the quantisation step for the last latent's residual (tail.py); None: no residual.
        still_quality: 0 to 63; None: it follows the number of atoms.
        caption: prompt of the model, stored in every GOP's unit; an empty one takes no bytes.
    """

    atoms: int | None = None
    bpp: float | None = None
    gop: int = DEFAULT_GOP
    scenecut: bool = True
    tail_atoms: int | None = None
    tail_step: int | None = None
    still_quality: int | None = None
    caption: str = ""
    parameters: Parameters = field(default_factory=Parameters)

    def __post_init__(self) -> None:
        gops.check_gop(self.gop)
        both = self.atoms is not None and self.bpp is not None
        require(not both, "a GVC stream is encoded at a number of atoms or at a rate, one of the two")
        for count in (self.atoms, self.tail_atoms):
            if count is not None and not 0 <= count <= min(MAX_ATOMS, self.parameters.codebook):
                size = self.parameters.codebook
                raise UsageError(f"{count} atoms cannot be chosen out of {size}, at most {min(MAX_ATOMS, size)} can")
        if self.tail_step is not None and not 0 <= self.tail_step <= PUBLISHED:
            raise UsageError(f"the tail's step is 0 to {PUBLISHED}, not {self.tail_step}")
        if self.still_quality is not None and not 0 <= self.still_quality < QUALITIES:
            raise UsageError(f"a still's quality is 0 to {QUALITIES - 1}, not {self.still_quality}")
        if len(self.caption.encode(errors="replace")) > MAX_CAPTION or not self.caption.isprintable():
            raise UsageError(f"a caption is one line of text, {MAX_CAPTION} bytes at most")
        require(self.gop > 1 or not self.parameters.shared, "GOPs that share a frame hold more than one")

    def target_bytes(self, info: VideoInfo, frames: int) -> float | None:
        """Target size of the whole file in bytes; None without a rate."""
        return None if self.bpp is None else self.bpp * info.width * info.height * frames / 8

    @property
    def fixed_atoms(self) -> int | None:
        """M of every GOP; None if `bpp` sets it for each GOP."""
        return DEFAULT_ATOMS if self.atoms is None and self.bpp is None else self.atoms

    def allotment(self, atoms: int) -> Allotment:
        """Numbers of atoms for a GOP's latents: `atoms`, but `tail_atoms` for the last latents of I2V."""
        if self.parameters.mode != "i2v":
            return Allotment(atoms)
        limit = min(MAX_ATOMS, self.parameters.codebook)
        tail = min(TAIL_FACTOR * atoms, limit) if self.tail_atoms is None else self.tail_atoms
        return Allotment(atoms, tail, TAIL_LATENTS)

    def largest_within(self, budget: float, latents: int, withheld: Sequence[int]) -> int:
        """The largest number of atoms whose bytes are within the budget, but at least one."""
        size, steps = self.parameters.codebook, self.parameters.schedule.stochastic
        high = min(MAX_ATOMS, size)
        if size <= 2 * MAX_ATOMS:
            high = max(1, size // 2)  # a set of more than half of the atoms takes fewer bits again

        def fits(atoms: int) -> bool:
            return atom_bytes(self.allotment(atoms).counts(latents, withheld), steps, size) <= budget

        return largest(1, high, fits)


def largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The largest of low … high that fits, by bisection; `low` is assumed to fit."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def atoms_of(quality: int) -> int:
    """Number of atoms for `--quality`: eight levels more are twice the atoms."""
    require(0 <= quality < QUALITIES, f"quality is 0 to {QUALITIES - 1}, not {quality}")
    return max(1, round(2 ** (quality / QUALITIES_PER_DOUBLING)))


def quality_of(atoms: int) -> int:
    """Quality nearest to a number of atoms; units record it, and stills are coded with it by default."""
    return min(range(QUALITIES), key=lambda quality: (abs(atoms_of(quality) - atoms), -quality))
