"""The assembled codec at nano size: what goes in comes out in number and size, and damage stays where it is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import gnvc_vd
from gnvc_vd.bitstream import BitstreamError, End, Header, Unit, pack_stream
from gnvc_vd.bitstream.layout import CRC_BYTES, varint
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.bitstream.refinement import Refinement
from gnvc_vd.codecs.load import load, save
from gnvc_vd.common.files import file_sha256
from gnvc_vd.common.noise import normal
from gnvc_vd.conventions import Colour, Frame, GnvcError, UsageError
from gnvc_vd.learned.bottleneck.networks import DecodedLatent
from gnvc_vd.learned.codec import NOISE_KEY, EncodeOptions, GnvcVd
from gnvc_vd.video import VideoInfo
from tests.bitstream.streams import bodies, packed, read, signed
from tests.conftest import noise_clip, smooth_clip


@pytest.fixture(scope="module")
def codec() -> GnvcVd:
    return gnvc_vd.load("nano")


def info(height: int, width: int) -> VideoInfo:
    return VideoInfo(width, height, Fraction(25), None, Colour("bt709", "limited"), "", "")


def encoded(codec: GnvcVd, clip: list[Frame], encoding: EncodeOptions) -> bytes:
    header = codec.header(info(*clip[0].shape[:2]), encoding)
    return packed(list(codec.encode_units(iter(clip), encoding)), header)


def decoded(codec: GnvcVd, stream: bytes, **options: object) -> Frame:
    return np.concatenate(list(codec.decode(stream, **options)))


@pytest.mark.parametrize(
    ("frames", "height", "width", "gop"), [(1, 17, 31, 25), (12, 48, 32, 5), (30, 32, 48, 25), (27, 16, 16, 97)]
)
def test_frames_come_back_in_number_and_size(codec: GnvcVd, frames: int, height: int, width: int, gop: int) -> None:
    stream = encoded(codec, smooth_clip(height, width, frames), EncodeOptions(gop=gop))
    assert decoded(codec, stream, steps=1).shape == (frames, height, width, 3)


def test_decoding_is_what_the_parts_do_one_after_another(codec: GnvcVd) -> None:
    clip = smooth_clip(32, 48, 9)
    encoding = EncodeOptions(20, gop=9)
    ((count, latents, _),) = codec.latents(iter(clip), encoding)
    payloads, known = codec.bottleneck.compress(latents, [20] * 3)
    stream = encoded(codec, clip, encoding)
    (unit,) = (part for part in read(stream) if isinstance(part, Unit))
    assert count == 9 and (unit.payload, unit.symbol_hash) == (payloads[0].data, payloads[0].symbol_hash)
    video = codec.backbone.vae.decode(stacked(known))
    wanted = ((video[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
    assert np.array_equal(decoded(codec, stream, refine=False), wanted)


def stacked(known: list[DecodedLatent]) -> torch.Tensor:
    return torch.stack([one.latent for one in known], dim=2)


def test_a_long_gop_spends_one_anchor_and_its_windows_join(codec: GnvcVd) -> None:
    clip = smooth_clip(16, 32, 97)
    stream = encoded(codec, clip, EncodeOptions(gop=97, scenecut=False))
    units = [part for part in read(stream) if isinstance(part, Unit)]
    assert [unit.frames for unit in units] == [97]
    parts = [len(frames) for frames in codec.decode(stream, DecodeOptions(steps=1))]
    assert parts == [1, *[4] * 24]  # a latent's frames at a time
    # Unrefined, windows are no more than a cut of one decode: no frame is repeated or dropped where they meet.
    ((_, latents, _),) = codec.latents(iter(clip), EncodeOptions(gop=97, scenecut=False))
    _, known = codec.bottleneck.compress(latents, [32] * 25)
    whole = codec.backbone.vae.decode(stacked(known))
    wanted = ((whole[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
    assert np.array_equal(decoded(codec, stream, refine=False), wanted)


def test_steps_seed_and_refinement_matter_and_nothing_else_does(codec: GnvcVd) -> None:
    clip = smooth_clip(32, 32, 9)
    stream = encoded(codec, clip, EncodeOptions(gop=9))
    five = decoded(codec, stream)
    assert np.array_equal(five, decoded(codec, stream, steps=5)) and np.array_equal(five, decoded(codec, stream))
    assert not np.array_equal(five, decoded(codec, stream, steps=1))
    assert not np.array_equal(five, decoded(codec, stream, refine=False))
    reseeded = encoded(codec, clip, EncodeOptions(gop=9, refinement=Refinement(seed=1)))
    assert not np.array_equal(five, decoded(codec, reseeded))
    assert np.array_equal(decoded(codec, stream, refine=False), decoded(codec, reseeded, refine=False))


def test_apart_each_latent_is_refined_as_if_there_were_no_other(codec: GnvcVd) -> None:
    clip = smooth_clip(16, 32, 37)
    encoding = EncodeOptions(gop=37, scenecut=False)  # two windows: the second sees no context either
    stream = encoded(codec, clip, encoding)
    (unit,) = (part for part in read(stream) if isinstance(part, Unit))
    known = list(codec.decoder(codec.header(info(16, 32), encoding)).symbols(unit))
    seeds = [normal((1, 16, count, 2, 4), (0, NOISE_KEY), (0, number, 0)) for number, count in enumerate((7, 4))]
    noise = torch.cat([seeds[0], seeds[1][:, :, 1:]], dim=2)
    with torch.inference_mode():
        refined = [
            codec.refiner(one.latent[:, :, None], one.feature[:, :, None], noise[:, :, index : index + 1], 0.3, 1)
            for index, one in enumerate(known)
        ]
        video = codec.backbone.vae.decode(torch.cat(refined, dim=2))
    wanted = ((video[0] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
    found = decoded(codec, stream, steps=1, apart=True).astype(int)
    assert np.abs(found - wanted).max() <= 1  # a batch of latents rounds its sums elsewhere
    assert np.abs(found - decoded(codec, stream, steps=1)).max() > 1


def test_large_pictures_are_refined_in_tiles_where_a_model_or_a_decoder_says_so(codec: GnvcVd) -> None:
    stream = encoded(codec, smooth_clip(80, 64, 5), EncodeOptions(gop=5))
    whole, tiled = decoded(codec, stream, steps=1), decoded(codec, stream, steps=1, tile=64)
    assert not np.array_equal(whole, tiled)
    with_tiles = replace(codec, refinement=replace(codec.refinement, tile=64))
    assert np.array_equal(decoded(with_tiles, stream, steps=1), tiled)
    assert np.array_equal(decoded(with_tiles, stream, steps=1, tile=0), whole)
    assert np.array_equal(decoded(codec, stream, steps=1, tile=80), whole)  # no picture is larger
    for wrong in (100, 48, -1):
        with pytest.raises(UsageError, match=f"a tile is 64 to 4096 pixels, a multiple of 16: not {wrong}"):
            decoded(codec, stream, tile=wrong)


def test_three_hard_cuts_make_four_gops(codec: GnvcVd) -> None:
    clip = [frame for seed in range(4) for frame in [noise_clip(32, 32, 1, seed)[0] // 4 + 60 * seed] * 6]
    for scenecut, lengths in ((True, [6, 6, 6, 6]), (False, [24])):
        units = codec.encode_units(iter(clip), EncodeOptions(gop=25, scenecut=scenecut))
        assert [unit.frames for unit in units] == lengths


@pytest.mark.parametrize("clip", [smooth_clip(48, 64, 25), noise_clip(32, 32, 25)])
def test_neither_motion_nor_noise_is_a_cut(codec: GnvcVd, clip: list[Frame]) -> None:
    assert [unit.frames for unit in codec.encode_units(iter(clip), EncodeOptions())] == [25]


def test_quality_raises_the_rate_and_bpp_finds_it(codec: GnvcVd) -> None:
    clip = noise_clip(32, 32, 13)
    sizes = [len(encoded(codec, clip, EncodeOptions(quality, gop=13))) for quality in (0, 31, 63)]
    assert sizes == sorted(set(sizes))
    target = 8 * sizes[1] / (32 * 32 * 13)
    units = codec.encode_units(iter(clip), EncodeOptions(bpp=target, gop=13), info(32, 32))
    found = 8 * len(pack_stream(codec.header(info(32, 32), EncodeOptions()), units)) / (32 * 32 * 13)
    assert found == target
    heard: list[tuple[int, float]] = []
    far_off = EncodeOptions(bpp=1e6, gop=13)
    (far,) = codec.encode_units(iter(clip), far_off, info(32, 32), lambda *one: heard.append(one))
    assert [quality for quality, _ in heard] == [31, 47, 55, 59, 61, 62, 63]
    size = len(pack_stream(codec.header(info(32, 32), far_off), [far]))
    assert heard[-1][1] == 8 * size / (13 * 32 * 32)
    assert far.quality == 63
    with pytest.raises(UsageError, match="so `info` is needed"):
        next(codec.encode_units(iter(clip), far_off))


def test_encoding_takes_frames_as_they_come(codec: GnvcVd) -> None:
    taken = 0

    def frames() -> Iterator[Frame]:
        nonlocal taken
        for frame in smooth_clip(16, 16, 60):
            taken += 1
            yield frame

    units = codec.encode_units(frames(), EncodeOptions(gop=5))
    next(units)
    assert taken <= 5 + 5 + 1


def three_gops(codec: GnvcVd) -> tuple[bytes, list[int]]:
    stream = encoded(codec, smooth_clip(16, 16, 15), EncodeOptions(gop=5))
    sizes = [part.size for part in read(stream) if isinstance(part, Unit)]
    first = len(bodies(stream)[0]) + CRC_BYTES  # the header's
    return stream, [first, first + sizes[0], first + sizes[0] + sizes[1]]


def test_a_damaged_gop_is_named_and_may_be_concealed(codec: GnvcVd) -> None:
    stream, starts = three_gops(codec)
    whole = decoded(codec, stream, steps=1)
    broken = bytearray(stream)
    broken[starts[1] + 20] ^= 1
    with pytest.raises(BitstreamError, match="GOP 1"):
        decoded(codec, bytes(broken), steps=1)
    concealed = decoded(codec, bytes(broken), steps=1, conceal=True)
    assert concealed.shape == whole.shape
    assert np.array_equal(concealed[:5], whole[:5]) and np.array_equal(concealed[10:], whole[10:])
    assert (concealed[5:10] == whole[4]).all()


def test_symbols_that_are_not_those_coded_are_concealed_too(codec: GnvcVd) -> None:
    clip, encoding = smooth_clip(16, 16, 15), EncodeOptions(gop=5)
    units = list(codec.encode_units(iter(clip), encoding))
    units[2] = Unit(2, 5, units[2].quality, 0, b"\0\0\0\0", units[2].payload)
    stream = packed(units, codec.header(info(16, 16), encoding))
    with pytest.raises(BitstreamError, match="GOP 2 is damaged: the symbols are not"):
        decoded(codec, stream, steps=1)
    concealed = decoded(codec, stream, steps=1, conceal=True)
    assert len(concealed) == 15 and (concealed[10:] == concealed[9]).all()


def test_concealment_believes_no_count_that_no_loss_explains(codec: GnvcVd) -> None:
    stream, _ = three_gops(codec)
    parts = bodies(stream)
    parts[-1] = b"\xe8\x1d" + varint((1 << 34) + 5) + varint(3)
    assert len(decoded(codec, signed(parts), steps=1, conceal=True)) == 15


def test_gops_may_be_picked(codec: GnvcVd) -> None:
    stream, _ = three_gops(codec)
    whole = decoded(codec, stream, steps=1)
    assert np.array_equal(decoded(codec, stream, steps=1, first_gop=1, last_gop=2), whole[5:10])
    assert np.array_equal(decoded(codec, stream, steps=1, first_gop=2), whole[10:])


def test_streams_of_other_models_are_refused(codec: GnvcVd) -> None:
    clip, encoding = smooth_clip(16, 16, 5), EncodeOptions(gop=5)
    units, header = list(codec.encode_units(iter(clip), encoding)), codec.header(info(16, 16), encoding)
    other = packed(units, replaced(header, coded_identity=b"\0" * 8))
    with pytest.raises(BitstreamError, match="coded with model 0000000000000000"):
        decoded(codec, other, allow_other_weights=True)
    shown = packed(units, replaced(header, shown_identity=b"\0" * 4))
    with pytest.raises(BitstreamError, match="would show wrong pictures"):
        decoded(codec, shown)
    assert len(decoded(codec, shown, allow_other_weights=True)) == 5
    with pytest.raises(BitstreamError, match="policy 5"):
        decoded(codec, packed([Unit(0, 5, 3, 5, b"1234", b"12345678")], header))


def replaced(header: Header, **values: object) -> Header:
    return Header(**(vars(header) | values))


@pytest.mark.parametrize("head", [b"", b"\5\x3c\xc8\7\0", b"\x65\x3c\xc8\7", b"\5\x3c\xc9\7", b"\5\0\xc8\1"])
def test_impossible_parameters_are_refused(head: bytes) -> None:
    with pytest.raises(BitstreamError):
        Refinement.parse(head + bytes(3))


def test_parameters_round_trip() -> None:
    words, limit = Refinement(1, 0.05, 0.5, 33, 70000).describe(), "up to the quality that the model refines"
    noise = "noise × 0.5, seed 70000, in windows of 33 frames"
    assert words == f"refined in 1 step from σ_0 = 0.05 or a GOP's own, {noise}, {limit}"
    words = Refinement(noise_scale=0).describe()
    assert words == f"refined in 5 steps from σ_0 = 0.3 or a GOP's own, no noise, in windows of 25 frames, {limit}"
    assert Refinement(steps=0).describe() == "as decoded, not refined"
    for parameters in (Refinement(), Refinement(0), Refinement(1, 0.05, 0.5, 33, 70000)):
        assert Refinement.parse(parameters.pack()) == parameters
        of_a_model = replace(parameters, sigma_ratio=0.5, highest_quality=40, tile=256)
        assert Refinement.parse(of_a_model.pack()) == parameters
    for wrong in ({"sigma_ratio": 0.0}, {"sigma_ratio": float("nan")}, {"highest_quality": 64}):
        with pytest.raises(UsageError, match="a ratio of σ_0"):
            Refinement(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Refinement(steps=-1)


def test_a_saved_codec_decodes_to_the_same_pictures(codec: GnvcVd, tmp_path: Path) -> None:
    stream = encoded(codec, smooth_clip(16, 16, 5), EncodeOptions(gop=5))
    save(codec, tmp_path / "model", "copy")
    loaded = load(tmp_path / "model")
    assert loaded.coded_identity == codec.coded_identity and "mean nothing" in loaded.note
    assert np.array_equal(decoded(loaded, stream, allow_other_weights=True), decoded(codec, stream))
    units = [list(one.encode_units(iter(smooth_clip(16, 16, 9)), EncodeOptions(gop=9))) for one in (loaded, codec)]
    assert units[0] == units[1]
    (tmp_path / "model" / "codec.safetensors").write_bytes(b"damaged")
    with pytest.raises(GnvcError, match="is not the stated"):
        load(tmp_path / "model")


def test_a_model_says_how_its_streams_are_refined(codec: GnvcVd, tmp_path: Path) -> None:
    refined = Refinement(1, 0.1, 0.5, 13)
    codec = GnvcVd("copy", codec.backbone, codec.bottleneck, bytes(4), codec.load_refiner, refinement=refined)
    save(codec, tmp_path, "copy")
    loaded = load(tmp_path)
    header = loaded.header(info(16, 16), EncodeOptions())
    assert loaded.check(header) == codec.refinement == Refinement(1, 0.1, 0.5, 13)
    wish = Refinement(steps=2)
    assert loaded.check(loaded.header(info(16, 16), EncodeOptions(refinement=wish))) == wish
    description = json.loads((tmp_path / "model.json").read_text())
    without = {key: value for key, value in description["codec"].items() if key != "refinement"}
    (tmp_path / "model.json").write_text(json.dumps(description | {"codec": without}))
    assert load(tmp_path).refinement == Refinement()  # folders from before said nothing
    without["refinement"] = {"sigma_0": 2.0}
    (tmp_path / "model.json").write_text(json.dumps(description | {"codec": without}))
    with pytest.raises(GnvcError, match="σ_0 above 0 up to 1"):
        load(tmp_path)


def test_a_model_says_how_its_encoder_rounds(codec: GnvcVd, tmp_path: Path) -> None:
    save(codec, tmp_path, "copy")
    plain = load(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    assert plain.bottleneck.thrift == description["codec"].pop("thrift") == 0
    (tmp_path / "model.json").write_text(json.dumps(description))  # as folders from before have it
    assert load(tmp_path).bottleneck.thrift == 0
    description["codec"]["thrift"] = 0.07
    (tmp_path / "model.json").write_text(json.dumps(description))
    thrifty = load(tmp_path)
    save(thrifty, tmp_path / "again", "copy")
    assert load(tmp_path / "again").bottleneck.thrift == 0.07
    frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
    units = [next(model.encode_units(iter(frames), EncodeOptions(gop=9))) for model in (plain, thrifty)]
    assert units[0].symbol_hash != units[1].symbol_hash
    header = plain.header(info(64, 64), EncodeOptions(gop=9))
    allowing = DecodeOptions(allow_other_weights=True)
    for unit in units:  # either decodes what either coded
        shown = [np.concatenate(list(model.decoder(header, allowing).frames(unit))) for model in (plain, thrifty)]
        assert np.array_equal(*shown)
    for wrong in (-0.1, 1.1, float("nan"), float("inf")):
        description["codec"]["thrift"] = wrong
        (tmp_path / "model.json").write_text(json.dumps(description))
        with pytest.raises(GnvcError, match=r"thrift (is 0 to 1|should be float)"):
            load(tmp_path)


def test_a_stream_ends_with_its_frame_count(codec: GnvcVd) -> None:
    stream, _ = three_gops(codec)
    assert read(stream)[-1] == End(15, 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("entropy.enter.shift", -1),
        ("entropy.enter.weight_integers", 300),
        ("anchor_entropy.hyper_level_integers", 64),
        ("entropy.gains.inverse_integers", 1 << 60),
        ("table_frequencies", 0),
        ("frozen", 0),
    ],
)
def test_a_stranger_s_integers_are_checked_before_they_are_used(
    codec: GnvcVd, tmp_path: Path, name: str, value: int
) -> None:
    folder = tmp_path / "model"
    save(codec, folder, "strange")
    state = load_file(folder / "codec.safetensors")
    state[name].fill_(value)
    save_file(state, folder / "codec.safetensors")
    description = json.loads((folder / "model.json").read_text())
    description["codec"]["files"]["codec.safetensors"] = file_sha256(folder / "codec.safetensors")
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(GnvcError, match=r"integer|table|shift"):
        load(folder)
