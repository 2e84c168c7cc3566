"""The codec's bench: rows and figures for every way, stages that are really watched, and missing encoders said."""

import time
from collections.abc import Iterator

import pytest
import torch

import gnvc_vd
from gnvc_vd.backbone.decoder_precision import decoder_dtype
from gnvc_vd.baselines.hybrid import Hybrid
from gnvc_vd.bench import codec_speed
from gnvc_vd.bench.codec_speed import HYBRIDS, Material, measure, stage_times
from gnvc_vd.bench.harness import square_info, waves
from gnvc_vd.conventions import UsageError
from gnvc_vd.learned.codec import EncodeOptions


def test_stage_times_are_those_of_the_parts_and_the_codec_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that each watched call of the VAE moves by 1 and each decoded latent by 10."""
    codec, clock = gnvc_vd.load("nano"), [0.0]
    vae, bottleneck = type(codec.backbone.vae), type(codec.bottleneck)
    encode_step, decompress = vae.encode_step, bottleneck.decompress

    def slow_step(*arguments: object) -> object:
        clock[0] += 1
        return encode_step(*arguments)

    def slow_latents(*arguments: object) -> Iterator[object]:
        for latent in decompress(*arguments):
            clock[0] += 10
            yield latent

    monkeypatch.setattr(vae, "encode_step", slow_step)
    monkeypatch.setattr(bottleneck, "decompress", slow_latents)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    settings = EncodeOptions(20, scenecut=False, canvas="off")
    with stage_times(codec) as times, torch.inference_mode():
        (gop,) = codec.latents(iter(waves(32, 9)), settings)
        unit = codec.encode_gop(0, gop, 20, settings)
        decoded = list(codec.decoder(codec.header(square_info(32), settings)).symbols(unit))
    assert dict(times) == {"VAE": 3, "transform and entropy": 30} and len(decoded) == 3
    assert not {"encode_step", "decode_step"} & set(vars(codec.backbone.vae))


@pytest.mark.slow
def test_every_way_has_its_row_and_a_missing_encoder_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    rivals = {"x265 medium": HYBRIDS["x265 medium"], "x265 none": Hybrid("x265", (37,), preset="none")}
    monkeypatch.setattr(codec_speed, "HYBRIDS", rivals)
    monkeypatch.setattr(codec_speed, "ROUNDS", 1)
    report = measure(material=Material(((64, 64),), 5, (0, 1)))
    auto = decoder_dtype("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    kinds = ["float32"] if auto is torch.float32 else ["float32", "bfloat16"]
    ways = [f"64×64, decode, L = {steps}, {kind}" for steps in (0, 1) for kind in kinds]
    rows = dict(report.rows)
    assert [name for name in rows if name != "auto"] == [
        "64×64, encode", *ways, "64×64, files alone", "64×64, x265 medium", "64×64, x265 none"
    ]  # fmt: skip
    assert rows["64×64, x265 none"].startswith("missing: ")
    assert "refinement" in rows[ways[-1]] and "refinement" not in rows[ways[0]]
    fps = {f"codec_64x64_{way}_fps" for way in ("encode", "x265_medium_encode", "x265_medium_decode")}
    fps |= {f"codec_64x64_decode_{steps}_{kind}_fps" for steps in (0, 1) for kind in kinds}
    assert {key for key in report.figures if key.endswith("_fps")} == fps


def test_odd_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="sizes must be even"):
        Material(((64, 63),))
