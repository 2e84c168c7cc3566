"""The progress of a training: by its steps or, with a time budget, by the time spent.

    budget 8min, spans of 300 and 100 steps:   │ 6 minutes, the first │ 2 minutes, the second │ validation, checkpoint │
    planned step:                              0                     300                     400

Learning rates and spans depend on the planned step. Without a budget, this is the number of steps done. With one, it is
the share of the time that is spent, in all sessions (checkpoints store it), times the number of planned steps; so the
training ends in time, after as many steps as the time allowed.
"""

import time
from collections.abc import Callable

from gnvc_vd.train.settings import RunSettings, Stage

SAVED_WITHIN = 40.0  # seconds between checkpoints with a budget, so that little is lost if the run is killed
LONGEST_ENDING = 0.5  # largest share of a budget that is reserved for the end


class Clock:
    """The clock of one session of a training, which starts when it is constructed."""

    spent = 0.0  # seconds of earlier sessions
    ending = 0.0  # seconds reserved for the last validation and checkpoint

    def __init__(self, stage: Stage, run: RunSettings, now: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.budget = stage.steps, run.seconds
        self.now, self._begun = now, now()
        self._saved = self._begun

    @property
    def seconds(self) -> float:
        """Time spent so far, in all sessions."""
        return self.spent + self.now() - self._begun

    def planned_step(self, step: int) -> float:
        """The planned step that is reached after `step` steps."""
        if self.budget is None:
            return step
        working = self.budget - min(self.ending, LONGEST_ENDING * self.budget)
        return self.steps * min(1.0, self.seconds / working)

    def note_save(self) -> None:
        self._saved = self.now()

    def save_is_due(self) -> bool:
        return self.budget is not None and self.now() - self._saved >= SAVED_WITHIN
