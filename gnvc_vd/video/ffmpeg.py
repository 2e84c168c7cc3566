"""The packaged ffmpeg as argv lists, never a shell."""

import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import cache

from gnvc_vd.conventions import GnvcError

QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error", "-y")


@cache
def executable() -> str:
    """Where the ffmpeg that imageio-ffmpeg carries lies."""
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise GnvcError(f"there is no ffmpeg: {str(error).splitlines()[0]}") from error


def run(arguments: Sequence[str], data: bytes = b"", seconds: float | None = None) -> bytes:
    """What ffmpeg writes to its standard output; a failure is an error that carries ffmpeg's own last line.

    Args:
        data: its standard input, which may be hostile: it dies alone, and not later than after so many seconds.
    """
    command = [executable(), *QUIET, *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise GnvcError(f"ffmpeg did not finish within {seconds:g} s") from None
    _check(done.returncode, done.stderr)
    return done.stdout


class FfmpegWriter(AbstractContextManager["FfmpegWriter"]):
    """ffmpeg beside us, reading what we write; its failure is an error that carries its own last line.

    A `with` block that ends well waits until ffmpeg has worked off what came; one that does not ends ffmpeg.
    """

    def __init__(self, arguments: Sequence[str], folder: str) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it; a pipe that nobody empties would stop ffmpeg
        command = [executable(), *QUIET, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, cwd=folder
        )

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except BrokenPipeError as error:
            self.finish()
            raise GnvcError("ffmpeg failed: it ended before its input did") from error

    def finish(self) -> None:
        """Nothing more comes; wait until it has worked off what came."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        code = self._process.wait()
        self._said.seek(0)
        _check(code, self._said.read())

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said.close()


def _check(code: int, message: bytes) -> None:
    if code != 0:
        lines = message.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
        raise GnvcError(f"ffmpeg failed: {lines[-1]}")
