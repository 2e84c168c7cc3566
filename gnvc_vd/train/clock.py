"""Where a training stands: by the number of its steps, or with a budget by the time that it has spent.

    budget 8min, spans of 300 and 100 steps:   │ 6 minutes, the first │ 2 minutes, the second │ validation, checkpoint │
    place, in steps:                           0                     300                     400

Rates, spans and whatever else follows a training's course read a place on the scale of its planned steps. With a budget
that place is the share of the time that is spent, over all sittings: a checkpoint says how much was. So a training ends
when it was told to, after as many steps as there was time for.
"""

import time
from collections.abc import Callable

from gnvc_vd.train.settings import RunSettings, Stage

SAVED_WITHIN = 40.0  # seconds: a run with a budget that is killed should not lose more than a minute
LONGEST_ENDING = 0.5  # of a budget: what is left for steps, however long a validation takes


class Clock:
    """Of one sitting; it begins when it is made."""

    spent = 0.0  # seconds of the sittings before
    ending = 0.0  # seconds that the end will take, for a validation and a checkpoint

    def __init__(self, stage: Stage, run: RunSettings, now: Callable[[], float] = time.monotonic) -> None:
        self.steps, self.budget = stage.steps, run.seconds
        self.now, self._begun = now, now()
        self._saved = self._begun

    @property
    def seconds(self) -> float:
        """Spent so far, over all sittings."""
        return self.spent + self.now() - self._begun

    def planned_step(self, step: int) -> float:
        """How many of the planned steps are over, after so many true ones."""
        if self.budget is None:
            return step
        working = self.budget - min(self.ending, LONGEST_ENDING * self.budget)
        return self.steps * min(1.0, self.seconds / working)

    def note_save(self) -> None:
        self._saved = self.now()

    def save_is_due(self) -> bool:
        return self.budget is not None and self.now() - self._saved >= SAVED_WITHIN
