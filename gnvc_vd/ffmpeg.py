"""The packaged ffmpeg as argv lists, never a shell."""

import subprocess
from collections.abc import Sequence
from functools import cache

from gnvc_vd.conventions import GnvcError


@cache
def executable() -> str:
    """Where the ffmpeg that imageio-ffmpeg carries lies."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def run(arguments: Sequence[str]) -> None:
    """Run ffmpeg; a failure is an error that carries ffmpeg's own last line."""
    command = [executable(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise GnvcError(f"ffmpeg failed: {said[-1]}")
