"""Which frames of which clips are looked at."""

from pathlib import Path

import pytest
import torch

from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.clips import ClipSpec, VideoClips
from gnvc_vd.data.manifests import Entry, write_manifest
from gnvc_vd.data.photos import PhotoClips
from lab.probe_clips import middle_clips, training_clips
from tests.data.material import film, numbered, photo

SPEC = ClipSpec(5, 32, 32)


def test_a_videos_middle_comes_clip_after_clip(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mkv", numbered(13))
    clips = list(middle_clips(path, 5, 32))
    assert len(clips) == 2  # the last three frames are no clip
    assert [clip.shape for clip in clips] == [(3, 5, 32, 32)] * 2
    reds = [clip[0, :, 0, 0].tolist() for clip in clips]
    assert reds == [[0, 4, 8, 12, 16], [20, 24, 28, 32, 36]]
    assert clips[0][1:, 0, 0, 0].tolist() == [8, 16]  # of 48 rows and 64 columns
    with pytest.raises(GnvcError, match="13 frames, 17 were asked for"):
        next(middle_clips(path, 17, 32))
    with pytest.raises(GnvcError, match="64×48 has no 64×64 crop"):
        next(middle_clips(path, 5, 64))


def test_training_clips_are_those_of_a_training(tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg", seed=0)
    photo(tmp_path / "b.jpg", seed=1)
    film(tmp_path / "film.mkv", numbered(13))
    write_manifest(tmp_path / "photos.jsonl", "photos", [Entry("a.jpg"), Entry("b.jpg", split="validation")])
    write_manifest(tmp_path / "films.jsonl", "videos", [Entry("film.mkv")])
    for name, kind in (("photos.jsonl", PhotoClips), ("films.jsonl", VideoClips)):
        found = list(training_clips(tmp_path / name, SPEC, 3))
        clips = kind(tmp_path / name, SPEC)
        assert len(clips) == 1 and len(found) == 3
        assert all(torch.equal(clip, clips[number]) for number, clip in enumerate(found))
    for count, expected in ((1, 1), (3, 2)):
        found = list(training_clips(tmp_path / "film.mkv", SPEC, count))
        assert len(found) == expected and torch.equal(found[0], next(middle_clips(tmp_path / "film.mkv", 5, 32)))
    with pytest.raises(GnvcError, match="missing"):
        next(training_clips(tmp_path / "none.jsonl", SPEC, 1))
