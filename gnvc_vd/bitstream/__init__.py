"""The .gnvc container: a header, a unit per GOP, a closing unit; docs/format.md is its specification."""

from gnvc_vd.bitstream.layout import BitstreamError, CodecId, Damage, End, Header, Unit
from gnvc_vd.bitstream.stream import Reader, Writer, pack_stream

__all__ = ["BitstreamError", "CodecId", "Damage", "End", "Header", "Reader", "Unit", "Writer", "pack_stream"]
