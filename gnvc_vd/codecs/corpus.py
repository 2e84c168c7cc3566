"""A corpus: every video of a manifest to a stream and back, shared over processes, resumed where it stopped.

    manifest ──a share for each process──▶ OUT/streams/NAME.gnvc ──▶ OUT/decoded/NAME.mkv
                                           OUT/records/NAME.json    written last: the video is done

Every file is written whole. A video that fails is recorded with its reason and tried again by the next call.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from gnvc_vd.backbone.weights import Options
from gnvc_vd.bitstream.playback import DecodeOptions
from gnvc_vd.codecs.contract import Codec
from gnvc_vd.codecs.transcode import decode_file, encode_video
from gnvc_vd.common.files import file_sha256, write_text
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import GnvcError
from gnvc_vd.data.manifests import Entry, inside
from gnvc_vd.learned.codec import GnvcVd
from gnvc_vd.video import open_video


@dataclass(frozen=True)
class Corpus:
    """What is coded, and how.

    Args:
        settings: the encoder's options of the codec.
        computing: what the codec was loaded with.
        suffix: of decoded videos; None decodes nothing.
        frames: of each video, the first so many.
    """

    root: Path
    entries: Sequence[Entry]
    out: Path
    settings: Any
    decoding: DecodeOptions = field(default_factory=DecodeOptions)
    computing: Options = field(default_factory=Options)
    suffix: str | None = ".mkv"
    frames: int | None = None

    def place(self, folder: str, entry: Entry, suffix: str) -> Path:
        scene = f".{entry.start}-{entry.start + entry.frames}" if entry.start else ""
        return self.out / folder / f"{entry.path}{scene}{suffix}"

    def key(self, codec: Codec[Any], entry: Entry) -> str:
        """A digest of all that decides what a video becomes; a record of another one is made again."""
        plain = {name: getattr(self, name) for name in ("settings", "decoding", "computing", "suffix", "frames")}
        film = entry.sha256 or _size_and_time(self.root / entry.path), entry.start, entry.frames
        own = (codec.refinement, codec.bottleneck.thrift) if isinstance(codec, GnvcVd) else ()  # in no identity
        whole = f"{codec.coded_identity.hex()} {codec.shown_identity.hex()} {plain} {film} {own}"
        return hashlib.sha256(whole.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Record:
    """What became of a video: what `encode --json` says of its stream, or why it failed."""

    name: str
    key: str
    error: str | None = None
    decode_seconds: float = 0.0
    encoded: dict[str, float | str | None] = field(default_factory=dict)


def code_corpus(corpus: Corpus, codec: Codec[Any], share: tuple[int, int] = (0, 1)) -> tuple[int, int]:
    """This process's share, which is the same whoever did what before; how many were made here, and were there."""
    number, of = share
    made = kept = 0
    for entry in tqdm(corpus.entries[number::of], unit="video", desc="corpus", disable=None):
        key = corpus.key(codec, entry)
        before = read_record(corpus, entry)
        if before is not None and (before.key, before.error) == (key, None):
            kept += 1
            continue
        record = _code(corpus, codec, entry, key)
        write_text(corpus.place("records", entry, ".json"), json.dumps(dataclasses.asdict(record)) + "\n")
        made += record.error is None
    return made, kept


def _code(corpus: Corpus, codec: Codec[Any], entry: Entry, key: str) -> Record:
    try:
        film, stream = inside(corpus.root, entry.path), corpus.place("streams", entry, ".gnvc")
        require(entry.sha256 in (None, file_sha256(film)), "its sha256 is not the manifest's", GnvcError)
        stream.parent.mkdir(parents=True, exist_ok=True)
        wanted = min((n for n in (entry.frames or None, corpus.frames) if n is not None), default=None)
        with open_video(film) as video:
            for _ in islice(video, entry.start):
                pass
            done = encode_video(codec, video, str(stream), corpus.settings, wanted)
        short = f"{done.frames} frames, but the manifest says {entry.frames}"
        require(not entry.frames or done.frames == wanted, short, GnvcError)
        seconds = 0.0
        if corpus.suffix is not None:
            target = corpus.place("decoded", entry, corpus.suffix)
            target.parent.mkdir(parents=True, exist_ok=True)
            seconds = decode_file(lambda _: codec, str(stream), str(target), corpus.decoding).seconds
    except (GnvcError, OSError, torch.OutOfMemoryError) as error:
        return Record(entry.name, key, error=" ".join(str(error).split()) or type(error).__name__)
    return Record(entry.name, key, None, seconds, vars(done))


def _size_and_time(film: Path) -> tuple[int, int] | None:
    """None for a film that is not there."""
    try:
        found = film.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def read_record(corpus: Corpus, entry: Entry) -> Record | None:
    """None where there is none yet."""
    path = corpus.place("records", entry, ".json")
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
    except (ValueError, TypeError) as error:
        raise GnvcError(f"{path}: not a record of this program ({error}); remove it") from error
