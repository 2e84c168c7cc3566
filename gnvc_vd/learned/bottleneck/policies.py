"""How quality is spread over a GOP's latents: a pattern that both sides know, named in the unit by its number."""

from typing import Literal

from gnvc_vd.conventions import QUALITIES

Policy = Literal["constant", "hierarchical"]
# Offsets from the GOP's quality: for the anchor, then a pattern that the latents after it repeat.
PATTERNS: dict[Policy, tuple[int, tuple[int, ...]]] = {
    "constant": (0, (0,)),
    "hierarchical": (6, (-4, 0, -4, 4)),
}
POLICIES = tuple(PATTERNS)  # the place in it is the number in the unit


def qualities(base: int, latents: int, policy: Policy = "constant") -> list[int]:
    """Every latent's quality, within 0…63."""
    anchor, pattern = PATTERNS[policy]
    offsets = [anchor, *(pattern[index % len(pattern)] for index in range(latents - 1))]
    return [min(max(base + offset, 0), QUALITIES - 1) for offset in offsets]
