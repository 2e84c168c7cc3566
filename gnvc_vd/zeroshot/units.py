"""A unit's payload read as its stream's header says: how many latents there are, who gets atoms, what must be there."""

from dataclasses import dataclass

from gnvc_vd.bitstream import BitstreamError, Unit
from gnvc_vd.bitstream import gop as gops
from gnvc_vd.zeroshot.modes import withheld
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.payload import Allotment, Content, Parsed, atom_bytes, symbol_hash


@dataclass(frozen=True)
class Opened:
    """A GOP before its first step.

    Args:
        repeated: frames at its beginning that the GOP before has shown.
        counts: atoms of each latent at each stochastic step.
    """

    content: Content
    repeated: int
    counts: tuple[int, ...]
    atom_bytes: int

    @property
    def latents(self) -> int:
        return len(self.counts)


def opened(parameters: Parameters, unit: Unit) -> Opened:
    """A unit, which may be hostile, checked against its hash."""
    if unit.policy:
        raise BitstreamError(f"GOP {unit.index} has policy {unit.policy}, which GVC does not have")
    parsed = Parsed(unit.payload)
    fresh = not parameters.chained or parsed.first is not None
    repeated = 0 if fresh else parameters.shared
    counts = counts_of(parameters, parsed.allotment, gops.latents_of(unit.frames + repeated))
    steps, size = parameters.schedule.stochastic, parameters.codebook
    content = parsed.content(counts, steps, size)
    strange = content.first is not None and not parameters.chained
    if strange or (content.last is not None) != (parameters.mode == "flf2v"):
        raise BitstreamError(f"GOP {unit.index} does not hold the stills of its mode")
    if symbol_hash(content) != unit.symbol_hash:
        raise BitstreamError("the symbols are not those that were coded")
    return Opened(content, repeated, tuple(counts), atom_bytes(counts, steps, size))


def counts_of(parameters: Parameters, allotment: Allotment, latents: int) -> list[int]:
    return allotment.counts(latents, withheld(parameters.mode) if parameters.withhold else ())
