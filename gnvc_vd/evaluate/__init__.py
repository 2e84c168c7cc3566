"""Measuring: speed and memory (bench), and what the codecs achieve."""
