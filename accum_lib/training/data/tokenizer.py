"""A tokenizer: loaded from a folder or the hub, or trained in seconds on the reader's own texts."""

import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

# In the order of RoBERTa's ids 0 to 3; <mask> comes last, where the published vocabulary has it too.
SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
MASK = "<mask>"
MOST_LEARNED = 1_000_000  # characters that merges are learned from; more teach 2,000 tokens nothing
LONGEST_WORD = 500  # characters of one word; a longer one is learned from as if it were several
SMALLEST = len(SPECIAL_TOKENS) + 256 + 1  # every byte is a token of its own, so no text is ever unknown


def load_tokenizer(source: str | os.PathLike[str]) -> Any:
    """A Transformers tokenizer from a folder (``save_pretrained`` makes one) or a name on the hub.

    Code that a repository brings along is never run.

    Raises:
        OSError: there is none, or it knows no words, or the hub can't be reached; says what to do.
        ValueError: it lacks a token that masking or padding needs.
    """
    from transformers import AutoTokenizer  # takes seconds to import

    try:
        tokenizer = AutoTokenizer.from_pretrained(os.fspath(source), trust_remote_code=False)
    except Exception as error:  # of many kinds, plain Exception among them, if a file is damaged
        raise OSError(
            f"no tokenizer at {os.fspath(source)!r} ({type(error).__name__}): give a folder that holds "
            "a whole tokenizer.json, or train one from your texts with train_tokenizer"
        ) from error
    # Where the files are missing, Transformers makes up a tokenizer of special tokens alone.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise OSError(
            f"the tokenizer at {os.fspath(source)!r} has no token but its special ones: its files are "
            "missing. Put them there (tokenizer.json; tokenizer.save_pretrained writes it)"
        )
    for token in ("pad_token", "mask_token"):
        if getattr(tokenizer, token, None) is None:
            raise ValueError(
                f"the tokenizer at {os.fspath(source)!r} has no {token}: use one made for RoBERTa"
            )
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2000, max_tokens: int = 512) -> Any:
    """Byte-level BPE trained on ``texts``, with RoBERTa's special tokens and ids.

    ``<s>`` is 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, and ``<mask>`` the last id. A pair becomes
    ``<s> text </s></s> pair </s>``. The result is the same for the same texts in the same order. Of more
    than ``MOST_LEARNED`` characters, it learns from each second text, or third, and so on.
    Source: Radford et al. 2019 (GPT-2, section 2.2); Liu et al. 2019 (RoBERTa, arXiv 1907.11692).

    Args:
        texts: what to learn from; training texts only, or the held-out texts leak into the vocabulary.
        vocab_size: at most this many tokens; fewer if the texts have no more frequent pairs.
        max_tokens: what ``truncation=True`` cuts to.

    Raises:
        ValueError: ``vocab_size`` or ``max_tokens`` is too small, or there is no text.
    """
    if vocab_size < SMALLEST:
        raise ValueError(
            f"vocab_size must be {SMALLEST} (bytes and special tokens) or more; got {vocab_size}"
        )
    if max_tokens < 5:
        raise ValueError(f"max_tokens must be 5 or more (a pair needs four marks); got {max_tokens}")
    corpus = [text for text in texts if text]
    if not corpus:
        raise ValueError("no texts to train a tokenizer on: give at least one that is not empty")
    from transformers import RobertaTokenizer

    start, pad, end, unknown = SPECIAL_TOKENS
    vocab, merges = _train_bpe(_evenly(corpus), vocab_size)
    return RobertaTokenizer(
        vocab=dict(vocab), merges=list(merges), bos_token=start, cls_token=start, eos_token=end,
        sep_token=end, pad_token=pad, unk_token=unknown, mask_token=MASK, model_max_length=max_tokens,
    )  # fmt: skip


def _evenly(corpus: list[str]) -> tuple[str, ...]:
    """Texts with ``MOST_LEARNED`` characters at most, from the whole corpus."""
    chosen, left = [], MOST_LEARNED
    for text in corpus[:: -(-sum(map(len, corpus)) // MOST_LEARNED)]:
        if left > 0:
            chosen.append(text[:left])
            left -= len(text)
    return tuple(chosen)


@lru_cache(maxsize=4)  # one problem builds its model many times, from the same texts
def _train_bpe(corpus: tuple[str, ...], vocab_size: int) -> tuple[dict[str, int], list[Any]]:
    """The vocabulary and merges of a byte-level BPE, ``<mask>`` included as the last id."""
    import json

    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    # To learn from a word takes time quadratic in its length, and base64 or DNA are one word.
    pieces = pre_tokenizers.Split(Regex(f"[\\s\\S]{{1,{LONGEST_WORD}}}"), "isolated")
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pieces])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,  # <mask> follows
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = {**model["vocab"], MASK: len(model["vocab"])}
    return vocab, [tuple(pair) for pair in model["merges"]]
