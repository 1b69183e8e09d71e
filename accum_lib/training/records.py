"""A training run: what each update and each evaluation was, what was planned, and how it ended."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UpdateRecord:
    """One optimizer update.

    Attributes:
        update: 1 for the first.
        epoch: 0 for the first.
        loss: mean over the whole window, in nats, before the update.
        count: samples or hidden tokens in the window.
        grad_norm: 2-norm of the window's gradient before clipping; None if it was not taken.
        learning_rate: of this update.
        micro_batch_size, accumulation_steps: M, and the micro-batches that the window had.
        tokens: without padding.
        seconds: for the window and the update.
        memory_bytes: resident memory of the process on the CPU, the allocator's peak on a GPU.
        noise_scale: of the gradient, in samples or hidden tokens; None if it is not estimated (yet).
        skipped: a ``GradScaler`` found an infinite gradient, and the parameters did not move.
    """

    update: int
    epoch: int
    loss: float
    count: float
    grad_norm: float | None
    learning_rate: float
    micro_batch_size: int
    accumulation_steps: int
    tokens: int
    seconds: float
    memory_bytes: int
    noise_scale: float | None
    skipped: bool

    @property
    def tokens_per_second(self) -> float:
        """Without padding."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Evaluation:
    """Held-out data after ``update`` updates: mean loss in nats, share of right answers, how many counted.

    Attributes:
        classes: of each class the examples that have it, those that were given it, and those of both; empty
            for a task without classes.
    """

    update: int
    loss: float
    accuracy: float
    count: int
    classes: tuple[tuple[int, int, int], ...] = ()

    @property
    def f1(self) -> tuple[float, ...]:
        """Of each class, the harmonic mean of precision and recall; 0 if none was found."""
        return tuple(2 * both / max(1, have + given) for have, given, both in self.classes)

    @property
    def macro_f1(self) -> float:
        """The mean over the classes that occur, each weighing alike however rare it is."""
        found = [f1 for f1, (have, given, _) in zip(self.f1, self.classes, strict=True) if have + given]
        return sum(found) / len(found)


@dataclass(frozen=True)
class Training:
    """How a run ended.

    Attributes:
        updates: optimizer updates made in all, before a resumption too.
        evaluations: of this process, in their order; the last one is of the final parameters.
        skipped_windows: left out because a loss or gradient was not finite.
        micro_batch_size: M at the end; smaller than at the beginning if memory ran out.
        seconds: in this process.
        noise_scale: over the last windows, in samples or hidden tokens; None if it was not estimated.
        noise_interval: its 95 % interval; infinite above where the mean gradient can't be told from zero.
    """

    updates: int
    evaluations: tuple[Evaluation, ...]
    skipped_windows: int
    micro_batch_size: int
    seconds: float
    noise_scale: float | None = None
    noise_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class TrainingPlan:
    """What a run would be.

    Attributes:
        data, model: in words.
        num_samples, held_out: N, and how many are held out.
        classes: of each label, the examples to train on; none if the task has no labels.
        shortened: texts to train on that lose what is beyond ``max_tokens``.
        max_tokens: to which texts are cut.
        parameters: of the model.
        micro_batch_size, accumulation_steps: M and K.
        epochs: passes over the data, the last perhaps cut short.
        updates: optimizer updates in all.
        trailing_window: examples in the last window of an epoch, B if it is a full one.
        longest: tokens of the longest example that the run reads.
        device: "cpu" or "cuda".
        peak_bytes: predicted, of tensors in one update.
        resident_bytes: of the peak, what the model holds in memory already; 0 on a GPU.
        interpreter_bytes: what the process holds besides, measured before it begins; 0 on a GPU.
        processes: that share the memory, each of which needs as much; 1 on GPUs, of which each has its own.
        disk_bytes: that checkpoints and the trained model take at most.
        seconds: the least and the most for all updates, without evaluations.
        seconds_source: how that number came about.
    """

    data: str
    model: str
    num_samples: int
    held_out: int
    classes: dict[str, int]
    shortened: int
    max_tokens: int
    parameters: int
    micro_batch_size: int
    accumulation_steps: int
    epochs: int
    updates: int
    trailing_window: int
    longest: int
    device: str
    peak_bytes: int
    resident_bytes: int
    interpreter_bytes: int
    processes: int
    disk_bytes: int
    seconds: tuple[float, float]
    seconds_source: str

    @property
    def effective_batch_size(self) -> int:
        """B = M K."""
        return self.micro_batch_size * self.accumulation_steps
