"""A committed payload decodes to its committed symbols for as long as the arithmetic has the same version.

GNVC_VD_REFRESH_GOLDEN=1 writes it anew, and only after ARITHMETIC (or the tables, or the presets) changed on purpose.
"""

import json
import os
from pathlib import Path

import pytest

from gnvc_vd.learned.bottleneck.schema import ARITHMETIC, coded_identity
from tests.learned.bottleneck.models import from_generator, latents

GOLDEN = Path(__file__).parents[2] / "golden" / "payload.json"
SIZE, QUALITY = (10, 14), [50, 20, 35, 63]


def refresh() -> None:
    if GOLDEN.exists() and json.loads(GOLDEN.read_text())["arithmetic"] == ARITHMETIC:
        pytest.fail("the golden payload may change only with ARITHMETIC")
    model = from_generator()
    (payload,), _ = model.compress(latents(1, len(QUALITY), *SIZE), QUALITY)
    golden = {
        "arithmetic": ARITHMETIC,
        "identity": coded_identity(model).hex(),
        "symbol_hash": payload.symbol_hash.hex(),
        "payload": payload.data.hex(),
    }
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


def test_the_golden_payload_decodes_to_its_symbols() -> None:
    if os.environ.get("GNVC_VD_REFRESH_GOLDEN"):
        refresh()
    golden, model = json.loads(GOLDEN.read_text()), from_generator()
    assert golden["arithmetic"] == ARITHMETIC
    assert coded_identity(model).hex() == golden["identity"]
    out = model.decompress([bytes.fromhex(golden["payload"])], [bytes.fromhex(golden["symbol_hash"])], SIZE, QUALITY)
    assert len(list(out)) == len(QUALITY)
