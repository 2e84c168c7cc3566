"""Stills of compressai's factorized prior: its own pictures in as many bytes, and nothing hostile gets through."""

import copy
import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from compressai.models import FactorizedPrior
from safetensors.torch import save_file

from gnvc_vd.bitstream import BitstreamError, pack_stream
from gnvc_vd.conventions import GnvcError, UsageError
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.parameters import Parameters
from gnvc_vd.zeroshot.payload import PayloadParser
from gnvc_vd.zeroshot.stills import Factorized
from lab.gaussian_prior import gaussian_prior
from tests.bitstream.streams import mutated
from tests.codecs.test_transcode import NANO, here, video
from tests.conftest import Cli, noise_clip, smooth_clip
from tests.zeroshot.test_codec import how, info, shown, stream

WIDTH, HEIGHT = 160, 128


@pytest.fixture(scope="module")
def network() -> FactorizedPrior:
    """Random weights, scaled until symbols are many, and some beyond their tables."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FactorizedPrior(8, 12).eval().requires_grad_(False)
        network.g_a[6].weight.mul_(60)
        for quantiles in network.entropy_bottleneck.quantiles:  # tables as uneven as trained ones
            quantiles[0] += torch.tensor([4.3, 0.4, -6.2])
    network.update(force=True)
    return network


@pytest.fixture(scope="module")
def weights(network: FactorizedPrior, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stills") / "still.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


@pytest.fixture(scope="module")
def stills(weights: Path) -> Factorized:
    return Factorized(weights)


def test_pictures_are_compressais_and_so_is_the_number_of_bytes(network: FactorizedPrior, stills: Factorized) -> None:
    (frame,) = noise_clip(HEIGHT, WIDTH, 1)
    coded = network.compress(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255)
    theirs = network.decompress(coded["strings"], coded["shape"])["x_hat"][0]
    ours = stills.encode(frame, 0)
    assert network.entropy_bottleneck._offset.min() != -network.entropy_bottleneck._offset.max()
    assert np.array_equal(stills.decode(ours, WIDTH, HEIGHT), (255 * theirs).round().byte().permute(1, 2, 0).numpy())
    assert len(coded["strings"][0][0]) > 100 and len(ours) == pytest.approx(len(coded["strings"][0][0]), rel=0.05)


def test_hostile_stills_are_refused_or_shown(stills: Factorized) -> None:
    good, random, ends = stills.encode(noise_clip(HEIGHT, WIDTH, 1)[0], 0), Random(3), [0, 0]
    for _ in range(150):
        try:
            ends[0] += stills.decode(mutated(good, random), WIDTH, HEIGHT).shape == (HEIGHT, WIDTH, 3)
        except BitstreamError:
            ends[1] += 1
    assert ends[1] > 50 and sum(ends) == 150
    with pytest.raises(BitstreamError):
        stills.decode(good, 2048, 2048)


@pytest.mark.parametrize("mode", ["i2v", "flf2v"])
def test_a_stream_names_its_still_codec_and_its_weights(
    stills: Factorized, network: FactorizedPrior, mode: str, tmp_path: Path
) -> None:
    prior, frames = gaussian_prior(), smooth_clip(32, 32, 5)
    codec = Gvc(prior, stills)
    data = stream(codec, frames, how(mode, still="factorized"))  # type: ignore[arg-type]
    assert shown(codec, data).shape == (5, 32, 32, 3)
    for asked in (False, True):
        with pytest.raises(BitstreamError, match="stills of 'factorized': give the file of their weights"):
            shown(Gvc(prior), data, allow_other_weights=asked)
    other = copy.deepcopy(network)
    other.g_s[6].bias += 0.1
    torch.save(other.state_dict(), tmp_path / "other.pth.tar")
    strange = Gvc(prior, Factorized(tmp_path / "other.pth.tar"))
    with pytest.raises(BitstreamError, match="gaussian with these still weights has"):
        shown(strange, data)
    assert shown(strange, data, allow_other_weights=True).shape == (5, 32, 32, 3)
    with pytest.raises(UsageError, match="stills of av1 are asked for"):
        stream(codec, frames, how(mode))  # type: ignore[arg-type]


def test_under_a_rate_the_atoms_take_what_the_stills_leave(stills: Factorized, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Gvc(gaussian_prior(), stills)
    encoding = how("flf2v", still="factorized", atoms=None, bpp=0.3)
    coded: list[int] = []
    encode = stills.encode
    monkeypatch.setattr(stills, "encode", lambda frame, quality: coded.append(quality) or encode(frame, quality))
    (unit,) = codec.encode_units(iter(smooth_clip(32, 32, 5)), encoding)
    assert len(coded) == 2  # no search for a quality that there is not
    parsed = PayloadParser(unit.payload)
    assert parsed.first == stills.encode(smooth_clip(32, 32, 1)[0], 63)
    whole = len(pack_stream(codec.header(info(), encoding), [unit]))
    assert whole <= 0.3 * 5 * 32 * 32 / 8 < whole + 30


def test_files_that_are_no_such_weights_are_refused(network: FactorizedPrior, tmp_path: Path) -> None:
    good = network.state_dict()
    bare = FactorizedPrior(8, 12).state_dict()
    falling = good | {"entropy_bottleneck._quantized_cdf": good["entropy_bottleneck._quantized_cdf"].flip(1)}
    short = {name: value for name, value in good.items() if name != "g_s.6.bias"}
    for wrong, said in (
        (bare, "no tables"),
        (falling, "does not rise"),
        (short, "Missing key"),
        ({"x": torch.zeros(1)}, "layers of 0 and 0"),
    ):
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(GnvcError, match="bmshj2018-factorized") as error:
            Factorized(tmp_path / "wrong.pth")
        assert said in str(error.value), said
    with pytest.raises(GnvcError, match="no such file"):
        Factorized(tmp_path / "none.safetensors")


def test_the_header_says_which_still_codec() -> None:
    assert Parameters.parse(Parameters("i2v", still="factorized").pack()).still == "factorized"
    assert "stills factorized" in Parameters("i2v", still="factorized").describe()


@pytest.mark.slow
def test_still_weights_from_the_command_line(
    cli: Cli, capfd: pytest.CaptureFixture[str], tmp_path: Path, weights: Path
) -> None:
    source, coded = video(tmp_path / "in.mkv", smooth_clip(16, 16, 5)), tmp_path / "o.gnvc"
    gvc = ["--codec", "gvc", "--sde-steps", "2", "--ode-tail", "1", "--atoms", "4", "--still-weights", weights]
    assert here(capfd, "encode", source, coded, "--mode", "flf2v", *gvc)[0] == 0
    assert json.loads(cli("verify", coded, *NANO, "--still-weights", weights, "--json").stdout)["drifts"] == {"0": 0.0}
    code, out, _ = here(capfd, "verify", coded, "--json")
    assert code == 0 and "drifts" not in json.loads(out)
    code, _, messages = here(capfd, "decode", coded, tmp_path / "x.mkv")
    assert code == 1 and "give the file of their weights with --still-weights" in messages
    code, _, messages = here(capfd, "encode", source, coded, "--mode", "t2v", *gvc)
    assert code == 2 and "modes with given frames" in messages
    code, _, messages = here(capfd, "encode", source, coded, "--mode", "i2v", *gvc, "--still-quality", "3")
    assert code == 2 and "one quality" in messages
    plain = tmp_path / "plain.gnvc"
    assert here(capfd, "encode", source, plain, "--mode", "i2v", *gvc[:-2])[0] == 0
    assert (
        here(capfd, "decode", plain, tmp_path / "x.mkv", "--still-weights", weights)[0] == 0
    )  # which it does not need
