"""GNVC-VD's parameters in the header, seven bytes: the settings of refinement.

A model's description holds them too, as defaults of its streams, with further fields that a header does not have.
"""

from dataclasses import dataclass

from gnvc_vd.bitstream import BitstreamError, Unit
from gnvc_vd.bitstream.gop import DEFAULT_WINDOW, check_window, frames_of, latents_of
from gnvc_vd.bitstream.layout import SIGMA_STEPS, sigma_code
from gnvc_vd.common.strict import require
from gnvc_vd.conventions import QUALITIES, UsageError

MAX_STEPS = 100
MAX_SEED = (1 << 24) - 1
MAX_RATIO = 100
TILES = range(64, 4097, 16)  # allowed tile sizes, in pixels


@dataclass(frozen=True)
class Refinement:
    """Refinement settings that the encoder chose; a decoder may take other steps. 0 steps: no refinement.

    Args:
        sigma_0: start of refinement, for GOPs without their own.
        sigma_ratio: only in models: the encoder sets each GOP's σ_0 by `flow.sigma_0_for`; None: it does not.
        highest_quality: only in models: GOPs of higher quality are refined only if a decoder asks for steps.
        tile: only in models: larger pictures are refined in tiles of at most this size in pixels; None: never.
    """

    steps: int = 5
    sigma_0: float = 0.3
    noise_scale: float = 1.0
    window: int = DEFAULT_WINDOW
    seed: int = 0
    sigma_ratio: float | None = None
    highest_quality: int = QUALITIES - 1
    tile: int | None = None

    def __post_init__(self) -> None:
        check_window(self.window)
        if not (0 <= self.steps <= MAX_STEPS and 0 < self.sigma_0 <= 1 and 0 <= self.noise_scale <= 1):
            values = f"{self.steps}, {self.sigma_0:g} and {self.noise_scale:g}"
            raise UsageError(f"steps are 0 to {MAX_STEPS}, σ_0 above 0 up to 1, the noise's scale 0 to 1: not {values}")
        ratio = 1.0 if self.sigma_ratio is None else self.sigma_ratio
        if not (0 < ratio <= MAX_RATIO and 0 <= self.highest_quality < QUALITIES):
            values = f"{ratio:g} and {self.highest_quality}"
            raise UsageError(f"a ratio of σ_0 is above 0 up to {MAX_RATIO}, a quality below {QUALITIES}: not {values}")
        check_tile(self.tile)
        if not 0 <= self.seed <= MAX_SEED or latents_of(self.window) > 255:
            values = f"{self.seed} and {self.window}"
            raise UsageError(f"a seed is 0 to {MAX_SEED}, a window at most {frames_of(255)} frames: not {values}")

    def describe(self) -> str:
        """The settings in words."""
        if not self.steps:
            return "as decoded, not refined"
        noise = f"noise × {self.noise_scale:g}, seed {self.seed}" if self.noise_scale else "no noise"
        steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
        start = f"σ_0 = {self.sigma_0:g} or a GOP's own, {noise}, in windows of {self.window} frames"
        return f"refined in {steps} from {start}, up to the quality that the model refines"

    def cost(self, unit: Unit) -> dict[str, int]:
        """Bytes of a unit by their content: symbols (with the canvas, if there is one), and an enhancement."""
        return {"symbols": len(unit.payload)} | ({"enhancement": len(unit.enhancement)} if unit.enhancement else {})

    def pack(self) -> bytes:
        sigma, scale = sigma_code(self.sigma_0), round(self.noise_scale * SIGMA_STEPS)
        return bytes([self.steps, sigma, scale, latents_of(self.window)]) + self.seed.to_bytes(3, "big")

    @classmethod
    def parse(cls, data: bytes) -> "Refinement":
        require(len(data) == 7, f"{len(data)} bytes of parameters where this codec has 7", BitstreamError)
        steps, sigma, scale, latents = data[:4]
        window, seed = frames_of(latents) if latents else 0, int.from_bytes(data[4:], "big")
        try:
            return cls(steps, sigma / SIGMA_STEPS, scale / SIGMA_STEPS, window, seed)
        except UsageError as error:
            raise BitstreamError(f"the header's parameters are out of bounds: {error}") from error


def check_tile(tile: int | None) -> None:
    size = f"a tile is {TILES[0]} to {TILES[-1]} pixels, a multiple of {TILES.step}: not {tile}"
    require(tile is None or tile in TILES, size)
