"""A tiny random model of any of Transformers' classes: its configuration's sizes, each by its name."""

import re
from dataclasses import MISSING, fields
from typing import Any

import torch
from torch import nn

VOCABULARY, FIRST, LAST = 128, 5, 100  # ids are drawn from FIRST to LAST; special tokens take the others
CLASSES, LONGEST = 3, 64
LARGEST = 45_000_000  # parameters; a larger one is not built

# What a field of such a name is at most; the first pattern that fits the whole name counts.
Limits = dict[str, int]
DEPTHS: Limits = {
    r".*(num|n)_.*experts_per_tok|num_experts_per_tok|moe_top_?k|moe_k|top_k_experts|.*topk": 2,
    r"(.*_)?(num|n)_(\w+_)?experts|num_experts|moe_num_experts|expert_num": 4,
    r"n_group|topk_group|num_expert_group|n_shared_experts|moe_layer_freq|decoder_sparse_step": 1,
    r"first_k_dense_replace|moe_layer_start_index|num_dense_layers": 1,
    r"num_kv_shared_layers": 0,
    r"(.*_)?(num|n)_(\w+_)?layers?|.*_layers|layers|n_layer|depth|num_blocks|.*_depth": 2,
    r"(.*_)?vocab(_size)?(_.*)?": VOCABULARY,
    r"max_source_positions": LONGEST // 2,
    r"num_queries|num_query_tokens": 12,
    r"window_size|attention_window": 4,
    r"max_length": LONGEST,
}
DEEPER: Limits = {r"(.*_)?(num|n)_(hidden_)?layers?": 4}  # for layers that alternate
WIDTHS: Limits = {
    r"mamba_d_ssm": 128,
    r"rotary_dim": 16,
    r"mamba_d_head|mamba_head_dim|ssm_head_dim": 32,
    r"mamba_n_heads|mamba_num_heads|ssm_num_heads": 4,
    r"(mamba_)?n_groups": 1,
    r".*lora_rank|qk_nope_head_dim|qk_rope_head_dim|v_head_dim": 16,
    r"(.*_)?head_dim|attention_head_size|kv_channels|d_kv|d_head|key_dim|head_size": 16,
    r".*(key_value_heads|num_kv_heads|num_key_value_groups|query_groups)": 4,
    r"(.*_)?(num|n)?_?(\w+_)?heads?|.*attention_heads|n_head": 4,
    r".*(intermediate|ffn|ff|inner|feedforward|mlp|expert_hidden)_?(\w+_)?(size|dim|hidden_size)": 64,
    r"n_inner|d_ff|d_inner|d_model|n_embd|emb_dim|dim|width|d_embed": 64,
    r"(.*_)?(hidden|embedding|embed|model|projection|proj|attn|classifier|output|bottleneck|rnn)_?"
    r"(\w+_)?(size|dim|dims|channels)": 64,
}
NEEDED = {
    "vocab_size": VOCABULARY,
    "num_experts_per_tok": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
}  # where None is the default
NEVER = r"use_(cache|timm_backbone|pretrained_backbone|mems.*)|apply_spec_augment"
OFF = r".*(drop|jitter|mask_time_prob|mask_feature_prob|label_smoothing|token_drop).*"
SPECIAL = re.compile(r".*(_token_id|_token_index|_token_ids|_id|_index|token)$")


def tiny_config(config: Any, widths: bool, deeper: bool = False, **more: Any) -> Any:
    """The same configuration, of few layers and tokens, and maybe narrow.

    Args:
        config: with its defaults.
        widths: narrow it, too.
        deeper: four layers in place of two.
        more: values that shall hold, where there is such a field.
    """
    known = {f.name: f for f in fields(type(config))}
    values: dict[str, Any] = {}
    ids = iter(range(VOCABULARY - 1, LAST, -1))
    lists = {name for name in known if isinstance(_value(config, name), list | tuple)}
    stages = bool(lists & {"depths", "layer_depths", "num_heads", "hidden_sizes"})
    limits = (DEEPER if deeper else {}) | DEPTHS | (WIDTHS if widths and not stages else {})
    pixels = 128 if stages and "window_size" in known else 64
    for name, field in known.items():
        value = _value(config, name)
        if value is None and name in NEEDED:
            values[name] = NEEDED[name]
        if hasattr(value, "sub_configs") and hasattr(value, "to_dict"):
            values[name] = _backbone(value) or tiny_config(value, widths, deeper)
            continue
        derived = field.default is None or (field.default is MISSING and field.default_factory is MISSING)
        if value is None or (derived and not isinstance(value, bool | int | float)):
            continue
        if derived and not re.fullmatch(r".*(token_id|index)|num_labels", name):
            continue
        values[name] = _smaller(name, value, limits, pixels, ids)
    if widths and {"state_size", "expand", "head_dim"} <= set(known):
        values |= {"head_dim": 32, "num_heads": 4, "n_groups": 1}  # whose product is expand * hidden_size
    values = {
        name: value
        for name, value in values.items()
        if value is not _value(config, name) or value != known[name].default
    }
    values |= {name: value for name, value in more.items() if name in known or name in ("num_labels",)}
    return _rebuilt(type(config), values)


def _value(config: Any, name: str) -> Any:
    """A field; None where the configuration does not tell it, since it has one for each layer."""
    try:
        return getattr(config, name, None)
    except Exception:
        return None


def _backbone(config: Any) -> Any:
    """A tiny ResNet in place of a backbone of timm, which is another package; None for anything else."""
    if type(config).__name__ != "TimmBackboneConfig":
        return None
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 16, 32, 32], depths=[1, 1, 1, 1], layer_type="basic",
        out_indices=[i for i in config.out_indices or [4] if i > 0] or [4],
    )  # fmt: skip


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


def _smaller(name: str, value: Any, limits: Limits, pixels: int, ids: Any) -> Any:
    if isinstance(value, bool):
        return value and not re.fullmatch(NEVER, name)
    if isinstance(value, float):
        return 0.0 if re.fullmatch(OFF, name) else value
    if isinstance(value, int):
        if re.fullmatch(OFF, name):
            return 0
        if SPECIAL.match(name) and value >= LAST:
            return next(ids)
        if re.fullmatch(r"(.*_)?(image|img|input|crop)_?(size|resolution)", name):
            return min(value, pixels)
        fitting = (limit for pattern, limit in limits.items() if re.fullmatch(pattern, name))
        return min(value, next(fitting, value))
    if isinstance(value, list | tuple) and value and all(type(v) is int for v in value):
        if re.fullmatch(r"(.*_)?depths?|.*num_blocks|layers|.*_depths", name):
            return type(value)(min(v, 1) for v in value)
        if re.fullmatch(r"(.*_)?(image|img|input)_?size", name):
            return type(value)(min(v, pixels) for v in value)
        if name in ("conv_dim", "tdnn_dim"):
            return type(value)(min(v, 32) for v in value)
        if name == "attention_window":
            return type(value)(4 for _ in value[:2])
        if SPECIAL.match(name):
            return type(value)(next(ids) if v >= LAST else v for v in value)
    if isinstance(value, dict) and "mrope_section" in value:
        return {**value, "mrope_section": [2, 3, 3]}
    return value


def _parts(config: Any) -> list[Any]:
    """The configuration and those in it."""
    inner = [v for v in vars(config).values() if hasattr(v, "sub_configs")]
    return [config, *(part for each in inner for part in _parts(each))]


def tiny_model(kind: Any, widths: bool, deeper: bool = False) -> nn.Module:
    """A model of this class without dropout, with its batch norms in evaluation mode; the same each time.

    Raises:
        ValueError: it would have too many parameters.
    """
    name = kind.__name__
    two = name.endswith(("ForPreTraining", "NextSentencePrediction", "Retrieval"))
    more: dict[str, Any] = {"pad_token_id": 0, "num_labels": 2 if two else CLASSES}
    if "LMHeadModel" in name or "CausalLM" in name or name == "BertGenerationDecoder":
        more["is_decoder"] = True
    config = tiny_config(kind.config_class(), widths, deeper, **more)
    config._attn_implementation = "eager"
    for part in _parts(config):
        if _value(part, "pad_token_id") is None:
            part.pad_token_id = 0
        if hasattr(part, "layer_types") and part.layer_types is None:
            part.layer_types = ["full_attention"] * part.num_hidden_layers
        heads = _value(part, "num_attention_heads")
        if (
            isinstance(heads, int)
            and hasattr(part, "num_key_value_heads")
            and part.num_key_value_heads is None
        ):
            part.num_key_value_heads = heads
        if isinstance(heads, int) and hasattr(part, "head_dim") and part.head_dim is None:
            part.head_dim = part.hidden_size // heads
        part._experts_implementation = "eager"  # a loop over experts: what is fast knows no float64
        if widths:
            rope = getattr(part, "rope_parameters", None)
            if isinstance(rope, dict) and "rope_type" in rope:
                rope["rope_theta"] = rope.get("rope_theta") or 10_000.0
                half = int(8 * rope.get("partial_rotary_factor", 1.0))
                rope["mrope_section"] = [half - 2 * (3 * half // 8), 3 * half // 8, 3 * half // 8]
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
            module.train = lambda mode=True, module=module: module  # type: ignore
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model
