"""What a GOP's trajectory is conditioned on: its caption, its mode's given frames and where they come from.

         first frame                                    last frame
t2v      –                                              –
i2v      a still in a scene's first GOP, then the       –
         decoded last frame of the GOP before
flf2v    a still in a scene's first GOP, then the       a still
         last still of the GOP before
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gnvc_vd.backbone.image_condition import Condition, condition_on
from gnvc_vd.backbone.weights import Backbone
from gnvc_vd.bitstream import BitstreamError
from gnvc_vd.bitstream.gop import frames_of
from gnvc_vd.conventions import Frame
from gnvc_vd.video.pixels import to_video


@dataclass(frozen=True)
class GopCondition:
    """A GOP's given frames as both ends have them, decoded, padded to multiples of 16; and its caption."""

    first: Frame | None = None
    last: Frame | None = None
    caption: str = ""

    def condition(self, prior: Backbone, latents: int) -> Condition | None:
        """What the model sees; the VAE encodes the given frames with grey between them, CLIP each by itself."""
        given = {place: frame for place, frame in ((0, self.first), (-1, self.last)) if frame is not None}
        if not given:
            return None
        clip = np.zeros((frames_of(latents), *next(iter(given.values())).shape), dtype=np.uint8)
        for place, frame in given.items():
            clip[place] = frame
        condition = condition_on(prior.vae, to_video(clip, prior.vae.mean.device), tuple(given))
        if condition is None or prior.dit_preset.image_dim is None:
            return condition
        seen = prior.image_encoder.embed(list(given.values()))
        return condition._replace(image=seen.to(condition.channels.device))


class Chain(NamedTuple):
    """What a GOP leaves for the next, at either end: a picture, if the mode hands one on."""

    left_by: int = -1
    frame: Frame | None = None

    def first_frame(self, index: int) -> Frame:
        """The frame that GOP `index` begins with."""
        if self.frame is None or self.left_by != index - 1:
            raise BitstreamError("it begins with a frame of the GOP before, which is lost")
        return self.frame
