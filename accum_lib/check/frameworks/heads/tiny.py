"""A tiny random model of any of Transformers' classes: its configuration's sizes, each by its name."""

import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any

import torch
from torch import nn

VOCABULARY, FIRST, LAST = 128, 5, 100  # ids are drawn from FIRST to LAST; special tokens take the others
CLASSES, ROWS_LONG = 3, 64
LARGEST = 40_000_000  # parameters; a larger one is not built

Rule = tuple[str, Callable[[int], int]]
# In this order; the first that fits the whole name counts.
DEPTHS: list[Rule] = [
    (r".*(num|n)_.*experts_per_tok|num_experts_per_tok|moe_top_?k|moe_k|top_k_experts|.*topk", lambda v: min(v, 2)),
    (r"(.*_)?(num|n)_(\w+_)?experts|num_experts|moe_num_experts|expert_num", lambda v: min(v, 4)),
    (r"n_group|topk_group|num_expert_group|n_shared_experts|moe_layer_freq|decoder_sparse_step", lambda v: 1),
    (r"first_k_dense_replace|moe_layer_start_index|num_dense_layers", lambda v: min(v, 1)),
    (r"(.*_)?(num|n)_(\w+_)?layers?|.*_layers|layers|n_layer|depth|num_blocks|.*_depth|num_hidden_layers", lambda v: min(v, 2)),
    (r"(.*_)?vocab_size(_.*)?|vocab_size|text_vocab_size", lambda v: min(v, VOCABULARY)),
    (r"max_source_positions", lambda v: min(v, ROWS_LONG // 2)),
    (r"num_queries|num_query_tokens", lambda v: min(v, 12)),
    (r"window_size", lambda v: min(v, 4)),
    (r"max_length", lambda v: min(v, 64)),
    (r"num_feature_levels|num_parallel.*", lambda v: v),
]  # fmt: skip
WIDTHS: list[Rule] = [
    (r"mamba_d_head|mamba_head_dim|ssm_head_dim", lambda v: 32),
    (r"mamba_n_heads|mamba_num_heads|ssm_num_heads", lambda v: 4),
    (r"(mamba_)?n_groups|mamba_n_groups", lambda v: 1),
    (r"q_lora_rank|kv_lora_rank|o_lora_rank|.*lora_rank", lambda v: min(v, 16)),
    (r"qk_nope_head_dim|qk_rope_head_dim|v_head_dim", lambda v: min(v, 16)),
    (r"(.*_)?head_dim|attention_head_size|kv_channels|d_kv|d_head|key_dim|head_size", lambda v: min(v, 16)),
    (r".*(key_value_heads|num_kv_heads|num_key_value_groups|query_groups)", lambda v: min(v, 4)),
    (r"(.*_)?(num|n)?_?(\w+_)?heads?|.*attention_heads|n_head", lambda v: min(v, 4)),
    (r".*(intermediate|ffn|ff|inner|feedforward|mlp|expert_hidden)_?(\w+_)?(size|dim|hidden_size)|n_inner|d_ff|d_inner", lambda v: min(v, 64)),
    (r"(.*_)?(hidden|embedding|embed|model|projection|proj|attn|classifier|output|bottleneck|rnn)_?(\w+_)?(size|dim|dims|channels)|d_model|n_embd|dim|width|embed_dim|hidden_dim|projection_dim|d_embed", lambda v: min(v, 64)),
]  # fmt: skip
OFF = r".*(drop|jitter|mask_time_prob|mask_feature_prob|label_smoothing|token_drop).*"
SPECIAL = re.compile(r".*(_token_id|_token_index|_token_ids|_id|_index|token)$")


def tiny_config(config: Any, widths: bool, image: bool = True, **more: Any) -> Any:
    """The same configuration, of few layers and tokens, and maybe narrow.

    Args:
        config: with its defaults.
        widths: narrow it, too.
        image: make images small.
        more: values that shall hold, where there is such a field.
    """
    known = {f.name: f for f in fields(type(config))}
    values: dict[str, Any] = {}
    ids = iter(range(VOCABULARY - 1, LAST, -1))
    stages = any(re.fullmatch(r"depths|layer_depths|num_heads|hidden_sizes", n) and isinstance(getattr(config, n, None), list | tuple)
                 for n in known)
    rules = DEPTHS + WIDTHS if widths and not stages else DEPTHS
    for name, field in known.items():
        value = getattr(config, name, None)
        if hasattr(value, "sub_configs") and hasattr(value, "to_dict"):
            values[name] = tiny_config(value, widths, image)
            continue
        derived = field.default is None or (field.default is MISSING and field.default_factory is MISSING)
        if value is None or (derived and not isinstance(value, bool | int | float)):
            continue
        if derived and not re.fullmatch(r".*(token_id|index)|num_labels", name):
            continue
        values[name] = _smaller(name, value, rules, image, ids)
    values = {name: value for name, value in values.items() if value is not getattr(config, name, None)}
    values |= {name: value for name, value in more.items() if name in known or name in ("num_labels",)}
    return _rebuilt(type(config), values)


def _rebuilt(kind: Any, values: dict[str, Any]) -> Any:
    """The configuration with these values; one that it refuses by name is left out."""
    for _ in range(6):
        try:
            return kind(**values)
        except Exception as error:
            named = [name for name in values if re.search(rf"\b{name}\b", str(error))]
            if not named:
                raise
            del values[named[0]]
    return kind(**values)


def _smaller(name: str, value: Any, rules: list[Rule], image: bool, ids: Any) -> Any:
    if isinstance(value, bool):
        return False if re.fullmatch(r"use_cache|apply_spec_augment|use_timm_backbone|use_pretrained_backbone|use_mems.*", name) else value
    if isinstance(value, float):
        return 0.0 if re.fullmatch(OFF, name) else value
    if isinstance(value, int):
        if re.fullmatch(OFF, name):
            return 0
        if SPECIAL.match(name) and value >= LAST:
            return next(ids)
        if image and re.fullmatch(r"(.*_)?(image|img|input|crop)_?(size|resolution)", name):
            return min(value, 128 if rules is DEPTHS else 64)
        for pattern, rule in rules:
            if re.fullmatch(pattern, name):
                return rule(value)
        return value
    if isinstance(value, list | tuple) and value and all(type(v) is int for v in value):
        if re.fullmatch(r"(.*_)?depths?|.*num_blocks|layers|.*_depths", name):
            return type(value)(min(v, 1) for v in value)
        if image and re.fullmatch(r"(.*_)?(image|img|input)_?size", name):
            return type(value)(min(v, 64) for v in value)
        if SPECIAL.match(name):
            return type(value)(next(ids) if v >= LAST else v for v in value)
    if isinstance(value, dict) and "mrope_section" in value:
        return {**value, "mrope_section": [2, 3, 3]}
    return value


def _parts(config: Any) -> list[Any]:
    """The configuration and those in it."""
    inner = [v for v in vars(config).values() if hasattr(v, "sub_configs")]
    return [config, *(part for each in inner for part in _parts(each))]


def tiny_model(kind: Any, widths: bool) -> nn.Module:
    """A model of this class without dropout, with its batch norms in evaluation mode; the same each time.

    Raises:
        ValueError: it would have too many parameters.
    """
    name = kind.__name__
    two = name.endswith(("ForPreTraining", "NextSentencePrediction", "Retrieval"))
    more: dict[str, Any] = {"pad_token_id": 0, "num_labels": 2 if two else CLASSES}
    if "LMHeadModel" in name or "CausalLM" in name or name == "BertGenerationDecoder":
        more["is_decoder"] = True
    config = tiny_config(kind.config_class(), widths, **more)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    for each in (config, text):
        if getattr(each, "pad_token_id", None) is None:
            each.pad_token_id = 0
    config._attn_implementation = "eager"
    for part in _parts(config):
        part._experts_implementation = "eager"  # a loop over experts: what is fast knows no float64
        if widths:
            rope = getattr(part, "rope_parameters", None)
            if isinstance(rope, dict) and "rope_type" in rope:
                rope["mrope_section"] = [2, 3, 3]
    with torch.device("meta"):
        size = sum(p.numel() for p in kind(config).parameters())
    if size > LARGEST:
        raise ValueError(f"{size / 1e6:.0f} million parameters, more than {LARGEST / 1e6:.0f}")
    torch.manual_seed(0)
    model = kind(config)
    for module in model.modules():
        for attribute, value in list(vars(module).items()):
            if isinstance(value, float) and re.fullmatch(OFF, attribute):
                setattr(module, attribute, 0.0)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model
