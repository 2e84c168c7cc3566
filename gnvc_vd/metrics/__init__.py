"""Measures, each defined once: fidelity, perception, flicker, BD-rate. docs/evaluation.md states every definition."""

from gnvc_vd.conventions import GnvcError


class UnavailableError(GnvcError):
    """A metric cannot run here; the sentence says why, and names the file it wants where that is the reason."""
