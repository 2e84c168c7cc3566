"""The codec's bench: rows and figures for every way, stages that are really watched, and missing encoders said."""

from cProfile import Profile
from functools import partial
from types import SimpleNamespace

import pytest
import torch

import gnvc_vd
from gnvc_vd.backbone.decoder_precision import decoder_dtype
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.bench import codec_speed
from gnvc_vd.bench.codec_speed import HYBRIDS, measure, stage_shares
from gnvc_vd.bench.harness import waves
from gnvc_vd.learned.codec import EncodeOptions


def test_shares_are_of_what_the_stages_functions_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves by 1 in each step of the VAE's encoder, by 5 in each entropy coding and by 3 between."""
    codec, clock = gnvc_vd.load("nano"), [0.0]

    def slow(part: object, name: str, seconds: float) -> None:
        work = getattr(part, name)

        def slowly(*arguments: object) -> object:
            clock[0] += seconds
            return work(*arguments)

        monkeypatch.setattr(part, name, slowly)

    slow(codec.backbone.vae, "moments", 1)
    slow(codec.bottleneck, "_tables", 5)
    slow(codec, "encode_gop", 3)
    monkeypatch.setattr(codec_speed, "Profile", partial(Profile, lambda: clock[0]))

    def work() -> SimpleNamespace:
        begun = clock[0]
        (gop,) = codec.latents(iter(waves(32, 9)), EncodeOptions(20, scenecut=False, canvas="off"))
        codec.encode_gop(0, gop, 20)
        return SimpleNamespace(seconds=clock[0] - begun)

    with torch.inference_mode():
        assert stage_shares(work) == {"VAE": 3 / 11, "transform and entropy": 5 / 11}


@pytest.mark.slow
def test_every_way_has_its_row_and_a_missing_encoder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    hybrids = {"x265 medium": HYBRIDS["x265 medium"], "x265 none": Hybrid("x265", (37,), preset="none")}
    monkeypatch.setattr(codec_speed, "HYBRIDS", hybrids)
    monkeypatch.setattr(codec_speed, "ROUNDS", 1)
    monkeypatch.setattr(codec_speed, "FRAMES", 5)
    monkeypatch.setattr(codec_speed, "STEPS", (0, 1))
    report = measure(sizes=((64, 64),))
    auto = decoder_dtype("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    kinds = ["float32"] if auto is torch.float32 else ["float32", "bfloat16"]
    ways = [f"64×64, decode, L = {steps}, {kind}" for steps in (0, 1) for kind in kinds]
    rows = dict(report.rows)
    rivals = ["64×64, encode, x265 medium", "64×64, decode, x265 medium", "64×64, x265 none"]
    assert list(rows) == ["64×64, encode", *ways, *rivals]
    assert rows["64×64, x265 none"].startswith("missing: ")
    assert "refinement" in rows[ways[-1]] and "refinement" not in rows[ways[0]]
    assert ("× float32" in rows[ways[-1]]) == (len(kinds) > 1)
    fps = {f"codec_64x64_{way}_fps" for way in ("encode", "encode_x265_medium", "decode_x265_medium")}
    fps |= {f"codec_64x64_decode_l_{steps}_{kind}_fps" for steps in (0, 1) for kind in kinds}
    assert set(report.figures) == fps
    assert "reading" in rows["64×64, encode"] and "writing" in rows[ways[0]]
