"""What a GVC encoder decides, and how many atoms a rate or a quality buys."""

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
QUALITIES_PER_DOUBLING = 8  # of the atoms: quality 48 is 64
TAIL_LATENTS = 2
TAIL_FACTOR = 2
BESIDE = 48  # bytes of a unit that are neither atoms nor stills, about


@dataclass(frozen=True)
class GvcEncodeOptions:
    """
    Args:
        atoms: M; None leaves it to `bpp`, and without a rate is 64.
        bpp: each GOP gets as many atoms as its share of the rate buys, and what one leaves goes to the next,
            or what it took too much: nobody foresees a residual.
        tail_atoms: of the last two latents of a chained I2V GOP; None is twice M.
        tail_step: the code of the step with which the last latent's error is coded (tail.py), None codes none.
        still_quality: 0 to 63; None follows the atoms.
        caption: what the model is told of the pictures; every GOP's unit holds it. The empty one costs nothing.
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
        """Of the whole file of so many frames, under a rate."""
        return None if self.bpp is None else self.bpp * info.width * info.height * frames / 8

    @property
    def fixed_atoms(self) -> int | None:
        """M of every GOP; None under a rate."""
        return DEFAULT_ATOMS if self.atoms is None and self.bpp is None else self.atoms

    def allotment(self, atoms: int) -> Allotment:
        """Of a GOP with this many atoms for most latents."""
        if self.parameters.mode != "i2v":
            return Allotment(atoms)
        limit = min(MAX_ATOMS, self.parameters.codebook)
        tail = min(TAIL_FACTOR * atoms, limit) if self.tail_atoms is None else self.tail_atoms
        return Allotment(atoms, tail, TAIL_LATENTS)

    def largest_within(self, budget: float, latents: int, withheld: Sequence[int]) -> int:
        """The most atoms whose bytes do not pass the budget, and one at least."""
        size, steps = self.parameters.codebook, self.parameters.schedule.stochastic
        high = min(MAX_ATOMS, size)
        if size <= 2 * MAX_ATOMS:
            high = max(1, size // 2)  # beyond half, a set costs less again

        def fits(atoms: int) -> bool:
            return atom_bytes(self.allotment(atoms).counts(latents, withheld), steps, size) <= budget

        return largest(1, high, fits)


def largest(low: int, high: int, fits: Callable[[int], bool]) -> int:
    """The last of low … high that fits, where all before it do; the lowest one is not asked."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def atoms_of(quality: int) -> int:
    """`--quality` under GVC: eight levels double the atoms."""
    require(0 <= quality < QUALITIES, f"quality is 0 to {QUALITIES - 1}, not {quality}")
    return max(1, round(2 ** (quality / QUALITIES_PER_DOUBLING)))


def quality_of(atoms: int) -> int:
    """The level that stands nearest to a number of atoms: what units say, and what stills follow."""
    return min(range(QUALITIES), key=lambda quality: (abs(atoms_of(quality) - atoms), -quality))
