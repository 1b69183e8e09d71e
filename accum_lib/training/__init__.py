"""RoBERTa for real: text data, a tokenizer. Heavy packages are imported by the functions that need them."""

from accum_lib.extras import need

need(__name__, "train")

from accum_lib.training.data import Example, TextData
from accum_lib.training.data.sources import load_data

__all__ = ["Example", "TextData", "load_data"]
