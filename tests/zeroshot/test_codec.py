"""GVC from frames to units and back: both ends hold the same latents, modes keep their promises, damage stays put."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch

from gnvc_vd.backbone.image_condition import Condition
from gnvc_vd.backbone.streaming import latents_of_frames
from gnvc_vd.backbone.weights import load_backbone
from gnvc_vd.bitstream import BitstreamError, Unit, pack_stream
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.conventions import Colour, Frame, GnvcError, UsageError
from gnvc_vd.video import VideoInfo
from gnvc_vd.zeroshot.codec import Gvc
from gnvc_vd.zeroshot.encoding import GvcEncodeOptions, atoms_of, quality_of
from gnvc_vd.zeroshot.parameters import MODES, Mode, Parameters
from gnvc_vd.zeroshot.payload import PayloadParser, atom_bytes, pack, symbol_hash
from gnvc_vd.zeroshot.sde import Schedule
from gnvc_vd.zeroshot.tail import PUBLISHED
from lab.gaussian_prior import clip, gaussian_prior
from tests.bitstream.streams import packed
from tests.conftest import smooth_clip
from tests.zeroshot.stills import Coarse

SHORT = Schedule(steps=4, tail=1)


@pytest.fixture(scope="module")
def nano() -> Gvc:
    return Gvc(load_backbone("nano"))


@pytest.fixture(scope="module")
def gaussian() -> Gvc:
    return Gvc(gaussian_prior(), Coarse())


@pytest.fixture(scope="module")
def shipped() -> Gvc:
    """With the still codec that ships."""
    return Gvc(gaussian_prior())


def info(width: int = 32, height: int = 32) -> VideoInfo:
    return VideoInfo(width, height, Fraction(25), None, Colour("bt709", "limited"), "", "")


def how(mode: Mode, **options: object) -> GvcEncodeOptions:
    own = {
        name: options.pop(name)
        for name in ("overlap", "withhold", "still", "seed", "schedule", "gaussian")
        if name in options
    }
    parameters = Parameters(mode, 64, **({"schedule": SHORT} | own))  # type: ignore[arg-type]
    return GvcEncodeOptions(**({"atoms": 3, "gop": 5, "scenecut": False} | options), parameters=parameters)  # type: ignore[arg-type]


def stream(codec: Gvc, frames: list[Frame], encoding: GvcEncodeOptions) -> bytes:
    height, width = frames[0].shape[:2]
    return packed(list(codec.encode_units(iter(frames), encoding)), codec.header(info(width, height), encoding))


def shown(codec: Gvc, data: bytes, **options: object) -> Frame:
    return np.concatenate(list(codec.decode(data, DecodeOptions(**options))))  # type: ignore[arg-type]


def ends_agree(codec: Gvc, monkeypatch: pytest.MonkeyPatch, encoding: GvcEncodeOptions, frames: list[Frame]) -> None:
    """A sketch of the latents is in the stream; here the whole of them is compared."""
    ends: list[torch.Tensor] = []
    monkeypatch.setattr("gnvc_vd.zeroshot.codec.sketch", lambda x: ends.append(x) or bytes(8))
    units = list(codec.encode_units(iter(frames), encoding))
    height, width = frames[0].shape[:2]
    decoder = codec.decoder(codec.header(info(width, height), encoding))
    for unit, wanted in zip(units, ends, strict=True):
        latents, repeated = decoder.replay(unit)
        assert sum(len(part) for part in decoder.decode_frames(unit, latents, repeated)) == unit.frames
        same = wanted.shape[2] - int(encoding.parameters.mode == "i2v")  # the residual moves I2V's last latent
        assert torch.equal(latents[:, :, :same], wanted[:, :, :same])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("overlap", "reuse"), [(True, False), pytest.param(False, True, marks=pytest.mark.slow)])
def test_both_ends_hold_the_same_latents(
    shipped: Gvc, monkeypatch: pytest.MonkeyPatch, mode: Mode, overlap: bool, reuse: bool
) -> None:
    encoding = how(mode, overlap=overlap, tail_step=20, schedule=replace(SHORT, reuse=reuse))
    ends_agree(shipped, monkeypatch, encoding, smooth_clip(16, 32, 14))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_both_ends_agree_with_a_network_too(nano: Gvc, monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    encoding = how(mode, tail_step=20, schedule=Schedule(steps=2, tail=1))
    ends_agree(nano, monkeypatch, encoding, smooth_clip(16, 16, 13))


@pytest.mark.parametrize(
    "mode", [pytest.param("t2v", marks=pytest.mark.slow), "i2v", pytest.param("flf2v", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("frames", "height", "width", "gop"), [(1, 17, 31, 5), (22, 32, 16, 9)])
def test_frames_come_back_in_number_and_size(
    gaussian: Gvc, mode: Mode, frames: int, height: int, width: int, gop: int
) -> None:
    data = stream(gaussian, smooth_clip(height, width, frames), how(mode, gop=gop))
    assert shown(gaussian, data).shape == (frames, height, width, 3)


def test_a_gop_takes_the_bytes_that_enumeration_promises(gaussian: Gvc) -> None:
    """M = 64 of K = 16384, 17 steps, 9 latents: 12,699 bytes, where two numbers an atom take 18,360."""
    assert atom_bytes([64] * 9, 17, 16384) == 12699
    encoding = GvcEncodeOptions(atoms=64, scenecut=False)
    (unit,) = gaussian.encode_units(iter(smooth_clip(16, 16, 33)), encoding)
    assert unit.frames == 33 and abs(unit.size - 12699) <= 64 + 127


def test_neighbours_share_one_still_in_flf2v(gaussian: Gvc) -> None:
    units = list(gaussian.encode_units(iter(smooth_clip(16, 16, 17)), how("flf2v")))
    stills = [PayloadParser(unit.payload) for unit in units]
    assert [unit.frames for unit in units] == [5, 12] or [unit.frames for unit in units] == [5, 4, 8]
    assert [(one.first is not None, one.last is not None) for one in stills] == [(True, True)] + [
        (False, True) for _ in units[1:]
    ]


def test_i2v_codes_one_still_and_goes_on_from_its_own_pictures(gaussian: Gvc) -> None:
    data = smooth_clip(32, 32, 22)
    for overlap, frames in ((True, [5, 4, 4, 4, 5]), (False, [5, 5, 5, 7])):
        units = list(gaussian.encode_units(iter(data), how("i2v", overlap=overlap)))
        assert [unit.frames for unit in units] == frames
        parsed = [PayloadParser(unit.payload) for unit in units]
        assert [one.first is not None for one in parsed] == [True] + [False] * (len(units) - 1)
        assert all(one.last is None for one in parsed)
        assert (parsed[0].allotment.atoms, parsed[0].allotment.tail_atoms) == (3, 6)


def test_the_model_is_given_what_the_mode_says(gaussian: Gvc, monkeypatch: pytest.MonkeyPatch) -> None:
    conditions: list[Condition | None] = []
    asked = gaussian.prior.dit.velocity

    def heard(x: torch.Tensor, sigma: float, condition: Condition | None = None, text: object = None) -> torch.Tensor:
        assert text is None
        conditions.append(condition)
        return asked(x, sigma, condition)

    monkeypatch.setattr(gaussian.prior.dit, "velocity", heard)
    for mode, mask in (("t2v", None), ("i2v", [1, 0, 0]), ("flf2v", [1, 0, 0.25])):
        conditions.clear()
        next(gaussian.encode_units(iter(smooth_clip(32, 32, 9)), how(mode, gop=9)))  # type: ignore[arg-type]
        (condition,) = {id(one): one for one in conditions}.values()
        if mask is None:
            assert condition is None
        else:
            assert condition is not None
            assert condition.channels[0, :4].mean(dim=(0, 2, 3)).tolist() == mask


def test_scene_cuts_begin_a_chain_anew(gaussian: Gvc) -> None:
    dark, light = [np.full((32, 32, 3), level, np.uint8) for level in (30, 220)]
    frames = [dark] * 7 + [light] * 7
    units = list(gaussian.encode_units(iter(frames), replace(how("i2v"), scenecut=True, gop=9)))
    assert [unit.frames for unit in units] == [7, 7]
    assert all(PayloadParser(unit.payload).first is not None for unit in units)


@pytest.mark.parametrize(("mode", "bad"), [("t2v", {1}), ("flf2v", {1, 2}), ("i2v", {1, 2, 3, 4, 5})])
def test_a_lost_gop_takes_with_it_what_began_from_it_and_no_more(gaussian: Gvc, mode: Mode, bad: set[int]) -> None:
    frames = smooth_clip(16, 32, 18)
    encoding = how(mode)
    units = list(gaussian.encode_units(iter(frames), encoding))
    header = gaussian.header(info(32, 16), encoding)
    whole = shown(gaussian, packed(units, header))
    units[1] = replace(units[1], symbol_hash=b"\0\0\0\0")
    broken = packed(units, header)
    with pytest.raises(BitstreamError, match="GOP 1 is damaged"):
        shown(gaussian, broken)
    held = shown(gaussian, broken, conceal=True)
    assert held.shape == whole.shape
    starts = np.cumsum([0, *(unit.frames for unit in units)])
    for index, (start, stop) in enumerate(pairwise(starts)):
        assert np.array_equal(held[start:stop], whole[start:stop]) == (index not in bad), (mode, index)


@pytest.mark.parametrize("mode", MODES)
def test_gops_may_be_picked(gaussian: Gvc, mode: Mode) -> None:
    frames, start = (15, 10) if mode == "t2v" else (14, 9)  # GOPs of 5, with or without a shared frame
    data = stream(gaussian, smooth_clip(16, 16, frames), how(mode))
    whole = shown(gaussian, data)
    assert np.array_equal(shown(gaussian, data, first_gop=2), whole[start:])


def test_error_falls_with_the_number_of_atoms(gaussian: Gvc) -> None:
    frames = clip(gaussian_prior().vae, 1, 64, 64)
    target = latents_of_frames(gaussian.prior.vae, np.stack(frames), gaussian.device)
    errors = []
    for atoms in (0, 1, 4, 16):
        encoding = GvcEncodeOptions(atoms=atoms, gop=5, parameters=Parameters(codebook=256, schedule=Schedule(8, 1)))
        (unit,) = gaussian.encode_units(iter(frames), encoding)
        decoder = gaussian.decoder(gaussian.header(info(64, 64), encoding))
        latents, _ = decoder.replay(unit)
        errors.append(float((latents - target).square().mean()))
        assert decoder.drifts == {0: 0}
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1 * errors[0]


@pytest.mark.parametrize(("mode", "bpp", "step"), [("t2v", 0.2, None), ("i2v", 0.6, 24), ("flf2v", 0.9, None)])
def test_a_rate_is_met_and_what_is_left_goes_to_the_next(
    gaussian: Gvc, mode: Mode, bpp: float, step: int | None
) -> None:
    """And what one GOP's residual took too much, the next ones have less."""
    frames = clip(gaussian_prior().vae, 30, 32, 64)
    encoding = how(mode, atoms=None, bpp=bpp, gop=9, tail_step=step)
    encoding = replace(encoding, parameters=Parameters(mode, 1024, SHORT))
    units = list(gaussian.encode_units(iter(frames), encoding))
    found = 8 * len(pack_stream(gaussian.header(info(64, 32), encoding), units)) / (30 * 32 * 64)
    assert found == pytest.approx(bpp, rel=0.05)


def test_a_rate_is_enough_and_so_is_nothing() -> None:
    assert GvcEncodeOptions().fixed_atoms == 64 and GvcEncodeOptions(atoms=8).fixed_atoms == 8
    assert replace(GvcEncodeOptions(), bpp=0.3).fixed_atoms is None


def test_quality_and_atoms_go_together() -> None:
    counts = [atoms_of(quality) for quality in range(64)]
    assert counts == sorted(counts) and (counts[0], counts[32], counts[48]) == (1, 16, 64) and counts[63] <= 256
    assert all(atoms_of(quality_of(count)) == count for count in set(counts))


def test_the_published_tail_is_an_option_and_both_move_the_last_latent_to_its_target(gaussian: Gvc) -> None:
    frames = clip(gaussian_prior().vae, 9, 32, 32)
    target = latents_of_frames(gaussian.prior.vae, np.stack(frames), gaussian.device)
    errors = {}
    for code in (None, 16, PUBLISHED):
        encoding = how("i2v", gop=9, tail_step=code)
        (unit,) = gaussian.encode_units(iter(frames), encoding)
        latents, _ = gaussian.decoder(gaussian.header(info(), encoding)).replay(unit)
        errors[code] = float((latents - target)[:, :, -1].square().mean())
    assert errors[16] == pytest.approx(2 ** (-16 / 4) / 12, rel=0.2)  # of the step's square, a twelfth
    assert errors[PUBLISHED] < errors[16] < 0.1 * errors[None]


def test_withheld_latents_take_no_bits(gaussian: Gvc) -> None:
    sizes = []
    for withhold in (False, True):
        (unit,) = gaussian.encode_units(iter(smooth_clip(32, 32, 9)), how("flf2v", gop=9, withhold=withhold))
        parsed = PayloadParser(unit.payload)
        sizes.append(unit.size)
        content = parsed.content([0 if withhold else 3, 3, 3], 3, 64)
        assert len(content.sets[0][0][0]) == (0 if withhold else 3)
    bits = 3 * ((comb(64, 3) - 1).bit_length() + 3)
    assert sizes[0] - sizes[1] in (bits // 8, bits // 8 + 1)


def replaced_identity(codec: Gvc) -> Gvc:
    other = Gvc(codec.prior)
    other.shown_identity = b"else"
    return other


def test_streams_of_others_are_refused(gaussian: Gvc) -> None:
    data = stream(gaussian, smooth_clip(16, 16, 5), how("t2v"))
    with pytest.raises(BitstreamError, match="would show wrong pictures"):
        shown(replaced_identity(gaussian), data)
    gaussian_like = replaced_identity(gaussian)
    assert len(shown(gaussian_like, data, allow_other_weights=True)) == 5
    with pytest.raises(UsageError, match="fixes its own steps"):
        shown(gaussian, data, steps=3)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"atoms": 65}, "cannot be chosen out of 64"),
        ({"bpp": 0.3}, "one of the two"),
        ({"tail_step": 65}, "tail's step"),
        ({"gop": 6}, "1 \\+ 4k"),
        ({"still_quality": 64}, "still's quality"),
    ],
)
def test_impossible_encodings_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        how("i2v", **wrong)


def test_a_model_that_takes_no_frames_is_given_none(gaussian: Gvc, monkeypatch: pytest.MonkeyPatch) -> None:
    for change, said in (
        ({"condition_channels": 0}, "takes none"),
        ({"condition_channels": 20, "image_dim": 1280}, "has no image_encoder/"),
        ({"condition_channels": 20, "image_dim": 1280, "image_tokens": 514}, "1 frames; gaussian takes 2"),
    ):
        monkeypatch.setattr(gaussian.prior, "dit_preset", replace(gaussian.prior.dit_preset, **change))  # type: ignore[arg-type]
        with pytest.raises(GnvcError, match=said):
            next(gaussian.encode_units(iter(smooth_clip(32, 32, 5)), how("i2v")))
        assert next(gaussian.encode_units(iter(smooth_clip(32, 32, 5)), how("t2v"))).frames == 5


def test_a_caption_is_told_to_the_model_and_counted(nano: Gvc, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    told = {words: torch.randn(1, 8, generator=generator) for words in ("a tree", "a hat")}
    asked: list[str] = []
    monkeypatch.setattr(nano.prior, "embed", lambda prompt: asked.append(prompt) or told[prompt], raising=False)
    frames, plain = smooth_clip(16, 16, 6), how("t2v", schedule=Schedule(2, 1), gop=1)
    without, captioned = (list(nano.encode_units(iter(frames[:2]), replace(plain, caption=c))) for c in ("", "a tree"))
    assert [b.size - a.size for a, b in zip(without, captioned, strict=True)] == [1 + len("a tree")] * 2
    assert asked == ["a tree"]  # once for both GOPs, and never for the empty one
    decoder = nano.decoder(nano.header(info(16, 16), plain))

    def replayed(unit: Unit) -> tuple[torch.Tensor, float]:
        latents, _ = decoder.replay(unit)
        return latents, decoder.drifts[unit.index]

    with_words, without_words = (replayed(units[0]) for units in (captioned, without))
    assert with_words[1] == without_words[1] == 0
    assert not torch.equal(with_words[0], without_words[0])
    (other,) = nano.encode_units(iter(frames[:1]), replace(plain, caption="a hat"))
    assert replayed(other)[1] == replayed(captioned[0])[1] == 0
    assert asked == ["a tree", "a hat", "a tree"]
    nano.embed.cache_clear()
    monkeypatch.setattr(nano.prior, "embed", lambda prompt: told["a hat"], raising=False)
    assert replayed(captioned[0])[1] > 0  # other words are seen


def test_a_caption_without_a_text_encoder_ends_in_a_sentence(gaussian: Gvc) -> None:
    encoding = how("t2v", caption="a tree")
    with pytest.raises(GnvcError, match="gaussian has no text encoder"):
        next(gaussian.encode_units(iter(smooth_clip(16, 16, 5)), encoding))
    for wrong in ("x" * 4097, "é" * 2049, "two\nlines", "\udcff"):
        with pytest.raises(UsageError, match="4096 bytes"):
            how("t2v", caption=wrong)


def test_a_caption_is_part_of_a_rate(gaussian: Gvc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaussian.prior, "embed", lambda prompt: torch.zeros(1, 8))
    frames, words = clip(gaussian_prior().vae, 9, 64, 64), "tree " * 60
    encoding = replace(how("t2v", atoms=None, bpp=0.3, gop=9, caption=words), parameters=Parameters("t2v", 1024, SHORT))
    units = list(gaussian.encode_units(iter(frames), encoding))
    found = 8 * len(pack_stream(gaussian.header(info(64, 64), encoding), units)) / (9 * 64 * 64)
    assert found == pytest.approx(0.3, rel=0.05) and PayloadParser(units[0].payload).caption == words


@pytest.mark.parametrize(
    ("mode", "change"),
    [("t2v", {"first": b"x"}), ("t2v", {"last": b"x"}), ("i2v", {"last": b"x"}), ("flf2v", {"last": None})],
)
def test_a_unit_without_the_stills_of_its_mode_is_refused(gaussian: Gvc, mode: Mode, change: dict[str, object]) -> None:
    encoding = how(mode)
    (unit,) = gaussian.encode_units(iter(smooth_clip(16, 16, 5)), encoding)
    header = gaussian.header(info(16, 16), encoding)
    content = replace(gaussian.decoder(header).symbols(unit), **change)  # type: ignore[arg-type]
    told = replace(unit, payload=pack(content, 64), symbol_hash=symbol_hash(content))
    with pytest.raises(BitstreamError, match="GOP 0 does not hold the stills of its mode"):
        gaussian.decoder(header).symbols(told)
    with pytest.raises(BitstreamError, match="policy 1, which GVC does not have"):
        gaussian.decoder(header).symbols(replace(unit, policy=1))


def mutants(unit: Unit) -> Iterator[Unit]:
    for place in range(len(unit.payload)):
        changed = bytearray(unit.payload)
        changed[place] ^= 0xFF
        yield replace(unit, payload=bytes(changed))
        yield replace(unit, payload=unit.payload[:place])


def test_no_payload_gets_past_its_hash(gaussian: Gvc) -> None:
    encoding = how("i2v", tail_step=20)
    (unit,) = gaussian.encode_units(iter(smooth_clip(16, 16, 5)), encoding)
    decoder = gaussian.decoder(gaussian.header(info(16, 16), encoding))
    sketch = range(4, 12)  # which says how far one drifted, and decides nothing
    for number, bad in enumerate(mutants(unit)):
        if number % 2 or number // 2 not in sketch:
            with pytest.raises(BitstreamError):
                decoder.symbols(bad)
