"""Measures, each defined once: fidelity, perception, flicker, BD-rate. docs/evaluation.md states every definition."""

from gnvc_vd.conventions import GnvcError


class UnavailableError(GnvcError):
    """A metric cannot run here; the sentence says why, and names the file it wants where that is the reason."""


def check_sides(smallest: int, width: int, height: int, owner: str = "") -> None:
    """Refuse pictures that a metric cannot see enough of."""
    if min(width, height) < smallest:
        raise UnavailableError(f"{owner}needs pictures of at least {smallest} pixels each way, not {width}×{height}")
