"""The packaged ffmpeg as argv lists, never a shell."""

import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache

from gnvc_vd.conventions import GnvcError


@cache
def executable() -> str:
    """Where the ffmpeg that imageio-ffmpeg carries lies."""
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise GnvcError(f"there is no ffmpeg: {str(error).splitlines()[0]}") from error


def run(arguments: Sequence[str]) -> None:
    """Run ffmpeg; a failure is an error that carries ffmpeg's own last line."""
    command = [executable(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise GnvcError(f"ffmpeg failed: {said[-1]}")


def piped(arguments: Sequence[str], data: bytes, seconds: float = 600) -> bytes:
    """What ffmpeg makes of some bytes, which may be hostile: it dies alone, and not later than this."""
    command = [executable(), "-hide_banner", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise GnvcError(f"ffmpeg did not finish within {seconds:g} s") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise GnvcError(f"ffmpeg failed: {said[-1]}")
    return done.stdout


class Fed:
    """ffmpeg beside us, reading what we write; its failure is an error that carries its own last line."""

    def __init__(self, arguments: Sequence[str], folder: str) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it; a pipe that nobody empties would stop ffmpeg
        command = [executable(), "-hide_banner", "-loglevel", "error", "-y", *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._said, cwd=folder
        )

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
        said = self._said.read().decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
        if code != 0:
            raise GnvcError(f"ffmpeg failed: {said[-1]}")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said.close()
