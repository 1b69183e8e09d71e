"""Eight rows of real-shaped inputs and ragged labels, from what a head's ``forward`` asks for."""

import inspect
from typing import Any

import torch

from accum_lib.check.frameworks.heads.tiny import CLASSES, FIRST, LAST, VOCABULARY
from accum_lib.vectors import IGNORE_INDEX

ROWS, LONG = 8, 12
Rows = dict[str, Any]  # tensors and lists, a row of each for each example


def rows_for(model: Any, pictures: bool) -> Rows:
    """All that one big batch holds.

    Args:
        model: the head.
        pictures: give what is optional beside text, too.
    """
    asked = inspect.signature(model.forward).parameters
    generator = torch.Generator().manual_seed(7)
    maker = _Maker(model, asked, generator)
    rows = maker.inputs(pictures)
    rows |= maker.targets(rows)
    return rows


class _Maker:
    def __init__(self, model: Any, asked: Any, generator: torch.Generator) -> None:
        self.model, self.asked, self.generator = model, asked, generator
        self.config, self.name = model.config, type(model).__name__
        self.lengths = torch.tensor([12, 9, 5, 7, 11, 3, 4, 8])

    def ints(self, *shape: int, low: int = 0, high: int = CLASSES) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=self.generator)

    def floats(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    def get(self, *names: str, default: Any = None) -> Any:
        """The first of these that the configuration has, or one of its parts."""
        parts = [self.config, *(v for v in vars(self.config).values() if hasattr(v, "sub_configs"))]
        return next((getattr(p, n) for n in names for p in parts if getattr(p, n, None) is not None), default)

    def inputs(self, pictures: bool) -> Rows:
        first = next(iter(self.asked))
        main = first if first in ("input_ids", "pixel_values", "input_values", "input_features") else None
        main = main or getattr(self.model, "main_input_name", first)
        rows: Rows = {}
        if "input_ids" in self.asked and (main == "input_ids" or pictures):
            rows |= self.text()
        kinds = {"pixel_values": self.picture, "input_values": self.wave, "input_features": self.features,
                 "pixel_values_videos": self.video, "inputs": self.text_bytes}  # fmt: skip
        for kind, make in kinds.items():
            if kind in self.asked and (main == kind or (pictures and not rows.get(kind))):
                rows[kind] = make()
        return rows

    def text(self) -> Rows:
        choices = (2,) if "MultipleChoice" in self.name else ()
        ids = self.ints(ROWS, *choices, LONG, low=FIRST, high=min(LAST, self.get("vocab_size", default=LAST)))
        mask = (torch.arange(LONG) < self.lengths[:, None]).long()
        if choices:
            mask = mask[:, None].expand(ROWS, 2, LONG).contiguous()
        pad = self.get("pad_token_id", default=0)
        ids = ids.masked_fill(mask == 0, pad if pad < VOCABULARY else 0)
        end = self.get("eos_token_id")
        if isinstance(end, int) and end < VOCABULARY and not choices:
            ids[torch.arange(ROWS), self.lengths - 1] = end
        rows: Rows = {"input_ids": ids}
        if "attention_mask" in self.asked:
            rows["attention_mask"] = mask
        if "qformer_input_ids" in self.asked:
            rows["qformer_input_ids"] = ids
        if "bbox" in self.asked:
            corner = self.ints(*ids.shape, 2, high=8)
            rows["bbox"] = torch.cat([corner, corner + 2], -1)
        return rows

    def text_bytes(self) -> torch.Tensor:
        return self.ints(ROWS, LONG, low=FIRST, high=LAST)

    def picture(self) -> torch.Tensor:
        size = self.get("image_size", "img_size", "input_size", default=64)
        height, width = size if isinstance(size, list | tuple) else (size, size)
        channels = self.get("num_channels", "in_channels", "in_chans", default=3)
        frames = (
            self.get("num_frames", "frames_per_clip")
            if "Video" in self.name or "Timesformer" in self.name
            else None
        )
        return self.floats(ROWS, *([frames] if frames else []), channels, height, width)

    def video(self) -> torch.Tensor:
        size = self.get("crop_size", "image_size", default=64)
        return self.floats(ROWS, self.get("frames_per_clip", "num_frames", default=2), 3, size, size)

    def wave(self) -> torch.Tensor:
        if self.get("num_mel_bins") and self.get("max_length"):  # a spectrogram
            return self.floats(ROWS, self.get("max_length"), self.get("num_mel_bins"))
        return self.floats(ROWS, 8000)

    def features(self) -> torch.Tensor:
        bins = self.get("num_mel_bins", "input_feat_per_channel", "feature_projection_input_dim",
                        "feature_size", "input_dim", default=80)  # fmt: skip
        if "Whisper" in self.name or "Audio" in self.name:
            return self.floats(ROWS, bins, 2 * self.get("max_source_positions", default=32))
        return self.floats(ROWS, 64, bins)

    def targets(self, rows: Rows) -> Rows:
        """``labels``, and what else the same head is trained on."""
        found: Rows = {}
        name = self.name
        ids, mask = rows.get("input_ids"), rows.get("attention_mask")  # type: Any, Any
        if mask is None and ids is not None:
            mask = torch.ones_like(ids)
        if name.endswith(("ForObjectDetection", "ForSegmentation", "ForInstanceSegmentation")):
            height, width = rows["pixel_values"].shape[-2:]
            found["labels"] = [self.boxes(1 + i % 3, height, width) for i in range(ROWS)]
        elif name.endswith(("SemanticSegmentation", "DepthEstimation")):
            height, width = rows["pixel_values"].shape[-2:]
            found["labels"] = self.ints(ROWS, height, width)
            if "Depth" in name:
                found["labels"] = self.floats(ROWS, height, width).abs()
            else:
                found["labels"][::3, : height // 3] = self.get("semantic_loss_ignore_index", default=255)
        elif name.endswith("AudioFrameClassification"):
            with torch.no_grad():
                frames = self.model(**self.like(rows)).logits.shape[1]
            found["labels"] = torch.nn.functional.one_hot(self.ints(ROWS, frames), CLASSES)
        elif name.endswith(("SequenceClassification", "ImageClassification", "AudioClassification",
                            "VideoClassification", "XVector", "NextSentencePrediction", "Retrieval",
                            "EntityClassification", "ImageClassificationLearned", "VisualReasoning",
                            "ImageClassificationFourier", "ImageClassificationConvProcessing",
                            "ImagesAndTextClassification")):  # fmt: skip
            high = 2 if "NextSentence" in name or "Retrieval" in name else CLASSES
            found["labels"] = self.ints(ROWS, high=high)
        elif name.endswith("MultipleChoice"):
            found["labels"] = self.ints(ROWS, high=2)
        elif name.endswith(("TokenClassification", "Gen")) and ids is not None:
            found["labels"] = self.ints(*ids.shape).masked_fill(mask == 0, IGNORE_INDEX)
        elif name.endswith("QuestionAnswering") and "labels" in self.asked:
            soft = "Vilt" in name or "VisualBert" in name  # a share for each answer
            answers = self.floats(ROWS, CLASSES).abs().clamp(max=1)
            found["labels"] = answers if soft else self.text()["input_ids"]
        elif name.endswith(("MaskedLM", "ForPreTraining")) and ids is not None:
            chosen = (torch.rand(ids.shape, generator=self.generator) < 0.4) & (mask == 1)
            chosen[:, 0] = True
            found["labels"] = ids.masked_fill(~chosen, IGNORE_INDEX)
            if "Electra" in name:
                found["labels"] = chosen.long().masked_fill(mask == 0, IGNORE_INDEX)
        elif ids is not None and not self.separate(rows):
            found["labels"] = ids.masked_fill(mask == 0, IGNORE_INDEX)
        else:
            short = torch.arange(6) < (self.lengths[:, None] // 2).clamp(1, 6)
            found["labels"] = self.ints(ROWS, 6, low=FIRST, high=min(LAST, 30)).masked_fill(
                ~short, IGNORE_INDEX
            )
        for extra in ("next_sentence_label", "sentence_order_label"):
            if extra in self.asked:
                found[extra] = self.ints(ROWS, high=2)
        for extra in ("start_positions", "end_positions"):
            if (
                extra in self.asked
                and self.asked[extra].default is not inspect.Parameter.empty
                and "labels" not in found
            ):
                found[extra] = self.ints(ROWS, high=LONG)
        return found | self.decoder(found)

    def separate(self, rows: Rows) -> bool:
        """Whether labels are a text of their own."""
        return bool(getattr(self.config, "is_encoder_decoder", False)) or "input_ids" not in rows

    def decoder(self, found: Rows) -> Rows:
        """As ``DataCollatorForSeq2Seq`` does, so that a decoder has its inputs without labels, too."""
        labels: Any = found.get("labels")
        asked = "decoder_input_ids" in self.asked and self.separate({}) and torch.is_tensor(labels)
        if not asked or labels.ndim != 2 or labels.is_floating_point():
            return {}
        start = self.get("decoder_start_token_id", "bos_token_id", "pad_token_id", default=0)
        shifted = labels.roll(1, -1).masked_fill(
            labels.roll(1, -1) == IGNORE_INDEX, self.get("pad_token_id", default=0)
        )
        shifted[:, 0] = start
        return {"decoder_input_ids": shifted}

    def boxes(self, number: int, height: int, width: int) -> dict[str, torch.Tensor]:
        centre = torch.rand(number, 2, generator=self.generator) * 0.4 + 0.3
        masks = torch.zeros(number, height, width)
        masks[:, height // 4 : height // 2, width // 4 : width // 2] = 1
        found = {
            "class_labels": self.ints(number),
            "boxes": torch.cat([centre, torch.full((number, 2), 0.2)], -1),
        }
        return found | ({"masks": masks} if "egmentation" in self.name else {})

    def like(self, rows: Rows) -> Rows:
        dtype = next(self.model.parameters()).dtype
        return {k: as_dtype(v, dtype) for k, v in rows.items()}


def as_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Floating-point tensors in this dtype; the same in lists and mappings."""
    if torch.is_tensor(value):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {k: as_dtype(v, dtype) for k, v in value.items()}
    return [as_dtype(v, dtype) for v in value] if isinstance(value, list) else value
