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


@given(frames=st.integers(1, 1000), gop=gops, join=st.booleans())
def test_gops_tile_the_clip(frames: int, gop: int, join: bool) -> None:
    parts = g.cut(frames, gop, join)
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == frames
    assert all(part.frames == gop for part in parts[:-1])
    assert parts[-1].frames <= g.MAX_GOP
    if join and len(parts) > 1:
        assert parts[-1].frames >= min(gop, g.MIN_TAIL)
    if not join:
        assert len(parts) == -(-frames // gop)


@given(frames=st.integers(0, 1000), gop=gops, join=st.booleans())
def test_cutting_a_stream_of_unknown_length_is_the_same(frames: int, gop: int, join: bool) -> None:
    streamed = list(g.cut_stream(range(frames), gop, join))
    assert [len(part) for part in streamed] == [part.frames for part in g.cut(frames, gop, join)]
    assert [frame for part in streamed for frame in part] == list(range(frames))


def test_a_stream_is_cut_with_bounded_memory() -> None:
    taken = []
    parts = g.cut_stream((taken.append(i) or i for i in range(10_000)), 25)
    next(parts)
    assert len(taken) == 25 + g.MIN_TAIL


def test_the_papers_protocol_and_ours() -> None:
    assert [part.frames for part in g.cut(96, join_tail=False)] == [25, 25, 25, 21]
    assert [part.frames for part in g.cut(96)] == [25, 25, 25, 21]
    assert [part.frames for part in g.cut(80)] == [25, 25, 30]
    assert [part.frames for part in g.cut(80, join_tail=False)] == [25, 25, 25, 5]
    assert [part.frames for part in g.cut(34)] == [25, 9]
    assert [part.frames for part in g.cut(33)] == [33]


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
    assert all(part.stop > part.start and part.seen <= g.latents_of(window) for part in parts)
    assert all(part.seen == g.latents_of(window) for part in parts[:-1])
    assert [part.context for part in parts] == [None, *(part.start - 1 for part in parts[1:])]
    spans = [g.frame_span(part.start, part.stop) for part in parts]
    assert spans[0][0] == 0 and spans[-1][1] == g.frames_of(latents)
    assert all(before[1] == after[0] for before, after in pairwise(spans))


def test_a_gop_of_97_frames_is_7_6_6_6() -> None:
    assert [part.stop - part.start for part in g.windows(g.latents_of(97))] == [7, 6, 6, 6]


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
        g.cut(100, gop)
