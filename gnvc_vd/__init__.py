"""Generative video compression: GNVC-VD and GVC on one backbone.

Importing the package costs nothing; its public names resolve when they are first used (PEP 562).
"""

import importlib

PUBLIC = {
    "Colour": "gnvc_vd.conventions",
    "DecodeOptions": "gnvc_vd.bitstream.playback",
    "EncodeOptions": "gnvc_vd.learned.codec",
    "GnvcError": "gnvc_vd.conventions",
    "GvcEncodeOptions": "gnvc_vd.zeroshot.encoding",
    "RawVideo": "gnvc_vd.video",
    "create_video": "gnvc_vd.video",
    "load": "gnvc_vd.codecs.load",
    "load_backbone": "gnvc_vd.backbone.weights",
    "load_gvc": "gnvc_vd.codecs.load",
    "open_video": "gnvc_vd.video",
}

__all__ = list(PUBLIC)
__version__ = "0.2.0"


def __getattr__(name: str) -> object:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *PUBLIC]
