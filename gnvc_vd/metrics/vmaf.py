"""VMAF, by the packaged ffmpeg, frame by frame.

    Y U V of both videos, frame about frame ──pipe──▶ ffmpeg: split, select, libvmaf ──▶ its log ──▶ pooled mean

One pipe carries both videos, so nothing can wait for the wrong one and nothing is written to disk but the log.
"""

import json
import tempfile
from pathlib import Path

from gnvc_vd.metrics import UnavailableError
from gnvc_vd.metrics.pairs import Pair
from gnvc_vd.video import ffmpeg

MODEL = "vmaf_v0.6.1"
LOG = "vmaf.json"


class Vmaf:
    """The mean over frames of VMAF v0.6.1 on the pairs' planes. ffmpeg runs beside us; `close` ends it."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._folder = tempfile.TemporaryDirectory(prefix="vmaf.")
        self._process: ffmpeg.FfmpegWriter | None = None

    def add(self, pair: Pair) -> None:
        x, y = pair.reference_planes, pair.test_planes
        if self._process is None:
            height, width = x.codes[0].shape
            form = ["-f", "rawvideo", "-pix_fmt", x.pixel_format, "-s", f"{width}x{height}", "-r", "25"]
            self._process = ffmpeg.FfmpegWriter(
                [*form, "-i", "-", "-lavfi", self._graph(), "-f", "null", "-"], self._folder.name
            )
        self._process.write(x.tobytes())
        self._process.write(y.tobytes())

    def value(self) -> float:
        if self._process is None:
            raise UnavailableError("needs at least one frame")
        self._process.finish()
        log = json.loads((Path(self._folder.name) / LOG).read_text())
        return float(log["pooled_metrics"]["vmaf"]["mean"])

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
        self._folder.cleanup()

    def _graph(self) -> str:
        """Even frames are the original, odd ones the test; both are then numbered anew."""
        scoring = f"libvmaf=model=version={MODEL}:log_fmt=json:log_path={LOG}:n_threads={self._threads}"
        return (
            "split[a][b];[a]select=not(mod(n\\,2)),setpts=N/25/TB[x];"
            f"[b]select=mod(n\\,2),setpts=N/25/TB[y];[y][x]{scoring}"
        )
