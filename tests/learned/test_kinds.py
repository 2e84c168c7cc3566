"""Both kinds of latent codec in the whole codec: what each refuses, and that the refiner does not know which it is."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from gnvc_vd.bitstream import BitstreamError, Unit, pack_stream
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.common import strict
from gnvc_vd.conventions import Colour, GnvcError, UsageError
from gnvc_vd.learned.codec import EncodeOptions
from gnvc_vd.presets import PRESETS, BottleneckKind, ContextualPreset, TransformPreset
from gnvc_vd.video import Video, VideoInfo
from tests.conftest import smooth_clip
from tests.learned.bottleneck.models import nano_codec

INFO = VideoInfo(48, 32, Fraction(25), None, Colour("bt709", "limited"), "", "")
KINDS: tuple[BottleneckKind, ...] = ("contextual", "transform")


def units(kind: BottleneckKind, frames: int = 17, **options: object) -> list[Unit]:
    encoding = EncodeOptions(gop=17, scenecut=False, **options)  # type: ignore[arg-type]
    return list(nano_codec(kind).encode_units(iter(smooth_clip(32, 48, frames)), encoding))


def stream(kind: BottleneckKind, coded: list[Unit], **header: object) -> bytes:
    codec = nano_codec(kind)
    return pack_stream(replace(codec.header(INFO, EncodeOptions()), **header), coded)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "way", [DecodeOptions(steps=1), DecodeOptions(steps=1, apart=True), DecodeOptions(refine=False)]
)
def test_a_stream_decodes_in_every_way(kind: BottleneckKind, way: DecodeOptions) -> None:
    coded = units(kind)
    shown = np.concatenate(list(nano_codec(kind).decode(stream(kind, coded), way)))
    assert shown.shape == (17, 32, 48, 3)
    again = np.concatenate(list(nano_codec(kind).decode(stream(kind, units(kind)), way)))
    assert np.array_equal(shown, again)


def test_a_unit_says_its_rotation() -> None:
    assert [one.rotation for one in units("contextual")] == [0]
    assert [one.rotation for one in units("transform")] == [5]
    assert [one.rotation for one in units("transform", rotation=2)] == [2]
    assert [one.rotation for one in units("transform", frames=24)] == [7]  # a short tail joins the GOP


def test_as_few_rotations_as_there_can_be_as_equal_as_they_can_be() -> None:
    codec = nano_codec("transform").bottleneck
    assert [codec.usual_rotation(count) for count in (1, 7, 9, 10, 18, 19, 25, 64)] == [1, 7, 9, 5, 9, 7, 9, 8]


@pytest.mark.parametrize("rotation", [1, 3, 9])
def test_a_rotation_of_every_length_decodes_alike(rotation: int) -> None:
    data = stream("transform", units("transform", rotation=rotation))
    shown = np.concatenate(list(nano_codec("transform").decode(data, refine=False)))
    assert shown.shape[0] == 17


def test_what_a_kind_cannot_do_is_refused_before_anything_is_written() -> None:
    with pytest.raises(UsageError, match="one quality for a whole GOP"):
        units("transform", policy="hierarchical")
    with pytest.raises(UsageError, match="has no rotation"):
        units("contextual", rotation=3)
    with pytest.raises(UsageError, match="1 to 9 latents, not 10"):
        units("transform", rotation=10)


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("transform", {"rotation": 0}, "1 to 9 latents"),
        ("transform", {"policy": 1}, "one quality for a whole GOP"),
        ("contextual", {"rotation": 3}, "has no rotation"),
        ("transform", {"rotation": 4}, "GOP 0 is damaged"),  # other symbols than were coded
    ],
)
def test_a_unit_of_the_other_kind_is_refused(kind: BottleneckKind, change: dict[str, int], reason: str) -> None:
    (unit,) = units(kind)
    with pytest.raises(BitstreamError, match=reason):
        list(nano_codec(kind).decode(stream(kind, [replace(unit, **change)])))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_where_refinement_starts_may_differ_from_gop_to_gop(kind: BottleneckKind) -> None:
    codec, (unit,) = nano_codec(kind), units(kind)

    def shown(unit: Unit, sigma_0: float) -> np.ndarray:
        told = replace(codec.refinement, steps=1, sigma_0=sigma_0)
        data = pack_stream(codec.header(INFO, EncodeOptions(refinement=told)), [unit])
        return np.concatenate(list(codec.decode(data)))

    as_header, as_unit = shown(unit, 0.5), shown(replace(unit, sigma_0=0.5), 0.1)
    assert np.array_equal(as_header, as_unit) and not np.array_equal(as_header, shown(unit, 0.1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_measures_where_each_gop_s_refinement_starts(kind: BottleneckKind) -> None:
    plain = nano_codec(kind)
    codec = replace(plain, refinement=replace(plain.refinement, steps=1, sigma_ratio=0.5))
    (gop,) = codec.latents(iter(smooth_clip(32, 48, 17)), EncodeOptions(gop=17, canvas="off"))
    found = [codec.encode_gop(0, gop, quality).sigma_0 for quality in (0, 32, 63)]
    for quality, sigma_0 in zip((0, 32, 63), found, strict=True):
        _, known = codec.bottleneck.compress(gop.latents, [quality] * gop.latents.shape[2])
        error = torch.stack([one.latent for one in known], 2) - gop.latents
        noise = 0.5 * error.square().mean().sqrt().item()
        assert sigma_0 == pytest.approx(noise / (1 + noise), abs=1e-6)
    assert len(set(found)) == 3
    for none in (replace(codec.refinement, sigma_ratio=None), replace(codec.refinement, steps=0)):
        assert codec.encode_gop(0, gop, 32, EncodeOptions(refinement=none)).sigma_0 is None


def test_a_model_says_up_to_which_quality_it_refines() -> None:
    codec = nano_codec("transform")
    codec = replace(codec, refinement=replace(codec.refinement, steps=1, highest_quality=31))
    for quality, refined in ((31, True), (32, False)):
        data = codec.encode(Video(INFO, ((one, None) for one in smooth_clip(32, 48, 17))), quality=quality, gop=17)
        shown, as_decoded, asked = (
            np.concatenate(list(codec.decode(data, **options))) for options in ({}, {"refine": False}, {"steps": 1})
        )
        assert np.array_equal(shown, asked if refined else as_decoded) and not np.array_equal(asked, as_decoded)


@pytest.mark.parametrize("kind", KINDS)
def test_without_steps_a_stream_is_shown_as_decoded(kind: BottleneckKind) -> None:
    codec, coded = nano_codec(kind), units(kind)
    plain = replace(codec.refinement, steps=0)
    data = pack_stream(codec.header(INFO, EncodeOptions(refinement=plain)), coded)
    decoded = np.concatenate(list(codec.decode(data)))
    assert np.array_equal(decoded, np.concatenate(list(codec.decode(data, refine=False))))
    assert not np.array_equal(decoded, np.concatenate(list(codec.decode(data, steps=1))))


def test_features_are_of_their_own_latent() -> None:
    """A slice that is large in one latent alone makes that latent, and no other, unsure; the step is one everywhere."""
    codec = nano_codec("transform").bottleneck
    latents = torch.randn(1, 16, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    _, known = codec.compress(latents, [40] * 5)
    assert all(one.feature.shape == (1, codec.preset.features, 4, 6) for one in known)
    assert torch.stack([one.feature[0, -1] for one in known]).unique().numel() == 1
    before = codec.rotation.inverse(torch.zeros(1, 5, 64, 2, 3))  # type: ignore[operator, union-attr]
    moved = before.clone()
    moved[:, 3] += 1
    place, step = torch.zeros(1), torch.ones(1)
    hidden = [codec.correction(one, place, step)[1] for one in (before, moved)]  # type: ignore[operator]
    changed = [not torch.equal(hidden[0][:, t], hidden[1][:, t]) for t in range(5)]
    far = (hidden[0] - hidden[1]).abs().amax((0, 2, 3, 4))
    assert changed[3] and far.argmax() == 3  # its neighbours see it too, less


def test_how_sure_a_latent_is_follows_from_the_tables() -> None:
    """Orthonormal transforms: equal errors of all slices are as large in every latent, whatever the basis."""
    codec = nano_codec("transform").bottleneck
    errors, log_step = torch.full((1, 5, 64, 2, 3), 0.04), torch.tensor([0.3])
    found = codec._uncertainty(errors, log_step)  # type: ignore[operator]
    assert found.shape == (1, 5, 17, 4, 6)
    assert torch.allclose(found[:, :, :16], torch.full((1,), float(np.log(0.2)) - 0.3), atol=1e-4)
    assert torch.allclose(found[:, :, 16:], torch.full((1,), 0.3))


def test_a_description_says_its_kind_and_older_ones_are_the_papers() -> None:
    hint = ContextualPreset | TransformPreset
    sizes = vars(PRESETS["nano"].transform)
    assert strict._value(hint, sizes, "codec") == PRESETS["nano"].transform
    older = {name: value for name, value in vars(PRESETS["nano"].contextual).items() if name != "kind"}
    assert strict._value(hint, older, "codec") == PRESETS["nano"].contextual
    with pytest.raises(GnvcError, match="kind is contextual or transform, not 'fractal'"):
        strict._value(hint, {**sizes, "kind": "fractal"}, "codec")
