"""Metrics: fidelity, perceptual quality, flicker, BD-rate. docs/evaluation.md defines each of them."""

from gnvc_vd.conventions import GnvcError


class UnavailableError(GnvcError):
    """A metric cannot run; the message has the reason, and the file if one is missing."""


def check_sides(smallest: int, width: int, height: int, owner: str = "") -> None:
    """Refuse pictures that are too small for a metric."""
    if min(width, height) < smallest:
        raise UnavailableError(f"{owner}needs pictures of at least {smallest} pixels each way, not {width}×{height}")
