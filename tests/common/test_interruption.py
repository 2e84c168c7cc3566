"""An interruption that a library drops is said again; handlers are as before afterwards."""

import ctypes
import signal
import sys
import time
from contextlib import suppress

import pytest

from gnvc_vd.cli import main
from gnvc_vd.common import interruption
from gnvc_vd.common.interruption import interruptible


def test_an_interruption_that_a_callback_drops_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "AGAIN", 0.2)

    @ctypes.CFUNCTYPE(None)
    def callback() -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), interruptible() as heard:
        callback()  # ctypes drops what is raised in it, as libav does
        assert heard.code == 128 + signal.SIGTERM
        time.sleep(10)


def test_an_interruption_that_becomes_another_exception_is_one() -> None:
    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), interruptible() as heard:
        type("Owner", (), {"named": Named()})  # Python 3.11 makes a RuntimeError of what is raised in there
    assert heard.code == 128 + signal.SIGINT
    with pytest.raises(KeyboardInterrupt), interruptible():
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ValueError("half read")


def test_other_exceptions_stay_what_they_are() -> None:
    with pytest.raises(ValueError, match="wrong"), interruptible():
        raise ValueError("wrong")


def test_what_else_is_dropped_is_reported_as_always(capsys: pytest.CaptureFixture[str]) -> None:
    @ctypes.CFUNCTYPE(None)
    def callback() -> None:
        raise ValueError("dropped")

    with interruptible() as heard:
        callback()
    assert heard.code is None and "dropped" in capsys.readouterr().err


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.unraisablehook
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) != before[0][1]
    assert ([signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], sys.unraisablehook) == before


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_exit_code_says_which_signal_it_was(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], how: signal.Signals, code: int
) -> None:
    monkeypatch.setitem(main.COMMANDS, "bench", lambda _: signal.raise_signal(how) or 0)
    assert main.main(["bench"]) == code and capfd.readouterr().err == "gnvc-vd: interrupted\n"
