"""The page "Reproduce the paper" as it stands: every command of it, on a small set of UVG's names and shape."""

import csv
import json
import re
import runpy
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from hydra.core.global_hydra import GlobalHydra

import gnvc_vd
from gnvc_vd.evaluate.evaluation import evaluation_of
from gnvc_vd.evaluate.test_sets import ASSETS, read_manifest
from gnvc_vd.metrics import perceptual, weight_files
from tests.baselines.test_anchors import composed, standing_in
from tests.codecs.test_hub import Hub
from tests.conftest import smooth_clip
from tests.metrics.test_perceptual import trunk_files  # noqa: F401 - a fixture
from tests.metrics.test_weight_files import name_addresses
from tests.train.composing import composed_of

CHECKOUT = Path(gnvc_vd.__file__).parents[1]
FRAMES, WIDTH, HEIGHT = 17, 64, 48


def commands() -> list[list[str]]:
    page = (CHECKOUT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    block = re.search(r"## Reproduce the paper\n.*?```\n(.*?)```", page, re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in block[1].splitlines()]


def test_the_pages_commands_are_whole() -> None:
    """Three sets by one experiment, with the paper's conditions and its anchor."""
    found = commands()
    assert all(words[0] == "python" and (CHECKOUT / words[1]).is_file() for words in found)
    evaluations = [words[2:] for words in found if words[1] == "scripts/evaluate.py"]
    sets = [evaluation_of(composed_of("evaluate", *words)[0]) for words in evaluations]
    assert [one.manifest for one in sets] == ["uvg", "mcl-jcv", "hevc-b"]
    for one in sets:
        assert one.protocol == "gnvc-vd" and one.report.anchor == "vtm-ld" and "vtm-ld" in one.codecs
        assert one.folder == f"outputs/evaluate/paper-{one.manifest}" and len(one.report.published) == 7


def small_uvg(folder: Path) -> Path:
    """UVG's manifest with fewer and smaller frames, and its files."""
    whole = json.loads((ASSETS / "manifests" / "uvg.json").read_text(encoding="utf-8"))
    for seed, one in enumerate(whole["sequences"]):
        one.update(width=WIDTH, height=HEIGHT, frames=FRAMES)
        luma = [frame[..., 1] // 2 + 64 for frame in smooth_clip(HEIGHT, WIDTH, FRAMES, seed=seed)]
        planes = [(y, y[::2, ::2] // 4 + 96, y[1::2, 1::2] // 4 + 96) for y in luma]
        (folder / one["file"]).write_bytes(b"".join(plane.tobytes() for frame in planes for plane in frame))
    (folder / "uvg.json").write_text(json.dumps(whole))
    return folder / "uvg.json"


def networks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny ones with random weights on a hub, in the place of CLIP and VideoMAE."""
    from transformers import CLIPConfig, CLIPModel, VideoMAEConfig, VideoMAEForPreTraining

    from gnvc_vd.common.files import file_sha256

    torch.manual_seed(0)
    sides = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision = {**sides, "image_size": 32, "patch_size": 8, "projection_dim": 8}
    text = {**sides, "vocab_size": 99, "projection_dim": 8}
    video = VideoMAEConfig(**sides, image_size=16, patch_size=8, num_frames=4, decoder_num_hidden_layers=1)
    models = {
        "clip_f": CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)),
        "frechet": VideoMAEForPreTraining(video),
    }
    small = {}
    for metric, model in models.items():
        stated = weight_files.NETWORKS[metric]
        folder = root / stated.repository / stated.revision
        model.save_pretrained(folder)
        small[metric] = replace(stated, sha256=file_sha256(folder / "model.safetensors"))
    for module in ("gnvc_vd.metrics.weight_files", "gnvc_vd.evaluate.compare", "gnvc_vd.evaluate.run"):
        monkeypatch.setattr(f"{module}.NETWORKS", small)
    monkeypatch.setattr("huggingface_hub.snapshot_download", Hub(root).snapshot_download)


@pytest.mark.slow
def test_every_step_runs_on_a_small_uvg(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    trunk_files: dict[str, Path],  # noqa: F811
) -> None:
    films, out, vtm = tmp_path / "films", tmp_path / "out", tmp_path / "vtm"
    films.mkdir()
    manifest = small_uvg(films)
    networks(tmp_path / "hub", monkeypatch)
    raft = tmp_path / "raft-e3b0c442.pth"  # an empty file, which is fetched and not read
    raft.touch()
    files = {"AlexNet_Weights": trunk_files["alexnet-owt"], "VGG16_Weights": trunk_files["vgg16"]}
    name_addresses(files | {"Raft_Large_Weights": raft}, monkeypatch)
    for name, kind in (("ALEXNET", "alexnet-owt"), ("VGG16", "vgg16")):
        monkeypatch.setattr(perceptual, name, trunk_files[kind].name)
    for variable in ("TORCH_HOME", "GNVC_VD_WEIGHTS"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    standing_in("vtm-ld", replace(composed("vtm-ld"), checkout=str(vtm)), vtm)
    smaller = [
        *(f"manifest={manifest}", "name=paper-uvg", f"folder={out}", "sequences=[Beauty,Jockey]", "device=cpu"),
        *(f"frames={FRAMES}", "metrics=[psnr_rgb,ms_ssim,lpips_alex,lpips_vgg,dists,e_warp,flicker,clip_f,frechet]"),
        *("codecs.gnvc-vd.ours.models.0=nano", *(f"~codecs.gnvc-vd.ours.models.{level}" for level in (1, 2, 3))),
        *("~codecs.gnvc-vd-unrefined", "~codecs.x265", "~codecs.svt-av1", "~codecs.vvenc"),
        *(f"codecs.vtm-ld.external.checkout={vtm}", "codecs.vtm-ld.external.levels=[37,47]"),
    ]

    def call(words: list[str]) -> object:
        monkeypatch.setattr(sys, "argv", words)
        try:
            runpy.run_path(str(CHECKOUT / words[0]), run_name="__main__")
        except SystemExit as exited:
            return exited.code
        return 0

    fetch, check, evaluate, *_ = (words[1:] for words in commands())
    try:
        assert call(fetch) == 0
        assert len(capsys.readouterr().out.splitlines()) == 5
        assert call([str(films) if word == "UVG" else str(manifest) if word == "uvg" else word for word in check]) == 0
        assert "nothing lacks" in capsys.readouterr().out
        assert call([word.replace("root=UVG", f"root={films}") for word in evaluate] + smaller) == 0
        assert "6 points made here, 0 were there" in capsys.readouterr().out
    finally:
        GlobalHydra.instance().clear()
        PartialState._reset_state()
    with (out / "report" / "points.csv").open(encoding="utf-8", newline="") as table:
        points = [row for row in csv.DictReader(table) if row["sequence"] != "mean"]
    assert {(row["codec"], row["sequence"]) for row in points} == {
        (codec, sequence) for codec in ("gnvc-vd", "vtm-ld") for sequence in ("Beauty", "Jockey")
    }
    for row in points:
        stream = next((out / "streams" / row["codec"] / row["sequence"]).glob(f"{int(row['level']):02}.*"))
        assert float(row["bpp"]) == pytest.approx(8 * stream.stat().st_size / (WIDTH * HEIGHT * FRAMES), rel=1e-6)
        assert all(row[key] for key in ("lpips_alex", "lpips_vgg", "dists", "e_warp", "flicker", "clip_f", "frechet"))
        assert not row["ms_ssim"]  # the pictures are too small
    copies = [row for row in points if (row["codec"], row["level"]) == ("vtm-ld", "37")]
    assert all(float(row["psnr_rgb"]) == 100 and float(row["lpips_vgg"]) < 1e-6 for row in copies)
    told = (out / "report" / "tables.md").read_text(encoding="utf-8")
    assert "| frames | 96 | 17 (differs) |" in told and "| size | 1920 × 1080 | 64 × 48 (differs) |" in told
    assert "not at 6 of 6 points (differs)" in told and "| colour | bt709 limited | bt709 limited |" in told
    assert "Flicker by frequency" in told and "GVC-RT, published" in told and "VoRTeC, published" in told
    assert "17 frames of 64 × 48, 120 a second; our codecs in GOPs of 25" in told
    assert (out / "report" / "index.html").is_file() and (out / "report" / "lpips_vgg.pdf").is_file()
    assert len(read_manifest(str(manifest)).sequences) == 7
