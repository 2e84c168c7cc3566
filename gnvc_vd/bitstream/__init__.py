"""The .gnvc container: a header, a unit per GOP, a closing unit; docs/format.md is its specification."""

from gnvc_vd.bitstream.layout import BitstreamError, CodecId, Damage, End, Header, Unit
from gnvc_vd.bitstream.stream import MAX_PIXELS, Reader, Writer

__all__ = ["MAX_PIXELS", "BitstreamError", "CodecId", "Damage", "End", "Header", "Reader", "Unit", "Writer"]
