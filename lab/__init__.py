"""Probes and studies: scripts that answer a question once. Not installed: in a checkout, python -m lab.NAME."""
