"""RoBERTa for real: text data, a tokenizer. Heavy packages are imported by the functions that need them."""

from accum_lib.roberta.data import Example, TextData, load_data

__all__ = ["Example", "TextData", "load_data"]
