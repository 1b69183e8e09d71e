"""Small models of every family, their prediction, and a real update of each as the profiler sees it."""

from functools import cache, partial

import transformers  # here, so that the processes which measure are copies of one that has it

from accum_lib.lessons.memory.measure import measure_apart
from accum_lib.memory.prediction import Prediction, predict
from accum_lib.memory.settings import Settings
from accum_lib.memory.trace.update import trace_update
from accum_lib.memory.workloads import (
    Workload,
    cnn_workload,
    encoder_workload,
    lstm_workload,
    mlp_workload,
    named,
)

ROBERTA = {
    "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 512,
    "vocab_size": 1000,
}  # fmt: skip
GPT2 = {"n_embd": 128, "n_layer": 3, "n_head": 4, "vocab_size": 1000}
DISTILBERT = {"dim": 128, "n_layers": 3, "n_heads": 4, "hidden_dim": 512, "vocab_size": 1000}
T5 = {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 2, "num_heads": 4, "vocab_size": 1000}

FAMILIES = {
    "MLP": mlp_workload,
    "CNN": cnn_workload,
    "encoder": encoder_workload,
    "LSTM": lstm_workload,
    "RoBERTa": partial(named, "roberta-base", "classification", 64, **ROBERTA),
    "RoBERTa MLM": partial(named, "roberta-base", "mlm", 64, **ROBERTA),
    "RoBERTa causal": partial(named, "roberta-base", "causal", 64, **ROBERTA),
    "DistilBERT": partial(named, "distilbert", "classification", 64, **DISTILBERT),
    "GPT-2": partial(named, "gpt2", "causal", 64, **GPT2),
    "T5": partial(named, "t5-small", "seq2seq", 64, **T5),
}


# Models of today by their configurations.
DECODER = {
    "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 256, "vocab_size": 1000, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {
    **DECODER, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64
}  # fmt: skip
ENCODER = {key: value for key, value in DECODER.items() if key != "num_key_value_heads"}
BOTH = {
    "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "vocab_size": 1000,
    "forced_eos_token_id": None,
}  # fmt: skip
SHORT = {"sliding_window": 16}  # tokens that attention looks back
CONFIGS = {
    "llama": DECODER,
    "mistral": {**DECODER, **SHORT},
    "qwen2": {**DECODER, "tie_word_embeddings": True},
    "qwen3": {**DECODER, "head_dim": 32},
    "gemma2": {**DECODER, **SHORT, "head_dim": 32},
    "gemma3_text": {**DECODER, **SHORT, "head_dim": 32},
    "phi3": DECODER,
    "mixtral": EXPERTS,
    "qwen3_moe": {**EXPERTS, "head_dim": 32},
    "olmoe": EXPERTS,
    "gpt_neox": ENCODER,
    "bloom": {"hidden_size": 128, "n_layer": 3, "n_head": 4, "vocab_size": 1000},
    "granite": DECODER,
    "olmo2": DECODER,
    "bert": ENCODER,
    "electra": {**ENCODER, "embedding_size": 64},
    "albert": {**ENCODER, "embedding_size": 64},
    "modernbert": {**ENCODER, "local_attention": 16, "global_attn_every_n_layers": 2},
    "mpnet": ENCODER,
    "bart": BOTH,
    "pegasus": BOTH,
    "mt5": {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4, "vocab_size": 1000},
}


def config(family: str, **more):
    """One of these, small, with more of what it can say."""
    return transformers.AutoConfig.for_model(family, **{**CONFIGS[family], **more})


def workload(family: str, **special) -> Workload:
    """The family's small model; ``tokens`` takes the place of the 64 that are bound already."""
    make = FAMILIES[family]
    if isinstance(make, partial) and "tokens" in special:
        return named(*make.args[:2], **{**make.keywords, **special})
    return make(**special)


@cache
def predicted(family: str, special: tuple, settings: Settings) -> Prediction:
    return predict(workload(family, **dict(special)), settings, device="cpu")


@cache
def measured(family: str, special: tuple, settings: Settings, m: int, k: int) -> int:
    return measure_apart(workload(family, **dict(special)), m, k, settings)


def peak_of_a_trace(workload: Workload, m: int, k: int, settings: Settings, device) -> int:
    """By going through a trace of these very M and K, event by event."""
    tape = trace_update(workload, m, k, settings, device)
    rounded = -(-tape.nbytes // device.granularity) * device.granularity
    alive = most = sum(n for n, there in zip(rounded, tape.resident, strict=True) if there)
    for storage, sign in zip(tape.storage, tape.sign, strict=True):
        alive += sign * rounded[storage]
        most = max(most, alive)
    return int(most + device.workspace_bytes)


def error(value: float, reference: float) -> float:
    """Signed and relative."""
    return value / reference - 1
