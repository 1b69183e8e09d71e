"""Speech-like audio: utterances of invented syllables, of ragged length, to be spelled out with CTC.

A syllable is a tone that glides, with an overtone; six of them make up the alphabet. An utterance is one to
eight syllables of 60 to 140 ms with short pauses and noise, sampled at 4 kHz, and generated from a seed: no
recording is needed. The features are a log spectrogram, the model is a small convolutional net, and the
loss is connectionist temporal classification (Graves et al. 2006), which sums over every way in which the
frames could spell the target.

Two things are specific to CTC. A target of L syllables, R of them equal to the one before, needs L + R
frames; with fewer its loss is infinite. And PyTorch's ``reduction="mean"`` divides each loss by its own L
before it averages over utterances, which is another objective than the mean over all syllables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accum_lib.words import _

SAMPLE_RATE = 4000  # samples per second
WINDOW, HOP = 128, 64  # samples: a frame of the spectrogram sees 32 ms, and there is one every 16 ms
BINS = WINDOW // 2 + 1
SYLLABLES: dict[str, tuple[int, int]] = {  # Hz at the beginning and at the end
    "ba": (300, 500), "da": (550, 300), "ga": (700, 900),
    "ma": (950, 700), "na": (420, 420), "la": (820, 820),
}  # fmt: skip
NAMES = tuple(SYLLABLES)
BLANK = 0  # CTC's "nothing new"; syllable i is class i + 1
LONGEST = 8  # syllables


@dataclass(frozen=True)
class Utterances:
    """A micro-batch, padded to its longest member.

    Attributes:
        features: (micro_batch, BINS, frames) log spectrogram, 0 where there is padding.
        frames: (micro_batch,) how many frames are real.
        targets: (micro_batch, longest target) syllables from 1 on, 0 where there is padding.
        lengths: (micro_batch,) how many syllables each target has.
    """

    features: Tensor
    frames: Tensor
    targets: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)


class SpeechNet(nn.Module):
    """Two convolutions over time, then a linear layer to the syllables and the blank.

    After each convolution what is beyond an utterance's end is set to 0 again. Without that the bias
    makes it non-zero, the next convolution carries it back into the real frames, and an utterance's loss
    depends on how long the longest of its micro-batch is: ``mask=False`` shows that fault.
    """

    def __init__(self, channels: int = 48, width: int = 5, mask: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv1d(BINS, channels, width, padding="same")
        self.second = nn.Conv1d(channels, channels, width, padding="same")
        self.out = nn.Linear(channels, len(NAMES) + 1)
        self.mask = mask

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """Log probabilities, (frames, micro_batch, classes) as ``ctc_loss`` wants them."""
        real = torch.arange(features.shape[2]) < frames[:, None]  # (micro_batch, frames)
        keep = real[:, None].to(features.dtype) if self.mask else torch.ones(())
        hidden = F.relu(self.first(features)) * keep
        hidden = F.relu(self.second(hidden)) * keep
        return self.out(hidden.transpose(1, 2)).log_softmax(-1).transpose(0, 1)


class Audio:
    """Spell out utterances with CTC, averaged over all syllables of the window.

    Args:
        num_samples: N.
        dtype: of the features and the parameters.
        seed: draws the utterances.
        too_short: how many of them, the first ones, are cut to fewer frames than their target needs.
        mask: False leaves the model's padding unmasked, the fault that ``SpeechNet`` describes.

    Raises:
        ValueError: ``num_samples`` is below 1, or ``too_short`` not between 0 and ``num_samples``.
    """

    default_learning_rate = 0.01  # for Adam

    def __init__(
        self, num_samples: int = 256, dtype: torch.dtype = torch.float32, seed: int = 0, too_short: int = 0,
        mask: bool = True,
    ) -> None:  # fmt: skip
        if num_samples < 1:
            raise ValueError(f"num_samples must be 1 or more; got {num_samples}")
        if not 0 <= too_short <= num_samples:
            raise ValueError(f"too_short must be between 0 and num_samples = {num_samples}; got {too_short}")
        self.name = _("audio, CTC")
        self.num_samples = num_samples
        generator = torch.Generator().manual_seed(seed)
        self.targets = [_target(generator) for _ in range(num_samples)]
        self.features = [spectrogram(sound(t, generator)).to(dtype) for t in self.targets]
        for i in range(too_short):
            self.features[i] = self.features[i][:, : max(1, frames_needed(self.targets[i].tolist()) - 1)]
        self._dtype, self._mask = dtype, mask

    def make_model(self, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SpeechNet(mask=self._mask).to(self._dtype)

    def batch(self, indices: Tensor) -> Utterances:
        features = [self.features[i].T for i in indices.tolist()]
        targets = [self.targets[i] for i in indices.tolist()]
        return Utterances(
            nn.utils.rnn.pad_sequence(features, batch_first=True).transpose(1, 2),
            torch.tensor([len(f) for f in features]),
            nn.utils.rnn.pad_sequence(targets, batch_first=True),
            torch.tensor([len(t) for t in targets]),
        )

    def losses(self, model: nn.Module, batch: Utterances) -> Tensor:
        """Each utterance's negative log likelihood, (micro_batch,); 0 where its input is too short."""
        scores = model(batch.features, batch.frames)
        return F.ctc_loss(
            scores, batch.targets, batch.frames, batch.lengths, BLANK, reduction="none", zero_infinity=True
        )

    def loss_sum(self, model: nn.Module, batch: Utterances) -> Tensor:
        return self.losses(model, batch).sum()

    def count(self, batch: Utterances) -> int:
        """Syllables of the utterances that can be aligned: those with a loss of 0 must not be counted."""
        return int(batch.lengths[can_be_aligned(batch)].sum())


def frames_needed(target: Sequence[int]) -> int:
    """The fewest frames that can spell a target: one a syllable, and a blank between two equal ones."""
    repeats = sum(a == b for a, b in pairwise(target))
    return len(target) + repeats


def can_be_aligned(batch: Utterances) -> Tensor:
    """Which utterances are long enough for their target, (micro_batch,)."""
    rows = zip(batch.targets.tolist(), batch.lengths.tolist(), strict=True)
    return batch.frames >= torch.tensor([frames_needed(target[:n]) for target, n in rows])


def sound(target: Tensor, generator: torch.Generator) -> Tensor:
    """The waveform of a target, (samples,), each syllable with its own length and loudness."""
    pieces = []
    for syllable in target.tolist():
        pause = torch.zeros(int(_between(20, 60, generator) * SAMPLE_RATE / 1000))
        pieces += [pause, _syllable(NAMES[syllable - 1], generator)]
    clean = torch.cat([*pieces, torch.zeros(WINDOW)])
    return clean + 0.05 * torch.randn(len(clean), generator=generator)


def spectrogram(wave: Tensor) -> Tensor:
    """Log magnitudes of the short-time Fourier transform, (BINS, frames), brought to about 0 ± 1."""
    spectrum = torch.stft(wave, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)
    return (spectrum.abs() + 1e-2).log10().add(0.45).div(0.43)


def spelled(scores: Tensor, frames: int) -> list[int]:
    """The likeliest class of each frame of ``scores`` (frames, classes), repeats and blanks removed."""
    path = scores[:frames].argmax(-1).unique_consecutive()
    return [c for c in path.tolist() if c != BLANK]


def sequence_error_rate(problem: Audio, model: nn.Module) -> float:
    """The share of a problem's utterances that are not spelled out exactly right, from 0 to 1."""
    batch = problem.batch(torch.arange(problem.num_samples))
    with torch.no_grad():
        scores = model(batch.features, batch.frames).transpose(0, 1)
    found = [spelled(s, n) for s, n in zip(scores, batch.frames.tolist(), strict=True)]
    wrong = sum(f != t.tolist() for f, t in zip(found, problem.targets, strict=True))
    return wrong / problem.num_samples


def _target(generator: torch.Generator) -> Tensor:
    length = int(torch.randint(1, LONGEST + 1, (1,), generator=generator))
    return torch.randint(1, len(NAMES) + 1, (length,), generator=generator)


def _syllable(name: str, generator: torch.Generator) -> Tensor:
    """A gliding tone with its first overtone, faded in and out."""
    first, last = SYLLABLES[name]
    samples = int(_between(60, 140, generator) * SAMPLE_RATE / 1000)
    pitch = torch.linspace(first, last, samples) * _between(0.95, 1.05, generator)
    phase = 2 * math.pi * torch.cumsum(pitch / SAMPLE_RATE, 0)
    loud = torch.hann_window(samples).sqrt() * _between(0.5, 1.0, generator)
    return loud * (phase.sin() + 0.4 * (2 * phase).sin())


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))
