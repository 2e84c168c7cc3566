"""Parsers for the values of options."""

import re
from argparse import ArgumentTypeError
from fractions import Fraction

from gnvc_vd.conventions import COMMON_RATES

MAX_NUMBER = (1 << 63) - 1
DIGITS = 19  # longest number that is parsed
RATE = re.compile(r"\d{1,9}(\.\d{1,9}|/\d{1,9})?")
DEVICE = re.compile(r"auto|cpu|(cuda|xpu|mps)(:\d{1,3})?")


def whole(text: str) -> int:
    try:
        value = int(text) if len(text) <= DIGITS else MAX_NUMBER + 1
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None
    if abs(value) > MAX_NUMBER:
        raise ArgumentTypeError("the number is too large")
    return value


def positive(text: str) -> int:
    value = whole(text)
    if value < 1:
        raise ArgumentTypeError(f"{value} is not positive")
    return value


def decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a number") from None


def positive_decimal(text: str) -> float:
    value = decimal(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text} is not a positive number")
    return value


def tile(text: str) -> int | None:
    """Parse --tile: None for auto, 0 for off, else pixels."""
    words = {"auto": None, "off": 0}
    return words[text] if text in words else positive(text)


def size(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not x:
        raise ArgumentTypeError(f"{text!r} is not WxH, as in 1920x1080")
    return positive(width), positive(height)


def rate(text: str) -> Fraction:
    if not RATE.fullmatch(text) or set(text.partition("/")[2]) == {"0"}:
        raise ArgumentTypeError(f"{text!r} is not a frame rate, such as 25, 29.97 or 30000/1001")
    stated = Fraction(text)
    return next((common for common in COMMON_RATES if abs(common - stated) < Fraction(1, 200)), stated)


def span(text: str) -> tuple[int, int | None]:
    first, colon, last = text.partition(":")
    if not colon:
        raise ArgumentTypeError(f"{text!r} is not A:B")
    bounds = whole(first or "0"), whole(last) if last else None
    if bounds[0] < 0 or (bounds[1] is not None and bounds[1] <= bounds[0]):
        raise ArgumentTypeError(f"{text!r} contains no GOP")
    return bounds


def device(text: str) -> str:
    if not DEVICE.fullmatch(text):
        raise ArgumentTypeError(f"{text!r} is not a device: give auto, cpu, cuda or cuda:1")
    return text
