"""Precomputed latents are the VAE's of the same clips, and of no other VAE."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gnvc_vd import load_backbone
from gnvc_vd.backbone.wan_vae import WanVae
from gnvc_vd.backbone.weights import Options
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.data.latents import LatentClips, LatentIndex, encoder_identity, precompute
from gnvc_vd.data.procedural import ProceduralClips
from gnvc_vd.data.samples import Clips, item_of
from gnvc_vd.video.pixels import to_model
from tests.conftest import names_beside
from tests.data.material import film, numbered, run_script

SPEC = ClipSpec(frames=5, height=16, width=32)


@pytest.fixture(scope="module")
def vae() -> WanVae:
    return load_backbone("nano").vae


@pytest.fixture(scope="module")
def computed(vae: WanVae, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips in shards of two."""
    folder = tmp_path_factory.mktemp("latents") / "out"
    precompute(ProceduralClips(SPEC), vae, folder, index_of(vae), batch=1)
    return folder


def index_of(vae: WanVae, **changed: object) -> LatentIndex:
    return replace(LatentIndex(encoder_identity(vae), SPEC, "made up", count=5, half=False, shard=2), **changed)


class Counting(Clips):
    """Made-up clips, and which of them were asked for."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.clips, self.asked, self.fails_at = ProceduralClips(SPEC), [], fails_at

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> Tensor:
        if number == self.fails_at:
            raise RuntimeError("the power went out")
        self.asked.append(number)
        return self.clips[number]


def test_latents_are_the_vaes_of_the_same_clips(vae: WanVae, computed: Path) -> None:
    latents, clips = LatentClips(computed, encoder_identity(vae), seed=4), ProceduralClips(SPEC)
    assert len(latents) == 5 and names_beside(computed) == [
        "index.json",
        *(f"latents-0000{k}.safetensors" for k in range(3)),
    ]
    for number in range(10):
        with torch.inference_mode():
            wanted = vae.encode(to_model(clips[item_of(number, 5, 4)][None]))[0]
        assert latents[number].shape == (16, 2, 2, 4) and latents[number].dtype == torch.float32
        assert torch.equal(latents[number], wanted)


def test_half_precision_is_a_rounding(vae: WanVae, computed: Path, tmp_path: Path) -> None:
    precompute(ProceduralClips(SPEC), vae, tmp_path / "half", index_of(vae, half=True), batch=2)
    whole, half = LatentClips(computed, encoder_identity(vae)), LatentClips(tmp_path / "half", encoder_identity(vae))
    assert load_file(tmp_path / "half" / "latents-00000.safetensors")["latents"].dtype == torch.float16
    for number in range(5):
        assert half[number].dtype == torch.float32
        assert torch.allclose(half[number], whole[number], rtol=2**-10, atol=1e-3)


def test_smaller_clips_are_cut_out_of_larger_ones_at_another_place_in_every_pass(vae: WanVae, computed: Path) -> None:
    whole = LatentClips(computed, encoder_identity(vae), seed=4)
    cut = LatentClips(computed, encoder_identity(vae), seed=4, clip=ClipSpec(frames=1, height=16, width=16))
    places = set()
    for number in range(40):
        of = whole[number][:, :1]
        fits = [x for x in range(3) if torch.equal(cut[number], of[:, :, :, x : x + 2])]
        assert len(fits) == 1 and torch.equal(cut[number], cut[number])
        places.add((number % 5, *fits))
    assert len({place for _, place in places}) == 3 and len(places) > 9
    with pytest.raises(GnvcError, match=r"latents of 5 frames 32×16, too small for 5 frames 16×32"):
        LatentClips(computed, encoder_identity(vae), clip=ClipSpec(frames=5, height=32, width=16))


def test_interrupted_work_goes_on_where_it_stopped(vae: WanVae, computed: Path, tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(RuntimeError, match="power"):
        precompute(Counting(fails_at=3), vae, tmp_path, index_of(vae))
    assert names_beside(tmp_path) == ["index.json", "latents-00000.safetensors"]
    with pytest.raises(GnvcError, match="2 of 3 shards are not computed yet"):
        LatentClips(tmp_path, encoder_identity(vae))
    rest = Counting()
    precompute(rest, vae, tmp_path, index_of(vae), on_done=done.append)
    assert rest.asked == [2, 3, 4] and sum(done) == 5
    for name in names_beside(computed):
        assert (tmp_path / name).read_bytes() == (computed / name).read_bytes()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"half": True}, "half"),
        ({"count": 6, "source": "other"}, "source, count"),
        ({"clip": replace(SPEC, seed=1)}, "clip"),
    ],
)
def test_a_folder_of_other_latents_is_not_gone_on_with(
    vae: WanVae, computed: Path, changed: dict[str, object], said: str
) -> None:
    before = names_beside(computed)
    with pytest.raises(UsageError, match=f"latents with another {said}"):
        precompute(ProceduralClips(SPEC), vae, computed, index_of(vae, **changed))
    assert names_beside(computed) == before


def test_a_folder_of_other_things_is_left_alone(vae: WanVae, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match="holds other things than latents"):
        precompute(ProceduralClips(SPEC), vae, tmp_path, index_of(vae))
    assert names_beside(tmp_path) == ["thesis.txt"]


def test_another_vaes_latents_are_refused(vae: WanVae, computed: Path) -> None:
    other = load_backbone("nano").vae
    with torch.no_grad():
        next(other.model.encoder.parameters()).add_(0.5)
    with pytest.raises(GnvcError, match=r"holds latents of VAE \w{12}…, not of \w{12}…; compute them again"):
        LatentClips(computed, encoder_identity(other))
    with pytest.raises(GnvcError, match="not of 0000"):
        LatentClips(computed, "0" * 64)
    assert len(LatentClips(computed, encoder_identity(vae))) == 5


def test_a_decoder_that_learned_on_leaves_latents_what_they_are(vae: WanVae, computed: Path) -> None:
    other = load_backbone("nano").vae
    with torch.no_grad():
        for name, parameter in other.model.named_parameters():
            parameter.add_(0.5 * name.startswith(("decoder.", "post_quant_conv.")))
    assert encoder_identity(other) == encoder_identity(vae) and len(LatentClips(computed, encoder_identity(other))) == 5


def test_a_vae_is_itself_in_any_precision_and_another_with_other_statistics(vae: WanVae) -> None:
    assert encoder_identity(load_backbone("nano", Options(vae_encoder=torch.bfloat16)).vae) == encoder_identity(vae)
    other = load_backbone("nano").vae
    other.std.mul_(1.1)
    assert encoder_identity(other) != encoder_identity(vae) and len(encoder_identity(vae)) == 64


def test_shards_that_are_not_what_the_index_says_are_refused(vae: WanVae, computed: Path, tmp_path: Path) -> None:
    def copied(change: str) -> Path:
        folder = tmp_path / change
        folder.mkdir()
        for name in names_beside(computed):
            (folder / name).write_bytes((computed / name).read_bytes())
        return folder

    shape = copied("shape")
    save_file({"latents": torch.zeros(2, 16, 2, 2, 2)}, shape / "latents-00001.safetensors")
    with pytest.raises(GnvcError, match=r"holds latents \[2, 16, 2, 2, 2\], the index says \[2, 16, 2, 2, 4\]"):
        LatentClips(shape, encoder_identity(vae))
    torn = copied("torn")
    (torn / "latents-00002.safetensors").write_bytes((computed / "latents-00002.safetensors").read_bytes()[:-9])
    with pytest.raises(GnvcError, match="not a shard of latents"):
        LatentClips(torn, encoder_identity(vae))
    index = copied("index")
    said = json.loads((index / "index.json").read_text())
    for key, value, message in (("format", 2, "format 2"), ("count", 0, "counts are 1"), ("more", 1, "unknown key")):
        (index / "index.json").write_text(json.dumps(said | {key: value}))
        with pytest.raises(GnvcError, match=message):
            LatentClips(index, encoder_identity(vae))
    with pytest.raises(GnvcError, match="missing"):
        LatentClips(tmp_path, encoder_identity(vae))


def test_numbers_that_are_not_finite_are_not_stored(tmp_path: Path) -> None:
    broken = load_backbone("nano").vae
    broken.std.zero_()
    with pytest.raises(GnvcError, match="not finite for samples 0 to 1"):
        precompute(ProceduralClips(SPEC), broken, tmp_path, index_of(broken))
    assert names_beside(tmp_path) == ["index.json"]


def test_the_script_computes_what_training_reads(
    vae: WanVae, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "films").mkdir()
    film(tmp_path / "films" / "a.mkv", numbered(9))
    (tmp_path / "films" / "b.mp4").write_bytes(b"no film")
    command = [tmp_path / "films", tmp_path / "out", "--size", 16, 32, "--count", 3, "--device", "cpu", "--frames"]
    assert run_script("scripts/precompute_latents.py", *command, 5) == 0
    out, err = capsys.readouterr()
    assert out.strip() == f"{tmp_path / 'out'}: latents of 3 clips"
    assert "left out: b.mp4 cannot be read" in err
    assert len(LatentClips(tmp_path / "out", encoder_identity(vae))) == 3
    assert run_script("scripts/precompute_latents.py", *command, 6) == 2
    assert capsys.readouterr().err.strip() == "precompute_latents: a clip of 6 frames is not 1 + 4k"
