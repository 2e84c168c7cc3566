"""The study of a codec that starts as a transform code, end to end at a small size."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

import gnvc_vd
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.latents import LatentIndex, encoder_identity, precompute
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.video.pictures import read_picture
from lab import study_transform

VIDEO = str(Path(gnvc_vd.__file__).parent / "assets" / "clips" / "city.mp4")


def test_a_codec_that_was_kept_codes_as_it_did_when_its_training_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_transform, "LEVELS", (0, 63))
    vae, spec = load_backbone("nano").vae, ClipSpec(frames=25, height=32, width=32)
    index = LatentIndex(encoder_identity(vae), spec, "made up", count=3, half=True, shard=3)
    precompute(ProceduralClips(spec), vae, tmp_path / "latents", index)
    kept, sheet = tmp_path / "codec.safetensors", tmp_path / "sheet.png"
    common, made = ["nano", VIDEO, "--size", "64"], ["--latents", str(tmp_path / "latents"), "--steps", "2"]
    assert study_transform.main([*common, *made, "--out", str(kept)]) == 0
    after = capsys.readouterr().out.split("step 2,")[1]
    assert study_transform.main([*common, "--start", str(kept), "--sheet", str(sheet)]) == 0
    again = capsys.readouterr().out.split("step 0:")[1]
    points = after.splitlines()[1:]
    assert len(points) == 3 and again.splitlines()[1 : len(points) + 1] == points
    assert load_file(kept)["rotation.turn"].any()  # a start that is only measured has none
    strip, flicker = 4 * 64, 64
    assert read_picture(sheet).shape == (strip + 8 + flicker + 8, max(5 * 64, 4 * 25 * 4), 3)


def test_it_needs_a_beginning_and_says_what_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "codec.safetensors").write_bytes(b"none of ours")
    strange = ["--start", str(tmp_path / "codec.safetensors")]
    for options, code, said in (([], 2, "--latents"), (strange, 1, "no codec")):
        assert study_transform.main(["nano", VIDEO, "--size", "64", *options]) == code
        assert said in capsys.readouterr().err
