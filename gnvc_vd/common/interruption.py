"""Ctrl-C and SIGTERM as KeyboardInterrupt, also where a library swallows it.

libav reads a pipe through a callback into Python; an exception in there is printed and dropped, and the callback's
caller sees a read error, or asks again and waits for ever. So an interruption that was dropped is noticed, not
printed, and said again. Others make another exception of it (Python 3.11 itself does, while it makes an enum), so what
is raised after an interruption is one.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

AGAIN = 2.0  # seconds: what the first one set off has ended by then, or is stuck


@dataclass
class Interruption:
    """Whether there was one, and what a program then exits with: 128 and the signal's number."""

    code: int | None = None

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.code = self.code or 128 + number  # the first one; an alarm only says it again
        raise KeyboardInterrupt

    def on_unraisable(self, what: Any) -> None:
        """An exception that had nowhere to go; takes the place of sys.unraisablehook."""
        if issubclass(what.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, AGAIN)
        else:
            sys.__unraisablehook__(what)

    def on_exception(self, kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
        """In place of sys.excepthook, which Cython calls for what it drops, before it drops it."""
        if not issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, value, trace)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """For a program's main thread."""
    interruption = Interruption()
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.signal(number, interruption.on_signal) for number in handled]
    hooks = sys.unraisablehook, sys.excepthook
    sys.unraisablehook, sys.excepthook = interruption.on_unraisable, interruption.on_exception
    try:
        yield interruption
    except Exception as error:
        if interruption.code is None:
            raise
        raise KeyboardInterrupt from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook, sys.excepthook = hooks
        for number, handler in zip(handled, before, strict=True):
            signal.signal(number, handler)
