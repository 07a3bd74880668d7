"""What happens around each step: groups open, progress is told, and training stops inside the time budget."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from warmstart.train.job import TrainJob

if TYPE_CHECKING:
    from warmstart.train.trainer import WarmstartTrainer

_FORWARD_SHARE = 0.5  # of a training step's seconds per row, before an evaluation has been timed; rather too much


class Pace:
    """How long steps take. The slowest one counts for nothing as soon as there are two: it may have been a stall."""

    def __init__(self) -> None:
        self._count, self._total = 0, 0.0
        self._slowest = (0.0, 0.0)  # and the one before it

    def add(self, seconds: float) -> None:
        """Note a step."""
        self._count += 1
        self._total += seconds
        first, second = self._slowest
        self._slowest = (seconds, first) if seconds > first else (first, max(second, seconds))

    @property
    def slow(self) -> float:
        """Seconds of the slowest step but one."""
        return self._slowest[min(self._count, 2) - 1] if self._count else 0.0

    @property
    def usual(self) -> float:
        """Mean seconds of the steps but the slowest."""
        if self._count < 2:
            return self._total
        return (self._total - self._slowest[0]) / (self._count - 1)


class Watch(TrainerCallback):
    """Opens groups, keeps what histories need, tells progress, and stops inside the time budget.

    Args:
        job: the job.
        trainer: the trainer.
    """

    def __init__(self, job: TrainJob, trainer: WarmstartTrainer) -> None:
        self.job, self.trainer = job, trainer
        self.between = 0.0  # seconds of the longest pause between steps so far: evaluating and saving
        self.pace = Pace()
        self._evaluated = False
        self._mark = 0.0

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Fix the draws of the epoch."""
        self.job.train.set_epoch(int(state.epoch or 0))

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Open groups, start the watch."""
        now = time.perf_counter()
        if self._mark:
            self.between = max(self.between, now - self._mark)
        self._mark = now
        self.trainer.open_groups(state.global_step, state.max_steps)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Keep the rates that this step uses."""
        self.trainer.note_rates()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """What is done to the weights after the optimizer, while the step's rates still stand."""
        self.trainer.after_optimizer(state.global_step + 1)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """From here on, the time of an evaluation is known."""
        self._evaluated = True

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Tell progress; stop when what must follow would no longer fit."""
        now = time.perf_counter()
        self.pace.add(now - self._mark)
        self._mark = now
        if self.job.progress is not None and state.is_world_process_zero:
            self.job.progress(state.global_step, state.max_steps, f"epoch {state.epoch:.1f}")
        if state.global_step < state.max_steps and self.job.clock.budget is not None:
            late = self.job.clock.left() < self.job.reserve + self._evaluation(args) + 2 * self.pace.slow
            if self.trainer.any_process(late):
                self.job.stopped_early = (
                    f"the time budget ended training at step {state.global_step} of {state.max_steps}"
                )
                control.should_training_stop = True
                control.should_evaluate = control.should_save = True
        if control.should_evaluate or control.should_save:
            control.should_log = True  # so that no loss waits to be logged where a run may be resumed

    def _evaluation(self, args: TrainingArguments) -> float:
        """Seconds that the next evaluation and checkpoint will take."""
        if self._evaluated:
            return self.between
        rows_per_step: int = args.train_batch_size * args.gradient_accumulation_steps
        guess = _FORWARD_SHARE * self.pace.usual * len(self.job.validation) / rows_per_step
        return max(self.between, guess)
