"""Probes and studies: scripts that answer a question once. Not installed; run from the checkout."""
