"""The condition of a GOP's sampling: a caption, and the given frames of each mode with their sources.

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
    """A GOP's caption and given frames, decoded and padded to multiples of 16: equal for encoder and decoder."""

    first: Frame | None = None
    last: Frame | None = None
    caption: str = ""

    def condition(self, prior: Backbone, latents: int) -> Condition | None:
        """The model's condition: VAE latents of the given frames with grey between, and CLIP's embedding of each."""
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
    """The frame that a GOP passes on to the next one, if the mode has that: equal for encoder and decoder."""

    left_by: int = -1
    frame: Frame | None = None

    def first_frame(self, index: int) -> Frame:
        """The first frame of GOP `index`, from the GOP before it."""
        if self.frame is None or self.left_by != index - 1:
            raise BitstreamError("its first frame is the last of the GOP before, which is lost")
        return self.frame
