"""Compiled networks compute what they do eager, to rounding, each shape compiled once; what cannot be is a sentence.

Most of it is compiled by torch without C++ (`aot_eager`), which takes seconds; one decode is compiled whole.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import gnvc_vd
from gnvc_vd.backbone.compiling import compiled
from gnvc_vd.backbone.streaming import VideoVae
from gnvc_vd.backbone.tiles import Tiling
from gnvc_vd.backbone.weights import Options, random_backbone
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.load import load_gvc, save
from gnvc_vd.conventions import Colour, GnvcError, UsageError
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.learned.refine.refiner import Refiner
from gnvc_vd.presets import UNIT_MEAN, UNIT_STD, AdaptorPreset, VaePreset, preset
from gnvc_vd.video import Video, VideoInfo, open_video
from tests.conftest import Cli, smooth_clip

NANO = preset("nano")
LIGHT = replace(NANO, vae=VaePreset(8, UNIT_MEAN, UNIT_STD, architecture="light"))
ROUNDING = 1e-5


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Counter[str]]]:
    """What torch counts of its compiler, from nothing on, without a C++ compiler."""
    from torch._dynamo import reset
    from torch._dynamo.utils import counters

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    reset()
    counters.clear()
    yield counters
    reset()


def decoded(vae: VideoVae, latents: Tensor) -> Tensor:
    with torch.inference_mode():
        return vae.decode(latents)


def draws(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes)))


def test_the_light_decoders_step_is_compiled_twice_for_each_size(counts: dict[str, Counter[str]]) -> None:
    """A clip's first latent and all that follow."""
    eager, quick = (random_backbone(LIGHT, Options(compile=compile)).vae for compile in (False, True))
    for graphs, latents in ((2, draws(1, 16, 4, 3, 5)), (3, draws(1, 16, 1, 2, 4)), (3, draws(1, 16, 5, 3, 5))):
        assert torch.allclose(decoded(quick, latents), decoded(eager, latents), rtol=0, atol=ROUNDING)
        assert counts["stats"]["unique_graphs"] == graphs
    assert not counts["graph_break"]


def test_equal_blocks_of_the_transformer_and_of_the_adaptor_are_compiled_once(
    counts: dict[str, Counter[str]],
) -> None:
    """Ten blocks, five of an adaptor of which the first is another's kind; whatever σ and the context are."""
    sizes = replace(NANO, dit=replace(NANO.dit, layers=10), adaptor=AdaptorPreset((0, 2, 4, 6, 8)))
    refiners = []
    for compile in (False, True):
        dit = random_backbone(sizes, Options(compile=compile)).dit
        torch.manual_seed(0)
        refiners.append(Refiner(dit, sizes.adaptor, 8).eval().requires_grad_(False))
        for parameter in refiners[-1].dit.model.parameters():
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    window = draws(1, 16, 3, 4, 6), draws(1, 8, 3, 4, 6), draws(1, 16, 3, 4, 6)
    for sigma, context in ((0.3, None), (0.1, draws(1, 16, 1, 4, 6))):
        with torch.inference_mode():
            eager, quick = (refiner(*window, sigma, 2, context) for refiner in refiners)
        assert torch.allclose(quick, eager, rtol=0, atol=ROUNDING)
        assert (quick - window[0][:, :, -quick.shape[2] :]).abs().mean() > 0.05  # it was refined
        assert counts["stats"]["unique_graphs"] == 3
    assert not counts["graph_break"]


@pytest.mark.slow
def test_wans_decoder_is_compiled_for_the_first_latent_the_second_and_the_rest(
    counts: dict[str, Counter[str]],
) -> None:
    eager, quick = (random_backbone(NANO, Options(compile=compile)).vae for compile in (False, True))
    latents = draws(1, 16, 5, 2, 3)
    assert torch.allclose(decoded(quick, latents), decoded(eager, latents), rtol=0, atol=ROUNDING)
    assert counts["stats"]["unique_graphs"] == 3
    tiles = [random_backbone(NANO, Options(compile=compile, tiling=Tiling(32, 24))).vae for compile in (False, True)]
    eager, quick = tiles
    latents = draws(1, 16, 1, 2, 7)  # three tiles: two of four columns, and one
    assert torch.allclose(decoded(quick, latents), decoded(eager, latents), rtol=0, atol=ROUNDING)
    assert counts["stats"]["unique_graphs"] == 5
    assert not counts["graph_break"]


def test_a_compiler_that_is_missing_is_one_sentence() -> None:
    import torch._inductor.config as inductor

    double = compiled(lambda x: 2 * x + 1)
    said = r"torch cannot compile here, so leave compiling out: .*No working C\+\+ compiler"
    nothing = inductor.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True})
    with nothing, pytest.raises(GnvcError, match=said):
        double(torch.ones(3))


def test_no_decoder_that_follows_its_encoders_floats_is_compiled() -> None:
    with pytest.raises(UsageError, match="GVC's decoder follows its encoder's floats: leave compiling out"):
        load_gvc("nano", Options(compile=True))


def test_compiled_gops_are_decoded_one_by_one() -> None:
    info = VideoInfo(16, 16, Fraction(25), None, Colour("bt709", "limited"), "", "")
    for compile in (False, True):
        codec = gnvc_vd.load("nano", Options(compile=compile))
        decoder = codec.decoder(codec.header(info, EncodeOptions()))
        assert decoder.decodes_ahead == (not compile)


@pytest.mark.slow
def test_a_file_is_decoded_compiled(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One latent of it, by a C++ compiler, in a process that imported diffusers without torch's compiler."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    backbone, bottleneck = random_backbone(LIGHT), gnvc_vd.load("nano").bottleneck
    refiner = Refiner(backbone.dit, AdaptorPreset(()), bottleneck.preset.features)
    codec = GnvcVd("light nano", backbone, bottleneck, bytes(4), lambda: refiner)
    save(codec, tmp_path / "model", "light nano")
    codec = gnvc_vd.load(tmp_path / "model")
    info = VideoInfo(50, 34, Fraction(25), None, Colour("bt709", "limited"), "", "")
    stream = codec.encode(Video(info, ((frame, None) for frame in smooth_clip(34, 50, 1))), quality=40)
    (tmp_path / "in.gnvc").write_bytes(stream)
    words = ("--model", tmp_path / "model", "--precision", "fp32", "--steps", "1", "--json", "--compile")
    done = cli("decode", tmp_path / "in.gnvc", tmp_path / "out", *words)
    assert done.returncode == 0 and json.loads(done.stdout)["compiled"] is True, done.stderr
    with open_video(tmp_path / "out") as found:
        frames = np.stack(list(found)).astype(int)
    wanted, plain = (
        np.concatenate(list(codec.decode(stream, DecodeOptions(steps=1, refine=refine)))) for refine in (True, False)
    )
    assert np.abs(frames - wanted).max() <= 1 and (frames != wanted).mean() < 1e-3
    assert (wanted != plain).mean() > 0.1
