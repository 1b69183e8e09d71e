"""RoBERTa for real: text data, a tokenizer. Heavy packages are imported by the functions that need them."""

from accum_lib.training.data.sources import load_data
from accum_lib.training.data.texts import Example, TextData

__all__ = ["Example", "TextData", "load_data"]
