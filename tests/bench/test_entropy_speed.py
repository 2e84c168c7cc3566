"""The entropy bench's rows of whole latent codecs: either direction of either kind, the coder a part of each."""

from gnvc_vd.bench.entropy_speed import add_codecs
from gnvc_vd.bench.harness import Report
from gnvc_vd.presets import preset


def test_each_latent_codec_has_rows_and_its_coder_a_part_of_them() -> None:
    report = Report("title")
    add_codecs(report, preset("nano"), ((32, 32),), "cpu")
    names = [f"{kind}_32x32_{verb}" for kind in ("contextual", "transform") for verb in ("encode", "decode")]
    assert list(report.figures) == [f"{name}_{part}" for name in names for part in ("s", "coder_s")]
    assert all(report.figures[f"{name}_coder_s"] > 0 for name in names)
    sizes = {row: text.split("; ")[1] for row, text in report.rows}
    for kind in ("contextual", "transform"):
        assert sizes[f"32×32, {kind}, encode"] == sizes[f"32×32, {kind}, decode"]
