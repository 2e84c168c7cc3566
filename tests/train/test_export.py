"""Runs become model folders that code, start the next phase, and hold the weights they should."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.bitstream import Unit
from gnvc_vd.codecs.load import load
from gnvc_vd.common.files import file_sha256
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.data.clips import ClipSpec
from gnvc_vd.learned.bottleneck.base import Payload
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.metrics.fidelity import psnr
from gnvc_vd.train.checkpoint import EMA, STATE, WEIGHTS
from gnvc_vd.train.export import HYDRA, export, load_run
from gnvc_vd.train.log import FIGURES, RUN, read_figures
from gnvc_vd.train.loop import train
from gnvc_vd.train.settings import Model, Rate
from gnvc_vd.train.setup import build
from gnvc_vd.train.stages.codec_stage import CodecStage
from gnvc_vd.video.pictures import write_picture
from gnvc_vd.video.pixels import to_frames, to_model
from tests.bitstream.streams import read
from tests.conftest import Cli, largest_difference, smooth_clip
from tests.learned.test_codec import decoded, encoded
from tests.train.runs import clips, training

UNFIT = "do not fit the described network"
CONFIGURATION = """
data:
  train: {parts: [{weight: 1.0, source: {_target_: gnvc_vd.data.procedural.ProceduralClips}}]}
  validation: null
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE, a transformer that starts from it, and codecs that start from both: two steps each, and their models."""
    root = tmp_path_factory.mktemp("runs")
    start: str | None = None
    for phase in ("vae", "prior", "warmup"):
        one = training(phase, 2, frames=5)
        train(replace(one, model=Model("nano", start)), clips, None, root / phase)
        (root / phase / ".hydra").mkdir()
        (root / phase / HYDRA).write_text(CONFIGURATION)
        start = str(root / "models" / phase)
        export(root / phase, Path(start))
    return root


def last(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def test_a_trained_vae_is_exported_averaged_and_its_latents_are_normalised(runs: Path) -> None:
    backbone = load_backbone(runs / "models" / "vae")
    average, live = (load_file(last(runs / "vae") / name) for name in (EMA, WEIGHTS))
    found = dict(backbone.vae.model.named_parameters())
    assert all(torch.equal(found[name.removeprefix("vae.model.")], value) for name, value in average.items())
    assert any(not torch.equal(average[name], live[name]) for name in average)
    assert backbone.note == "its transformer has random weights"
    source = clips(ClipSpec(5, 32, 32, flip=False, seed=1))  # as export draws them
    with torch.inference_mode():
        latents = torch.cat([backbone.vae.encode(to_model(source[number][None])) for number in range(64)])
    places = latents.transpose(0, 1).flatten(1)
    assert places.mean(1).abs().max().item() < 1e-3
    assert places.square().mean().sqrt().item() == pytest.approx(1, rel=1e-3)
    assert len(set(backbone.vae_preset.latents_std)) == 1  # channels keep their weight against each other
    raw = torch.cat([backbone.vae.posterior(to_model(source[number][None]))[0] for number in range(64)]).detach()
    own = raw.transpose(0, 1).flatten(1).std(1)
    assert torch.allclose(places.std(1) / own, (places.std(1) / own).mean(), rtol=1e-3)


def test_a_trained_transformer_is_exported_beside_the_vae_it_began_with(runs: Path) -> None:
    vae, prior = (load_backbone(runs / "models" / name) for name in ("vae", "prior"))
    assert prior.note == "" and prior.vae_preset == vae.vae_preset
    assert prior.hashes["vae.safetensors"] == vae.hashes["vae.safetensors"]
    average, found = load_file(last(runs / "prior") / EMA), dict(prior.dit.model.named_parameters())
    assert all(torch.equal(found[name.removeprefix("dit.model.")], value) for name, value in average.items())


def test_a_decoder_that_trained_alone_leaves_the_latents_and_their_transformer_as_they_were(
    runs: Path, tmp_path: Path
) -> None:
    one = training("vae", 2, frames=5, size=48)
    stage = replace(one.stage, trains=("decoder",))
    train(replace(one, stage=stage, model=Model("nano", str(runs / "models" / "prior"))), clips, None, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model", clips=[])
    before, after = load_backbone(runs / "models" / "prior"), load_backbone(tmp_path / "model")
    assert after.vae_preset == before.vae_preset
    assert after.hashes["dit.safetensors"] == before.hashes["dit.safetensors"]
    moved = {
        name
        for (name, value), other in zip(before.vae.model.named_parameters(), after.vae.model.parameters(), strict=True)
        if not torch.equal(value, other)
    }
    assert moved and all(name.startswith(("decoder.", "post_quant_conv.")) for name in moved)


@pytest.fixture(scope="module")
def light(runs: Path) -> Path:
    """A light decoder that learned for two steps from the VAE of these runs, beside their transformer."""
    start = str(runs / "models" / "prior")
    one = replace(training("light", 2, frames=5), model=Model("nano", start, teacher=start, light_decoder=16))
    train(one, clips, clips, runs / "light")
    export(runs / "light", runs / "models" / "light", clips=[])
    return runs / "models" / "light"


def test_a_light_decoder_is_exported_behind_wans_encoder_and_beside_wans_transformer(runs: Path, light: Path) -> None:
    before, after = load_backbone(runs / "models" / "prior"), load_backbone(light)
    assert after.vae_preset == replace(before.vae_preset, light_decoder=16)
    assert after.hashes["dit.safetensors"] == before.hashes["dit.safetensors"]
    encoders = (one.vae.model.get_submodule("encoder").state_dict() for one in (before, after))
    assert all(torch.equal(a, b) for a, b in zip(*(one.values() for one in encoders), strict=True))
    average = load_file(last(runs / "light") / EMA)
    learned = {name for name in average if not name.startswith("teacher.matrices.")}
    decoder = dict(after.vae.model.get_submodule("decoder").named_parameters())
    assert learned == {f"vae.model.decoder.{name}" for name in decoder} and len(average) == len(learned) + 4
    assert all(torch.equal(value, average[f"vae.model.decoder.{name}"]) for name, value in decoder.items())
    validated = read_figures(runs / "light" / FIGURES)[-1]["validation_psnr"]
    assert validated == -json.loads((last(runs / "light") / STATE).read_text())["score"]
    clip = to_model(clips(ClipSpec(5, 32, 32, flip=False, seed=1))[0][None])
    with torch.inference_mode():  # against the teacher's pictures, as levels
        latents = before.vae.encode(clip)
        shown = [to_frames(one.vae.decode(latents)[0]) for one in (before, after)]
    assert validated == pytest.approx(psnr(*shown), abs=1e-3)
    again = training("light")
    with pytest.raises(UsageError, match="its encoder is not the one"):
        build(replace(again, model=Model("nano", str(light), teacher="nano")))
    goes_on = build(replace(again, model=Model("nano", str(light), teacher=str(runs / "models" / "prior"))))
    found = dict(goes_on.vae.model.get_submodule("decoder").named_parameters())
    assert all(torch.equal(value, found[name]) for name, value in decoder.items())


def test_symbols_of_a_codec_on_wans_vae_are_the_same_with_a_light_decoder(
    runs: Path, light: Path, tmp_path: Path
) -> None:
    """As the encoder is the same; what is shown is the light decoder's."""
    export(runs / "warmup", tmp_path / "codec", backbone=str(light))
    wans, fast = load(runs / "models" / "warmup"), load(tmp_path / "codec")
    assert fast.coded_identity == wans.coded_identity and fast.backbone.vae_preset.light_decoder == 16
    streams = [encoded(codec, smooth_clip(32, 48, 5), EncodeOptions(40)) for codec in (wans, fast)]
    payloads = [[one.payload for one in read(stream) if isinstance(one, Unit)] for stream in streams]
    assert payloads[0] == payloads[1] and len(payloads[0][0]) > 20
    shown = [decoded(codec, stream) for codec, stream in zip((wans, fast), streams, strict=True)]
    assert shown[1].shape == (5, 32, 48, 3) and largest_difference(*shown) > 8
    assert np.array_equal(decoded(fast, streams[0], allow_other_weights=True), shown[1])  # streams that were there


def test_a_trained_codec_codes_as_the_run_that_it_was_exported_from(runs: Path) -> None:
    codec, average = load(runs / "models" / "warmup"), load_file(last(runs / "warmup") / EMA)
    state = codec.bottleneck.state_dict()
    assert average and all(
        torch.equal(state[name.removeprefix("bottleneck.")], value) for name, value in average.items()
    )
    vae = load_backbone(runs / "models" / "vae")
    assert codec.backbone.hashes["vae.safetensors"] == vae.hashes["vae.safetensors"]
    payloads, decoded = codec.bottleneck.compress(torch.randn(1, 16, 2, 4, 4, generator=generator()), [0, 63])
    coded = payloads[0]
    again = list(codec.bottleneck.decompress([coded.data], [coded.symbol_hash], (4, 4), [0, 63]))
    assert all(torch.equal(one.latent, other.latent) for one, other in zip(decoded, again, strict=True))


def test_an_encoder_may_round_with_another_thrift_than_in_training(runs: Path, tmp_path: Path) -> None:
    for thrift in (None, 0.5):
        export(runs / "warmup", tmp_path / str(thrift), thrift=thrift)
    plain, thrifty = (load(tmp_path / str(thrift)) for thrift in (None, 0.5))
    assert (plain.bottleneck.thrift, thrifty.bottleneck.thrift) == (0.0, 0.5)
    assert plain.coded_identity == thrifty.coded_identity  # either decodes what the other encodes
    latents = torch.randn(1, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    sizes = [len(one.bottleneck.compress(latents, [40] * 3)[0][0].data) for one in (plain, thrifty)]
    assert sizes[1] < sizes[0]


def test_a_codec_is_put_on_another_transformer_of_its_vae(runs: Path, tmp_path: Path) -> None:
    one = replace(training("prior", 2, frames=5), seed=1, model=Model("nano", str(runs / "models" / "vae")))
    train(one, clips, None, tmp_path / "prior")
    export(tmp_path / "prior", tmp_path / "backbone")
    export(runs / "warmup", tmp_path / "codec", backbone=str(tmp_path / "backbone"))
    before, moved, after = (
        load_backbone(one) for one in (runs / "models" / "prior", tmp_path / "backbone", tmp_path / "codec")
    )
    assert after.hashes == moved.hashes and after.hashes["dit.safetensors"] != before.hashes["dit.safetensors"]
    whole, other = load(runs / "models" / "warmup"), load(tmp_path / "codec")
    assert other.coded_identity == whole.coded_identity and other.refinement == whole.refinement
    adaptors = (one.refiner.adaptor() for one in (whole, other))
    assert all(torch.equal(a, b) for a, b in zip(*(one.values() for one in adaptors), strict=True))
    with pytest.raises(UsageError, match="its VAE is not the one"):
        export(runs / "warmup", tmp_path / "no", backbone="nano")
    with pytest.raises(UsageError, match="only a codec"):
        export(runs / "prior", tmp_path / "no", backbone=str(tmp_path / "backbone"))


def test_what_trains_behind_the_symbols_leaves_every_integer_and_the_qualities_as_they_were(
    runs: Path, tmp_path: Path
) -> None:
    one = training("warmup", 2, frames=5)
    stage = replace(one.stage, trains=("codec",))
    started = replace(one, model=Model("nano", str(runs / "models" / "prior"), "transform", "measured"), stage=stage)
    train(started, clips, None, tmp_path / "started")
    drawn = [clips(ClipSpec(5, 32, 32, flip=False, seed=1))[number] for number in range(2)]
    export(tmp_path / "started", tmp_path / "start", refit=True, half=True, clips=drawn)
    pixel = training("pixel", 2, frames=5)
    stage = replace(pixel.stage, trains=("correction", "decoder"), unrolled=0)
    goes_on = replace(pixel, model=Model("nano", str(tmp_path / "start"), "transform"), stage=stage)
    train(goes_on, clips, None, tmp_path / "on")
    export(tmp_path / "on", tmp_path / "end")
    before, after = load(tmp_path / "start"), load(tmp_path / "end")
    assert after.coded_identity == before.coded_identity and after.shown_identity != before.shown_identity


def test_a_codec_may_leave_its_backbone_where_it_is(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNVC_VD_WEIGHTS", str(tmp_path / "weights"))
    published = tmp_path / "weights" / "a--video-model@main"
    shutil.copytree(runs / "models" / "prior", published)
    export(runs / "warmup", tmp_path / "codec", backbone="a/video-model", refers=True, highest_quality=40)
    assert not (tmp_path / "codec" / "dit.safetensors").exists()
    whole, slim = load(runs / "models" / "warmup"), load(tmp_path / "codec")
    assert slim.backbone.hashes == whole.backbone.hashes and slim.shown_identity == whole.shown_identity
    assert slim.name == str(tmp_path / "codec") and slim.refinement.highest_quality == 40
    for name in (None, str(published)):
        with pytest.raises(UsageError, match="by its preset or hub id"):
            export(runs / "warmup", tmp_path / "no", backbone=name, refers=True)
    (published / "vae.safetensors").write_bytes((runs / "models" / "vae" / "dit.safetensors").read_bytes())
    with pytest.raises(GnvcError, match=r"is not the (file|stated)"):
        load(tmp_path / "codec")


def test_half_the_size_keeps_what_decides_symbols(runs: Path, tmp_path: Path) -> None:
    export(runs / "warmup", tmp_path / "half", half=True)
    whole, half = load(runs / "models" / "warmup"), load(tmp_path / "half")
    assert half.coded_identity == whole.coded_identity and half.shown_identity != whole.shown_identity
    for one, other in ((whole.backbone.vae, half.backbone.vae), (whole.refiner, half.refiner)):
        rounded = dict(other.named_parameters())
        assert all(torch.equal(rounded[name], value.half().float()) for name, value in one.named_parameters())
    rounded, exact = half.bottleneck.state_dict(), whole.bottleneck.state_dict()
    for name, value in exact.items():
        layer, _, part = name.rpartition(".")
        if f"{layer}.weight_integers" in exact and part in ("weight", "bias"):  # what the integers stand for
            scale = torch.exp2(exact[f"{layer}.shift"].double())
            integers = exact[f"{layer}.{part}_integers"].double().view(len(scale), -1)
            units = scale[:, None] * (64 if part == "bias" else 1)
            value = (integers / units).float().view_as(value)
        kept = value.half().float() if part == "weight" else value
        assert torch.equal(rounded[name], kept) and rounded[name].dtype == value.dtype, name
    for file, least, most in (("vae.safetensors", 0.5, 0.6), ("codec.safetensors", 0.0, 0.75)):
        sizes = [(folder / file).stat().st_size for folder in (runs / "models" / "warmup", tmp_path / "half")]
        assert least < sizes[1] / sizes[0] < most, file


def test_a_packed_codec_goes_on_training_from_what_its_integers_stand_for(runs: Path, tmp_path: Path) -> None:
    export(runs / "warmup", tmp_path / "half", half=True)
    one = training("warmup", 2, frames=5)
    stage = build(replace(one, model=Model("nano", str(tmp_path / "half"))))
    assert isinstance(stage, CodecStage)
    frozen = stage.codec()
    known = load(tmp_path / "half")
    for name, value in known.bottleneck.state_dict().items():
        if name.endswith(("weight_integers", "bias_integers")):  # frozen again, no integer moves but by a finer scale
            layer = name.rpartition(".")[0]
            shifts = [of.bottleneck.state_dict()[f"{layer}.shift"] for of in (known, frozen)]
            finer = torch.exp2((shifts[0] - shifts[1]).double())[:, None]
            again = frozen.bottleneck.state_dict()[name].double().view(len(finer), -1)
            assert torch.equal(again * finer, value.double().view(len(finer), -1)), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors | {"shift": tensors["shift"] * -100}, "holds a number that is not finite"),
        (lambda tensors: tensors | {"shift": tensors["shift"][:1]}, UNFIT),
        (
            lambda tensors: tensors | {"weight_integers": tensors["weight_integers"][:, :1]},
            UNFIT,
        ),
        (
            lambda tensors: {name: tensors[name] for name in tensors if name != "weight_integers"},
            UNFIT,
        ),
    ],
)
def test_a_packed_stranger_is_refused_in_one_sentence(
    runs: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], reason: str
) -> None:
    export(runs / "warmup", tmp_path / "half", half=True)
    path = tmp_path / "half" / "codec.safetensors"
    tensors = load_file(path)
    layer = next(name for name in tensors if name.endswith(".weight_integers")).removesuffix("weight_integers")
    own = {name.removeprefix(layer): value for name, value in tensors.items() if name.startswith(layer)}
    others = {name: value for name, value in tensors.items() if not name.startswith(layer)}
    changed = {f"{layer}{name}": value.contiguous() for name, value in change(own).items()}
    save_file(others | changed, path)
    description = json.loads((tmp_path / "half" / "model.json").read_text())
    description["codec"]["files"]["codec.safetensors"] = file_sha256(path)
    (tmp_path / "half" / "model.json").write_text(json.dumps(description))
    with pytest.raises(GnvcError, match=reason):
        load(tmp_path / "half")


@pytest.mark.slow
@pytest.mark.parametrize("light_decoder", [False, True])
def test_the_command_line_codes_with_an_exported_folder(
    runs: Path, light: Path, light_decoder: bool, tmp_path: Path, cli: Cli
) -> None:
    folder = runs / "models" / "warmup"
    if light_decoder:
        folder = tmp_path / "codec"
        export(runs / "warmup", folder, backbone=str(light))
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(smooth_clip(32, 48, 5)):
        write_picture(tmp_path / "frames" / f"{number:03}.png", frame)
    model = ("--model", folder)
    done = cli("encode", tmp_path / "frames", tmp_path / "a.gnvc", "--quality", 20, *model)
    assert done.returncode == 0, done.stderr
    done = cli("decode", tmp_path / "a.gnvc", tmp_path / "out", "--no-refine", *model)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
    assert cli("decode", tmp_path / "a.gnvc", tmp_path / "b", "--model", "nano").returncode == 1


def test_the_live_weights_or_an_earlier_checkpoint_can_be_asked_for(runs: Path, tmp_path: Path) -> None:
    one = training("warmup", 4, frames=5)
    train(one, clips, None, tmp_path / "run")
    checkpoints = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert [path.name for path in checkpoints] == ["step-00000002", "step-00000004"]
    early, step = load_run(tmp_path / "run", checkpoints[0], "live")
    wanted = load_file(checkpoints[0] / WEIGHTS)
    found = dict(early.named_parameters())
    assert step == 2 and all(torch.equal(found[name], value) for name, value in wanted.items())
    assert load_run(tmp_path / "run")[1] == 4


def test_a_codec_of_one_rate_codes_at_it_whatever_the_quality(tmp_path: Path) -> None:
    one = replace(training("warmup", 2, frames=5), rate=Rate(0.5, 0.5, quality=50, thrift=0.07))
    train(one, clips, None, tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model")
    bottleneck = load(tmp_path / "model").bottleneck
    latents = torch.randn(1, 16, 2, 4, 4, generator=generator())
    low, high = (bottleneck.compress(latents, [quality] * 2)[0][0].data for quality in (0, 63))
    assert low == high and bottleneck.thrift == 0.07
    with pytest.raises(UsageError, match="all qualities"):
        export(tmp_path / "run", tmp_path / "other", refit=True)


def test_a_refitted_export_has_the_rates_it_says(runs: Path, tmp_path: Path) -> None:
    done = export(runs / "warmup", tmp_path / "model", refit=True, name="refitted")
    assert done.refit is not None and done.step == 2
    codec = load(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["name"] == "refitted"
    source = clips(ClipSpec(5, 32, 32, flip=False, seed=1))
    with torch.inference_mode():
        latents = torch.cat([codec.backbone.vae.encode(to_model(source[number][None])) for number in range(8)])
    rates = [rate(codec.bottleneck.compress(latents, [quality] * 2)[0]) for quality in (0, 21, 42, 63)]
    assert rates == sorted(rates)
    assert rates == pytest.approx([done.refit.expected[quality] for quality in (0, 21, 42, 63)], rel=0.1)


def test_what_cannot_be_exported_is_refused_in_a_sentence(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(GnvcError, match=r"run\.json: missing"):
        export(tmp_path / "nothing", tmp_path / "model")
    empty = tmp_path / "empty"
    empty.mkdir()
    record = json.loads((runs / "warmup" / RUN).read_text())
    (empty / RUN).write_text(json.dumps(record))
    with pytest.raises(GnvcError, match="no checkpoint there"):
        export(empty, tmp_path / "model")
    (empty / RUN).write_text(json.dumps(record | {"pickle": ""}))
    with pytest.raises(GnvcError, match="not the record of a run"):
        load_run(empty)
    record["training"]["stage"]["mood"] = "good"
    (empty / RUN).write_text(json.dumps(record))
    with pytest.raises(GnvcError, match="unknown key 'mood'"):
        load_run(empty)
    with pytest.raises(UsageError, match="all qualities"):
        export(runs / "vae", tmp_path / "model", refit=True)
    with pytest.raises(GnvcError, match="do not fit the parameters that train"):
        export(runs / "warmup", tmp_path / "model", checkpoint=last(runs / "vae"))
    assert not (tmp_path / "model").exists()


def test_other_peoples_files_are_never_replaced(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(UsageError, match="other things than a model"):
        export(runs / "warmup", tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"
    with pytest.raises(UsageError, match="a file"):
        export(runs / "warmup", tmp_path / "thesis" / "chapter.txt")
    export(runs / "warmup", tmp_path / "model")
    (tmp_path / "model" / "codec.safetensors").unlink()
    export(runs / "warmup", tmp_path / "model")  # a model folder may be
    assert load(tmp_path / "model").name


def test_a_run_that_hydra_did_not_start_has_no_clips_of_its_own(tmp_path: Path) -> None:
    one = training("vae", 2, frames=5)
    train(one, clips, None, tmp_path / "run")
    with pytest.raises(GnvcError, match="clips are not known"):
        export(tmp_path / "run", tmp_path / "model")
    spec = ClipSpec(5, 32, 32)
    export(tmp_path / "run", tmp_path / "model", clips=[clips(spec)[number] for number in range(4)])
    assert json.loads((last(tmp_path / "run") / STATE).read_text())["step"] == 2
    assert load_backbone(tmp_path / "model").vae_preset.latents_std != (1.0,) * 16


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rate(payloads: list[Payload]) -> float:
    return sum(payload.estimated_bits for payload in payloads) / (len(payloads) * 5 * 32 * 32)
