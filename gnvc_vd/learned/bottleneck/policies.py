"""Quality policies: patterns of quality offsets over a GOP's latents, stored in the unit as a number."""

from typing import Literal

from gnvc_vd.conventions import QUALITIES

Policy = Literal["constant", "hierarchical"]
# Offsets from the GOP's quality: the anchor's, and a pattern that is repeated for later latents.
PATTERNS: dict[Policy, tuple[int, tuple[int, ...]]] = {"constant": (0, (0,)), "hierarchical": (6, (-4, 0, -4, 4))}
POLICIES = tuple(PATTERNS)  # a policy's index is its number in the unit


def qualities(base: int, latents: int, policy: Policy = "constant") -> list[int]:
    """The quality of each latent, 0…63."""
    anchor, pattern = PATTERNS[policy]
    offsets = [anchor, *(pattern[index % len(pattern)] for index in range(latents - 1))]
    return [min(max(base + offset, 0), QUALITIES - 1) for offset in offsets]
