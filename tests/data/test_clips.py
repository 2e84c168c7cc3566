"""Clips of videos and septuplets: the right frames, the right part of them, in an order that anyone can go on with."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gnvc_vd.conventions import Frame, GnvcError, UsageError
from gnvc_vd.data.clips import BLOCK, ClipSpec, Mixture, SeptupletClips, VideoClips, draw_area, shrink_and_mirror
from gnvc_vd.data.manifests import Entry, write_manifest
from gnvc_vd.data.samples import Draws, UnsuitableError
from gnvc_vd.video.pixels import to_model
from gnvc_vd.video.seeking import Area
from tests.conftest import smooth_clip
from tests.data.material import film, numbered, septuplets

PLAIN = ClipSpec(frames=5, height=16, width=32, flip=False)


def where(clip: Tensor) -> tuple[list[int], int, int]:
    """Frame numbers, top and left of a clip of `numbered` frames; every pixel is checked."""
    red, green, blue = clip.int()
    top, left = int(green[0, 0, 0]), int(blue[0, 0, 0])
    times = (red[:, 0, 0] // 4).tolist()
    assert (red == red[:, :1, :1]).all() and (red[:, 0, 0] % 4 == 0).all()
    assert (green == top + torch.arange(clip.shape[2])[:, None]).all()
    assert (blue == left + torch.arange(clip.shape[3])).all()
    return times, top, left


def levels(frames: Frame) -> Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


@pytest.fixture
def films(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "nothing").mkdir()
    film(tmp_path / "a.mkv", numbered(12))
    film(tmp_path / "b.mkv", numbered(30))
    film(tmp_path / "inner" / "c.mkv", numbered(20, 64, 48))
    (tmp_path / "notes.txt").write_text("no film")
    return tmp_path


def test_a_clip_is_neighbouring_frames_of_one_place(films: Path) -> None:
    clips = VideoClips(films, PLAIN)
    assert len(clips) == 3
    seen = set()
    for number in range(12):
        clip = clips[number]
        assert clip.shape == (3, 5, 16, 32) and clip.dtype == torch.uint8 and clip.is_contiguous()
        times, top, left = where(clip)
        assert times == list(range(times[0], times[0] + 5))
        seen.add((times[0], top, left))
    assert len(seen) == 12 and clips.skipped == {}


def test_starts_and_places_reach_every_end() -> None:
    drawn = [draw_area(Draws(0, number), 19, 34, PLAIN) for number in range(200)]
    assert {area.top for area in drawn} == set(range(4)) and {area.left for area in drawn} == set(range(3))
    assert {(area.height, area.width) for area in drawn} == {(16, 32)}


def test_every_frame_of_a_film_is_shown_in_the_end(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", numbered(8, 16, 32))
    clips = VideoClips(tmp_path, PLAIN)
    assert {where(clips[number])[0][0] for number in range(40)} == {0, 1, 2, 3}


def test_stride_takes_every_so_many_frames(films: Path) -> None:
    clips = VideoClips(films, ClipSpec(5, 16, 32, stride=4, flip=False))
    starts = [where(clips[number])[0] for number in range(8)]
    assert all(np.diff(times).tolist() == [4, 4, 4, 4] for times in starts)
    assert list(clips.skipped) == ["a.mkv"], "12 frames have no 5 at a stride of 4"


def test_half_of_the_clips_are_mirrored() -> None:
    frames = np.stack(numbered(5))[:, :16, :32]
    spec = ClipSpec(5, 16, 32)
    clips = [shrink_and_mirror(levels(frames), Draws(0, number), spec) for number in range(100)]
    upright = torch.from_numpy(frames).permute(3, 0, 1, 2)
    mirrored = [torch.equal(clip, upright.flip(3)) for clip in clips]
    assert all(torch.equal(clip, upright) for clip, other in zip(clips, mirrored, strict=True) if not other)
    assert 30 < sum(mirrored) < 70
    assert all(torch.equal(shrink_and_mirror(levels(frames), Draws(0, n), PLAIN), upright) for n in range(20))


def test_larger_films_are_shrunk_before_they_are_cropped(tmp_path: Path) -> None:
    """192 high to 64: a factor of 3, without aliasing."""
    spec = ClipSpec(1, 32, 32, short_side=64, flip=False)
    areas = [draw_area(Draws(0, number), 192, 300, spec) for number in range(50)]
    assert {(area.height, area.width) for area in areas} == {(96, 96)}
    stripes = np.zeros((1, 96, 96, 3), dtype=np.uint8)
    stripes[:, :, ::2] = 255
    clip = shrink_and_mirror(levels(stripes), Draws(0, 0), spec)
    assert clip.shape == (3, 1, 32, 32) and (clip[..., 1:-1].int() - 128).abs().max() < 40
    smooth = smooth_clip(96, 96, 1)[0][None]
    clip = shrink_and_mirror(levels(smooth), Draws(0, 0), spec)
    means = torch.from_numpy(smooth).float().view(32, 3, 32, 3, 3).mean((1, 3)).permute(2, 0, 1)
    assert (clip[:, 0].float() - means).abs().max() < 3
    small = draw_area(Draws(0, 0), 40, 50, spec)
    assert (small.height, small.width) == (32, 32), "smaller films are not blown up"


def test_what_is_too_small_gives_no_clip() -> None:
    assert draw_area(Draws(0, 0), 16, 32, PLAIN) == Area(0, 0, 16, 32)
    for height, width in ((15, 32), (16, 31)):
        with pytest.raises(UnsuitableError, match=f"{width}×{height} pixels, but a clip needs 32×16"):
            draw_area(Draws(0, 0), height, width, PLAIN)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((4, 16, 16), "not 1 \\+ 4k"),
        ((0, 16, 16), "not 1 \\+ 4k"),
        ((5, 24, 16), "multiple of 16"),
        ((5, 16, 0), "multiple of 16"),
        ((5, 16, 16, 0), "stride"),
        ((5, 32, 48, 1, 16), "short_side"),
        ((5, 16, 16, 1, None, True, -1), "seed"),
    ],
)
def test_impossible_clips_are_refused(arguments: tuple[int, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ClipSpec(*arguments)


def test_bytes_become_the_models_range() -> None:
    levels = to_model(torch.arange(256, dtype=torch.uint8))
    assert levels.dtype == torch.float32 and levels[0] == -1 and levels[255] == 1
    assert torch.allclose(levels.diff(), torch.full((255,), 2 / 255), atol=1e-6)


def test_a_number_shows_the_same_clip_in_any_process_after_anything(films: Path) -> None:
    spec = ClipSpec(5, 16, 32, seed=3)
    alone = {number: VideoClips(films, spec)[number] for number in (7, 2, 11)}
    for workers in (0, 2):
        loader = DataLoader(VideoClips(films, spec), batch_size=2, sampler=range(12), num_workers=workers)
        clips = torch.cat(list(loader))
        assert all(torch.equal(clips[number], clip) for number, clip in alone.items())
    assert not torch.equal(VideoClips(films, ClipSpec(5, 16, 32, seed=4))[7], alone[7])


def test_a_pass_takes_one_clip_of_each_film(tmp_path: Path) -> None:
    for level in range(5):
        film(tmp_path / f"{level}.mkv", [np.full((16, 32, 3), 40 * level, dtype=np.uint8)] * 5)
    clips = VideoClips(tmp_path, PLAIN)
    for turn in range(3):
        assert sorted(int(clips[5 * turn + k].max()) for k in range(5)) == [0, 40, 80, 120, 160]


def test_bad_films_are_passed_over_and_named_also_from_loader_processes(films: Path) -> None:
    (films / "empty.mp4").write_bytes(b"")
    whole = (films / "b.mkv").read_bytes()
    (films / "torn.mkv").write_bytes(whole[:300])
    film(films / "short.mkv", numbered(4))
    film(films / "small.mkv", numbered(9, 8, 32))
    wanted = {
        "empty.mp4": "cannot be read",
        "torn.mkv": "cannot be read",
        "short.mkv": "is too short or too small",
        "small.mkv": "is too short or too small",
    }
    results = []
    for workers in (0, 2):
        clips = VideoClips(films, PLAIN)
        results.append(torch.cat(list(DataLoader(clips, batch_size=3, sampler=range(21), num_workers=workers))))
        assert clips.skipped == wanted
    assert torch.equal(*results)
    for clip in results[0]:
        where(clip)


def test_entries_are_runs_of_frames_and_splits_are_kept_apart(films: Path) -> None:
    entries = [
        Entry("b.mkv", start=3, frames=6),
        Entry("b.mkv", start=20, frames=5),
        Entry("a.mkv", split="validation"),
    ]
    write_manifest(films / "m.jsonl", "videos", entries)
    clips = VideoClips(films / "m.jsonl", PLAIN)
    starts = Counter(where(clips[number])[0][0] for number in range(40))
    assert set(starts) == {3, 4, 20} and starts[20] == 20
    held = VideoClips(films / "m.jsonl", PLAIN, split="validation")
    assert len(held) == 1 and len(VideoClips(films / "m.jsonl", PLAIN, split=None)) == 3
    with pytest.raises(UsageError, match="a folder has no split 'validation'"):
        VideoClips(films, PLAIN, split="validation")
    with pytest.raises(GnvcError, match="no videos there"):
        VideoClips(films / "nothing", PLAIN)


def test_a_manifest_that_promises_too_much_is_believed_only_as_far_as_the_film(films: Path) -> None:
    write_manifest(
        films / "m.jsonl", "videos", [Entry("a.mkv", start=6, frames=600), Entry("a.mkv", start=50, frames=9)]
    )
    clips = VideoClips(films / "m.jsonl", PLAIN)
    assert {where(clips[number])[0][0] for number in range(20)} == {6, 7}
    assert clips.skipped == {"a.mkv[50:59]": "is too short or too small"}


def test_septuplets_are_read_in_their_order(tmp_path: Path) -> None:
    septuplets(tmp_path, ["00001/0001", "00001/0002", "00002/0001"])
    clips = SeptupletClips(tmp_path, PLAIN)
    assert len(clips) == 3
    seen = set()
    for number in range(24):
        times, _, _ = where(clips[number])
        assert times == list(range(times[0], times[0] + 5))
        assert times[0] // 7 == times[-1] // 7, "a clip lies in one septuplet"
        seen.add(times[0])
    assert seen == {0, 1, 2, 7, 8, 9, 14, 15, 16}
    strided = SeptupletClips(tmp_path, ClipSpec(1, 16, 32, flip=False))
    assert {where(strided[number])[0][0] for number in range(120)} == set(range(21))


def test_septuplets_that_are_missing_or_torn_are_passed_over(tmp_path: Path) -> None:
    septuplets(tmp_path, ["00001/0001", "00001/0002", "00002/0001"])
    (tmp_path / "sequences/00001/0002/im4.png").write_bytes(b"torn")
    with (tmp_path / "sep_trainlist.txt").open("a") as out:
        out.write("00009/0009\n../../outside\n")
    clips = SeptupletClips(tmp_path, PLAIN)
    assert len(clips) == 5
    assert {where(clips[number])[0][0] // 7 for number in range(20)} == {0, 2}
    assert set(clips.skipped) == {"00001/0002", "00009/0009", "../../outside"}
    with pytest.raises(UsageError, match="a septuplet has 7 frames"):
        SeptupletClips(tmp_path, ClipSpec(9, 16, 32))
    with pytest.raises(GnvcError, match=r"sep_testlist\.txt: missing"):
        SeptupletClips(tmp_path, PLAIN, "sep_testlist.txt")


class Numbers:
    """A source that shows its own name and the number it was asked for."""

    def __init__(self, name: int, count: int) -> None:
        self.name, self.count = name, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Tensor:
        return torch.tensor([self.name, number])

    @property
    def skipped(self) -> dict[str, str]:
        return {"x": f"bad {self.name}"}


def test_a_mixture_keeps_its_shares_and_numbers_each_part_through() -> None:
    mixture = Mixture([(Numbers(0, 5), 6.0), (Numbers(1, 3), 3.0), (Numbers(2, 9), 1.0)], seed=1)
    shown = [mixture[number].tolist() for number in range(2 * BLOCK)]
    for part, share in ((0, 614), (1, 307), (2, 103)):
        numbers = [number for name, number in shown if name == part]
        assert numbers == list(range(2 * share))
    early = Counter(name for name, _ in shown[:200])
    assert 90 < early[0] < 150 and 35 < early[1] < 85 and 5 < early[2] < 40
    first, second = ([name for name, _ in half] for half in (shown[:BLOCK], shown[BLOCK:]))
    assert first != second
    assert [mixture[number].tolist() for number in (1500, 3)] == [shown[1500], shown[3]]
    assert len(mixture) == 17
    assert mixture.skipped == {"part 0: x": "bad 0", "part 1: x": "bad 1", "part 2: x": "bad 2"}


def test_no_share_is_rounded_away() -> None:
    mixture = Mixture([(Numbers(0, 1), 1e-9), (Numbers(1, 1), 1.0), (Numbers(2, 1), 1.0)])
    shares = Counter(mixture.source_of(number)[0] for number in range(BLOCK))
    assert shares[0] == 1 and abs(shares[1] - shares[2]) == 1
    for parts in ([], [(Numbers(0, 1), 0.0)]):
        with pytest.raises(UsageError, match="each a weight above 0"):
            Mixture(parts)
    with pytest.raises(IndexError):
        mixture.source_of(-1)
