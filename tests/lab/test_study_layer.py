"""A layer in a file: another process decodes the encoder's own frames, and damaged ones are refused in a sentence."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gnvc_vd.backbone import flow
from gnvc_vd.bitstream import BitstreamError, Unit, pack_stream
from gnvc_vd.codecs.load import load
from gnvc_vd.conventions import Frame
from gnvc_vd.learned.codec import EncodeOptions, GnvcVd
from gnvc_vd.video import open_video
from gnvc_vd.video.pixels import to_frames
from lab.coded_files import decode_apart, info_of
from lab.study_layer import (
    SIZE,
    Base,
    Layer,
    add_layer,
    assembled,
    base_of,
    books,
    main,
    parse_layer,
    sampled,
    show_layer,
)

FRAMES = 9
LAYERS = (Layer("shape", 1.0, 1, 4), Layer("refiner", 0.1, 2, 4), Layer("backbone", 0.3, 2, 8))


@dataclasses.dataclass(frozen=True)
class Coded:
    """A clip's base unit and its units with layers, and the frames that their encoder knows."""

    codec: GnvcVd
    clean: torch.Tensor
    unit: Unit
    layered: dict[Layer, tuple[Unit, Frame]]

    def stream(self, unit: Unit) -> bytes:
        clip = np.zeros((FRAMES, 32, 48, 3), np.uint8)
        return pack_stream(self.codec.header(info_of(clip), EncodeOptions()), [unit])


@pytest.fixture(scope="module")
def coded() -> Coded:
    codec, draws = load("nano"), np.random.default_rng(0)
    clip = draws.integers(0, 256, (FRAMES, 32, 48, 3), dtype=np.uint8)
    (gop,) = codec.latents(clip, EncodeOptions(scenecut=False))
    unit = codec.encode_gop(0, gop, 20)
    base, layered = base_of(codec, codec.header(info_of(clip), EncodeOptions()), unit), {}
    for layer in LAYERS:
        added, latents = add_layer(codec, base, gop, unit, layer)
        layered[layer] = added, to_frames(codec.backbone.vae.decode(latents)[0])
    return Coded(codec, gop.latents, unit, layered)


def given() -> tuple[Base, torch.Tensor]:
    torch.manual_seed(0)
    clean = torch.randn(1, 16, 2, 8, 8)
    return Base(clean + 0.5 * torch.randn_like(clean), torch.zeros(1, 1, 2, 8, 8)), clean


def test_a_perfect_model_reaches_the_clean_latents_from_any_noise() -> None:
    base, clean = given()
    asked = list[int]()

    def noise(number: int, estimate: torch.Tensor) -> torch.Tensor:
        asked.append(number)
        return torch.randn_like(estimate)

    reached = sampled(base, Layer("backbone", 0.3, 3, 4), lambda x, sigma: (x - clean) / sigma, noise)
    assert torch.allclose(reached, clean, atol=1e-5) and asked == [0, 1, 2]
    one = torch.randn_like(clean)
    still = sampled(base, Layer("backbone", 0.3, 1, 4), lambda x, sigma: torch.zeros_like(x), lambda *_: one)
    assert torch.allclose(still, flow.start_point(base.latents, one, 0.3))


def test_chosen_noise_has_unit_variance_and_points_at_what_is_missing() -> None:
    base, clean = given()
    missing = (clean - base.latents)[0].unbind(1)
    choices = [book.select(one, 4) for book, one in zip(books(0, clean), missing, strict=True)]
    z = assembled(choices, 0, clean)
    assert torch.allclose(z.square().mean((1, 3, 4)), torch.ones(1, 2), atol=1e-5)
    for one, wanted in zip(z[0].unbind(1), missing, strict=True):
        cosine = (one * wanted).sum() / (one.norm() * wanted.norm())
        assert cosine > 0.1  # of 1024 coordinates; what is drawn blindly has 0.03 or less


def test_a_layer_s_size_is_its_head_its_lengths_and_gvc_s_count_of_atoms(coded: Coded) -> None:
    bits = math.ceil(math.log2(math.comb(SIZE, 4))) + 4
    shape, refiner, backbone = (len(unit.enhancement) for unit, _ in coded.layered.values())
    assert shape == 5 + 3 + math.ceil(3 * bits / 8)
    assert refiner == 5 + math.ceil(2 * 3 * bits / 8)
    assert backbone == 5 + math.ceil(2 * 3 * (math.ceil(math.log2(math.comb(SIZE, 8))) + 8) / 8)


def test_a_shape_brings_the_latents_nearer_than_its_base(coded: Coded) -> None:
    unit, _ = coded.layered[LAYERS[0]]
    header = coded.codec.header(info_of(np.zeros((FRAMES, 32, 48, 3), np.uint8)), EncodeOptions())
    base = base_of(coded.codec, header, unit)
    nearer = show_layer(coded.codec, base, unit)
    errors = [(coded.clean - one).square().mean((0, 1, 3, 4)) for one in (nearer, base.latents)]
    assert (errors[0] < errors[1]).all()
    z = assembled(parse_layer(unit, 3)[2][0], 0, base.latents)
    wanted = ((coded.clean - base.latents) * z).mean((0, 1, 3, 4))  # the best length, to half a step of 1/256
    assert ((nearer - base.latents)[0, 0, :, 0, 0] / z[0, 0, :, 0, 0] - wanted).abs().max() <= 0.51 / 256


@pytest.mark.parametrize("apart", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_decodes_to_its_encoder_s_frames_in_another_process_too(
    apart: bool, coded: Coded, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.gnvc" for number in range(len(LAYERS) + 1)]
    for path, unit in zip(files, [*(unit for unit, _ in coded.layered.values()), coded.unit], strict=True):
        path.write_bytes(coded.stream(unit))
    if apart:
        decoded = decode_apart(["lab.study_layer", "decode", "nano"], files, tmp_path / "out", ["--steps", "0"])
    else:
        assert main(["decode", "nano", *map(str, files), "--out", str(tmp_path / "out"), "--steps", "0"]) == 0
        decoded = [tmp_path / "out" / f"{path.stem}.mkv" for path in files]
    shown = [np.stack(list(open_video(path))) for path in decoded]
    for frames, (_, wanted) in zip(shown, coded.layered.values(), strict=False):
        assert np.array_equal(frames, wanted[:, :32, :48])
    assert len({frames.tobytes() for frames in shown}) == len(shown)  # no layer shows the base or another one
    base = np.concatenate(list(coded.codec.decode(coded.stream(coded.unit), steps=0)))
    assert np.array_equal(shown[-1], base)


def test_a_decoder_that_knows_no_layer_shows_the_base(coded: Coded) -> None:
    unit, _ = coded.layered[LAYERS[0]]
    shown, base = (np.concatenate(list(coded.codec.decode(coded.stream(one), steps=0))) for one in (unit, coded.unit))
    assert np.array_equal(shown, base)


def cut(unit: Unit) -> Unit:
    return dataclasses.replace(unit, enhancement=unit.enhancement[:-1])


def longer(unit: Unit) -> Unit:
    return dataclasses.replace(unit, enhancement=unit.enhancement + b"\0")


def headless(unit: Unit) -> Unit:
    return dataclasses.replace(unit, enhancement=unit.enhancement[:3])


def unknown(unit: Unit) -> Unit:
    return dataclasses.replace(unit, enhancement=unit.enhancement[:2] + b"\xff" + unit.enhancement[3:])


def no_steps(unit: Unit) -> Unit:
    return dataclasses.replace(unit, enhancement=unit.enhancement[:2] + b"\x40" + unit.enhancement[3:])


def another_base(unit: Unit) -> Unit:
    return dataclasses.replace(unit, enhancement=bytes([unit.enhancement[0] ^ 1]) + unit.enhancement[1:])


def no_such_set(unit: Unit) -> Unit:
    return dataclasses.replace(unit, enhancement=unit.enhancement[:5] + b"\xff" * (len(unit.enhancement) - 5))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (cut, "the layer's atoms take"),
        (longer, "the layer's atoms take"),
        (headless, "the layer is cut short"),
        (unknown, "the layer has values that none has"),
        (no_steps, "the layer has values that none has"),
        (another_base, "the layer is of another base"),
        (no_such_set, "a set of atoms has a number that no set has"),
    ],
)
def test_a_forged_layer_is_refused_in_a_sentence(
    harm: Callable[[Unit], Unit],
    sentence: str,
    coded: Coded,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The unit's CRC is right: somebody made the file so."""
    unit, _ = coded.layered[LAYERS[1]]
    path = tmp_path / "forged.gnvc"
    path.write_bytes(coded.stream(harm(unit)))
    assert main(["decode", "nano", str(path), "--out", str(tmp_path / "out")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"study_layer: {path}: GOP 0 is damaged: {sentence}")
    assert not (tmp_path / "out").exists()


def test_a_file_with_a_layer_that_is_cut_flipped_or_of_another_model_is_refused_in_a_sentence(
    coded: Coded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit, _ = coded.layered[LAYERS[1]]
    whole, path = coded.stream(unit), tmp_path / "harmed.gnvc"
    start = whole.index(unit.enhancement)
    flips = [whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(start, len(whole) - 12, 3)]
    for stream in (*flips, whole[: start + 4], whole[:start], b""):
        path.write_bytes(stream)
        assert main(["decode", "nano", str(path), "--out", str(tmp_path / "out")]) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith(f"study_layer: {path}: ")
    path.write_bytes(whole)
    assert main(["decode", "tiny", str(path), "--out", str(tmp_path / "out")]) == 1
    assert "tiny is" in capsys.readouterr().err
    assert main(["decode", "nano", str(tmp_path / "none.gnvc"), "--out", str(tmp_path / "out")]) == 1
    assert "No such file" in capsys.readouterr().err


def test_random_bytes_in_place_of_a_layer_never_end_in_a_traceback(coded: Coded) -> None:
    unit, _ = coded.layered[LAYERS[1]]
    draws = np.random.default_rng(1)
    for length in (*range(24), 300):
        data = unit.symbol_hash[:2] + draws.bytes(length)
        with pytest.raises(BitstreamError):
            parse_layer(dataclasses.replace(unit, enhancement=data), 3)
