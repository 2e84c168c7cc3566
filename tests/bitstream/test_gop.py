"""Cutting, padding and cropping: properties over every size and length that is promised."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnvc_vd.bitstream import gop as g
from gnvc_vd.conventions import UsageError

gops = st.integers(0, 61).map(lambda k: 1 + 4 * k)
windows = st.integers(1, 30).map(lambda k: 1 + 4 * k)


def sizes(frames: int, gop: int = 25) -> list[int]:
    return [len(part) for part in g.split_gops(range(frames), gop)]


@given(frames=st.integers(0, 1000), gop=gops)
def test_gops_tile_the_clip(frames: int, gop: int) -> None:
    parts = list(g.split_gops(range(frames), gop))
    assert [frame for part in parts for frame in part] == list(range(frames))
    assert all(len(part) == gop for part in parts[:-1])
    assert all(min(gop, g.MIN_TAIL, frames) <= len(part) <= g.MAX_GOP for part in parts)
    assert len(parts) == max(frames > 0, (frames + gop - min(gop, g.MIN_TAIL)) // gop)


@given(frames=st.integers(0, 300), gop=gops, shared=st.integers(0, 3))
def test_gops_that_share_frames_begin_with_the_last_of_the_one_before(frames: int, gop: int, shared: int) -> None:
    shared = min(shared, gop - 1)
    parts = list(g.split_gops(range(frames), gop, shared))
    assert [frame for part in parts[:1] + [part[shared:] for part in parts[1:]] for frame in part] == list(
        range(frames)
    )
    assert all(before[len(before) - shared :] == after[:shared] for before, after in pairwise(parts))
    assert all(len(part) == gop for part in parts[:-1]) and all(len(part) > shared for part in parts[1:])


def test_a_clip_is_cut_with_bounded_memory() -> None:
    taken = []
    parts = g.split_gops((taken.append(i) or i for i in range(10_000)), 25)
    next(parts)
    assert len(taken) == 25 + g.MIN_TAIL


def test_gops_of_25_frames() -> None:
    assert sizes(96) == [25, 25, 25, 21]
    assert sizes(80) == [25, 25, 30]
    assert sizes(34) == [25, 9]
    assert sizes(33) == [33]


@given(frames=st.integers(1, 1000))
def test_latents_hold_their_frames_and_no_latent_is_idle(frames: int) -> None:
    latents = g.latents_of(frames)
    assert g.frames_of(latents) >= frames > g.frames_of(latents) - 4
    assert g.latents_of(g.frames_of(latents)) == latents


@given(latents=st.integers(1, 251), window=windows)
def test_windows_tile_the_latents_and_see_no_more_than_they_may(latents: int, window: int) -> None:
    parts = g.windows(latents, window)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == latents
    seen = [len(part) + (part.start > 0) for part in parts]  # with the context latent
    assert all(len(part) > 0 for part in parts) and all(count <= g.latents_of(window) for count in seen)
    assert all(count == g.latents_of(window) for count in seen[:-1])
    spans = [g.frame_span(part.start, part.stop) for part in parts]
    assert spans[0][0] == 0 and spans[-1][1] == g.frames_of(latents)
    assert all(before[1] == after[0] for before, after in pairwise(spans))


def test_a_gop_of_97_frames_is_7_6_6_6() -> None:
    assert [len(part) for part in g.windows(g.latents_of(97))] == [7, 6, 6, 6]


@given(width=st.integers(1, 4096), height=st.integers(1, 4096))
@settings(max_examples=300)
def test_padded_sizes_are_the_next_multiples_of_16(width: int, height: int) -> None:
    for size, padded in zip((width, height), g.padded_size(width, height), strict=True):
        assert padded % 16 == 0 and size <= padded < size + 16
    assert g.latent_size(width, height) == tuple(side // 8 for side in g.padded_size(width, height))


@given(frames=st.integers(1, 12), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_padding_repeats_the_edge_and_cropping_undoes_it(frames: int, height: int, width: int) -> None:
    clip = np.random.default_rng(frames).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    padded = g.pad(clip)
    count, padded_height, padded_width, _ = padded.shape
    assert ((count - 1) % 4, padded_height % 16, padded_width % 16) == (0, 0, 0)
    assert (padded[frames:] == padded[frames - 1]).all()
    assert (padded[:, height:] == padded[:, height - 1 : height]).all()
    assert (padded[:, :, width:] == padded[:, :, width - 1 : width]).all()
    assert (g.crop(padded, frames, width, height) == clip).all()


@pytest.mark.parametrize("gop", [0, 2, 24, 249, -3])
def test_a_gop_that_is_not_one_is_refused_in_a_sentence(gop: int) -> None:
    with pytest.raises(UsageError, match=r"not 1 \+ 4k"):
        list(g.split_gops(range(100), gop))
