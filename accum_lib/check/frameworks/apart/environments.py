"""An environment for each framework, made with ``uv`` at the first use, and its adapter run in it."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accum_lib.check.frameworks.apart.cases import ArrayCase
from accum_lib.machine import cache_folder

FOLDER = "ACCUM_ENVIRONMENTS"  # of the environment: where they are, other than in the user's cache
ADAPTERS = pathlib.Path(__file__).with_name("adapters")
PYTHON, TORCH, NUMPY = "3.11", "torch==2.13.0", "numpy==2.4.6"
LIMIT_SECONDS = 900.0


@dataclass(frozen=True)
class Apart:
    """A framework in an environment of its own.

    Attributes:
        name: as it is shown.
        adapter: the script that runs its loop.
        requirements: pinned; the first is the framework.
        remedy: in a few words, or "none, because ...".
        option: which of its losses or trainers the adapter takes.
    """

    name: str
    adapter: str
    requirements: tuple[str, ...]
    remedy: str
    option: str = ""

    @property
    def package(self) -> str:
        """The framework's name in a requirement."""
        return self.requirements[0].partition("==")[0]

    @property
    def version(self) -> str:
        """The framework's version."""
        return self.requirements[0].partition("==")[2]

    @property
    def folder(self) -> pathlib.Path:
        """Where its environment is, made or not; another version has another."""
        return environments() / self.requirements[0].replace("==", "-")

    @property
    def python(self) -> pathlib.Path:
        """Its interpreter."""
        inside = "Scripts/python.exe" if os.name == "nt" else "bin/python"
        return self.folder / inside

    def make(self) -> None:
        """Make the environment, if it is not there.

        Raises:
            RuntimeError: something can't be installed.
        """
        done = self.folder / "made"
        if done.exists():
            return
        self.remove()
        uv = shutil.which("uv") or shutil.which("uv", path=str(pathlib.Path(sys.executable).parent))
        if uv is None:
            raise RuntimeError("environments of frameworks are made with uv: pip install uv")
        packages = ["pip", "install", "-q", "--python", str(self.python)]
        if links := os.environ.get("PIP_FIND_LINKS"):
            packages += ["--find-links", links]
        for command in (
            ["venv", "-q", "--python", PYTHON, str(self.folder)],
            [*packages, *self.requirements],
        ):
            ran = subprocess.run([uv, *command], capture_output=True, text=True)
            if ran.returncode:
                why = (ran.stderr.strip().splitlines() or ["uv says nothing"])[0]
                self.remove()
                raise RuntimeError(f"{self.requirements[0]} can't be installed: {why}")
        done.touch()

    def remove(self) -> None:
        """Remove the environment, if there is one."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def run(self, cases: Sequence[ArrayCase]) -> list[dict[str, Any]]:
        """What the adapter gives back for each case: ``documented``, and ``mended`` where it can be.

        Raises:
            RuntimeError: the adapter has failed as a whole.
        """
        return run_adapter(self.python, ADAPTERS / self.adapter, cases, self.option)


def run_adapter(
    python: pathlib.Path, adapter: pathlib.Path, cases: Sequence[ArrayCase], option: str = ""
) -> list[dict[str, Any]]:
    """Run an adapter with this interpreter, in a folder of its own.

    Raises:
        RuntimeError: it has failed as a whole.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, found = pathlib.Path(folder, "cases.json"), pathlib.Path(folder, "found.json")
        given.write_text(json.dumps([case.as_dict() for case in cases]))
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        quiet = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run(
            [str(python), str(adapter), str(given), str(found), option], cwd=folder, env={**kept, **quiet},
            capture_output=True, text=True, timeout=LIMIT_SECONDS,
        )  # fmt: skip
        if ran.returncode:
            why = (ran.stderr.strip().splitlines() or [f"status {ran.returncode}"])[-1]
            raise RuntimeError(f"{adapter.name} failed: {why}")
        answers: list[dict[str, Any]] = json.loads(found.read_text())
        return answers


def environments() -> pathlib.Path:
    """The folder of all environments: ``ACCUM_ENVIRONMENTS``, or in the user's cache."""
    if given := os.environ.get(FOLDER):
        return pathlib.Path(given).expanduser().resolve()
    return cache_folder() / "environments"


def remove_environments() -> list[str]:
    """Remove those of the table, whatever their version; the names of the folders that were there."""
    packages = {each.package for each in FRAMEWORKS}
    root = environments()
    found = [
        each for each in (root.iterdir() if root.exists() else [])
        if each.is_dir() and each.name.rpartition("-")[0] in packages
    ]  # fmt: skip
    for each in found:
        shutil.rmtree(each)
    return sorted(each.name for each in found)


TRAINER = "compute_loss_func: the loss sum over num_items_in_batch"
TRANSFORMERS_4 = ("transformers==4.57.6", "accelerate==1.12.0", TORCH, NUMPY)
TRANSFORMERS_5 = ("transformers==5.0.0", "accelerate==1.12.0", TORCH, NUMPY)
SHARES = "compute_loss, times its share of the rows that get_batch_samples got; loss_is_scaled_for_ga = True"
NEWEST = ("transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0", TORCH, NUMPY)
TRL = ("trl==1.16.0", *NEWEST)
SENTENCES = ("sentence-transformers==6.2.0", *NEWEST)

FRAMEWORKS = [
    Apart(
        "optax MultiSteps", "with_optax.py", ("optax==0.2.8", "jax==0.10.2", NUMPY),
        "MultiSteps(use_grad_mean=False), a schedule of the windows' lengths; shares of the window's rows",
    ),
    Apart(
        "PyTorch Ignite", "with_ignite.py", ("pytorch-ignite==0.5.5", TORCH, NUMPY),
        "an Engine whose batch is a window; each loss sum over the window's rows",
    ),
    Apart(
        "Keras on torch", "with_keras.py", ("keras==3.15.1", TORCH, NUMPY),
        "reduction='sum', sample weights of K / rows of the window, batches of no weight at the end; "
        "the average in a callback",
    ),
    Apart(
        "fastai", "with_fastai.py", ("fastai==2.8.12", TORCH, NUMPY),
        "a callback instead of GradientAccumulation: shares of the window's rows, a step at its end",
    ),
    Apart(
        "MMEngine", "with_mmengine.py", ("mmengine-lite==0.10.7", "packaging==25.0", TORCH, NUMPY),
        "OptimWrapper's backward, step and zero_grad by window; each loss sum over the window's rows",
    ),
    Apart(
        "PaddlePaddle", "with_paddle.py", ("paddlepaddle==3.3.1", "setuptools==80.10.2", NUMPY),
        "a loop of one's own in place of Model.fit; each loss sum over the window's rows",
    ),
    Apart(
        "Transformers Trainer", "with_trainer.py",
        ("transformers==4.46.3", "accelerate==1.1.1", TORCH, NUMPY),
        f"{TRAINER}; **loss_kwargs in forward; a data set of micro-batches, filled up by some without labels",
    ),
    Apart("Transformers Trainer", "with_trainer.py", TRANSFORMERS_4, TRAINER),
    Apart("Transformers Trainer", "with_trainer.py", TRANSFORMERS_5, TRAINER),
    Apart("Transformers Trainer, **kwargs", "with_trainer.py", TRANSFORMERS_4, TRAINER, option="kwargs"),
    Apart("Transformers Trainer, **kwargs", "with_trainer.py", TRANSFORMERS_5, TRAINER, option="kwargs"),
    Apart(
        "sentence-transformers, CosineSimilarityLoss", "with_sentence_transformers.py", SENTENCES, SHARES,
        option="pairs",
    ),
    Apart(
        "sentence-transformers, MultipleNegativesRankingLoss", "with_sentence_transformers.py", SENTENCES,
        "none by accumulation, because each pair is told from the others of its batch: K = 1, the window as "
        "the batch, and CachedMultipleNegativesRankingLoss(mini_batch_size=M)", option="in-batch",
    ),
    Apart("TRL SFTTrainer", "with_trl.py", TRL, "none needed", option="sft"),
    Apart("TRL DPOTrainer", "with_trl.py", TRL, SHARES, option="dpo"),
    Apart("TRL RewardTrainer", "with_trl.py", TRL, SHARES, option="reward"),
    Apart(
        "TRL KTOTrainer", "with_trl.py", TRL,
        "none, because its KL estimate is a mean over the micro-batch, inside a sigmoid", option="kto",
    ),
    Apart(
        "skorch, its FAQ's recipe", "with_skorch.py", ("skorch==1.4.0", TORCH, NUMPY),
        "a train_step whose batch is a window; each loss sum over the window's rows",
    ),
    Apart(
        "mlx-lm", "with_mlx.py", ("mlx-lm==0.32.2", "mlx[cpu]==0.32.4", "transformers==5.23.0", NUMPY),
        "a loss sum, times K / what counts in the window; batches of no weight at the end",
    ),
    Apart(
        "MindSpore GradientAccumulation", "with_mindspore.py",
        ("mindspore==2.10.0", "setuptools==80.10.2", NUMPY),
        "windows by hand; each gradient sum over the window's rows",
    ),
    Apart(
        "SpeechBrain", "with_speechbrain.py", ("speechbrain==1.1.2", "torchaudio==2.11.0", TORCH, NUMPY),
        "a fit_batch whose batch is a window; each loss sum over the window's rows",
    ),
    Apart(
        "Ultralytics, classification", "with_ultralytics.py", ("ultralytics==8.4.190", TORCH, NUMPY),
        "the model's loss, times its share of the window's rows; a callback that sets trainer.accumulate "
        "to the window's length",
    ),
]  # fmt: skip
