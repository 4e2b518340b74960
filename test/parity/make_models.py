"""Tiny random models of every family and variant, and their logits and losses in float64.

The weights are drawn at scales that give sharp attention and logits of size one, so that a mistake in
any part shows far above rounding.
"""

import hashlib
import json
import shutil
from pathlib import Path

import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    GraniteMoeHybridConfig,
    GraniteMoeHybridForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Ministral3Config,
    Ministral3ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Olmo3Config,
    Olmo3ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5ForCausalLM,
    Qwen3_5TextConfig,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)
from transformers.models.llama import modeling_llama

from common import (
    ROOT,
    drawn,
    forward,
    generator,
    load_double,
    loss_count,
    loss_sum,
    make_batch,
    relative_error,
    save_tensors,
)

LENGTHS = [7, 29, 12]
# Sequences that go on for more than a tile of 64 after their windows, and sequences shorter than a convolution between
# others.
LENGTHS_OF = {
    "mistral_window": [5, 140, 21],
    "lfm2": [7, 1, 29, 2, 12],
    "lfm2_odd": [1, 18, 2, 1, 25, 3],
    "qwen3_5": [7, 1, 70, 2, 12],
    "qwen3_5_odd": [1, 18, 2, 1, 25, 3],
}

CLASSES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "smollm3": (SmolLM3Config, SmolLM3ForCausalLM),
    "granite": (GraniteConfig, GraniteForCausalLM),
    "granite4": (GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM),
    "ministral3": (Ministral3Config, Ministral3ForCausalLM),
    "phi3": (Phi3Config, Phi3ForCausalLM),
    "olmo2": (Olmo2Config, Olmo2ForCausalLM),
    "olmo3": (Olmo3Config, Olmo3ForCausalLM),
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
    "lfm2": (Lfm2Config, Lfm2ForCausalLM),
    "qwen3_5": (Qwen3_5TextConfig, Qwen3_5ForCausalLM),
}

_common = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_plain_rope = {"rope_type": "default", "rope_theta": 1e4}

# name -> (class, overrides, dtype of the file, shard size)
MODELS = {
    "llama2": ("llama", {"num_key_value_heads": 4, "intermediate_size": 192}, torch.float32, None),
    "llama3": (
        "llama",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 5e5,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            "max_position_embeddings": 512,
        },
        torch.float32,
        None,
    ),
    "smollm2": (
        "llama",
        {
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_attention_heads": 6,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e5},
        },
        torch.float32,
        None,
    ),
    "tinyllama": ("llama", {"intermediate_size": 192}, torch.bfloat16, None),
    "mistral": ("mistral", {"head_dim": 32, "sliding_window": None}, torch.float32, None),
    "odd": (
        "llama",
        {"hidden_size": 72, "intermediate_size": 120, "head_dim": 16, "vocab_size": 267},
        torch.float32,
        None,
    ),
    "sharded": ("llama", {"intermediate_size": 192}, torch.bfloat16, "60KB"),
    "half": ("llama", {"tie_word_embeddings": True}, torch.float16, None),
    "linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        torch.bfloat16,
        None,
    ),
    "squared": ("llama", {"hidden_act": "relu2"}, torch.bfloat16, None),
    "mistral_window": ("mistral", {"sliding_window": 20, "max_position_embeddings": 256}, torch.bfloat16, None),
    "qwen2": (
        "qwen2",
        {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        torch.bfloat16,
        None,
    ),
    # The second of two layers sees a window.
    "qwen2_window": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 10,
            "max_window_layers": 1,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
        torch.bfloat16,
        None,
    ),
    "qwen3": (
        "qwen3",
        {
            "head_dim": 32,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, heads that are no whole vectors, 3 queries to a key, a window in the second layer, yarn.
    "qwen3_window": (
        "qwen3",
        {
            "head_dim": 20,
            "num_attention_heads": 6,
            "vocab_size": 267,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 10,
            "max_window_layers": 1,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
        torch.float32,
        None,
    ),
    # The last of four layers does not rotate.
    "smollm3": (
        "smollm3",
        {
            "num_hidden_layers": 4,
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6},
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, 3 queries to a key, heads that are no whole vectors, and a window in the layer that does
    # not rotate, which is the first of three.
    "smollm3_window": (
        "smollm3",
        {
            "head_dim": 20,
            "num_attention_heads": 6,
            "num_hidden_layers": 3,
            "vocab_size": 267,
            "attention_bias": True,
            "mlp_bias": True,
            "pad_token_id": 0,
            "no_rope_layers": [0, 1, 1],
            "use_sliding_window": True,
            "sliding_window": 10,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        },
        torch.float32,
        None,
    ),
    # Each multiplier is another number, and none a power of two.
    "granite": (
        "granite",
        {
            "tie_word_embeddings": True,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.3,
            "logits_scaling": 3.0,
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, which the residual multiplier scales too, 3 queries to a key, heads that are no whole vectors.
    "granite_odd": (
        "granite",
        {
            "head_dim": 20,
            "num_attention_heads": 6,
            "vocab_size": 267,
            "attention_bias": True,
            "mlp_bias": True,
            "embedding_multiplier": 0.7,
            "residual_multiplier": 1.7,
            "attention_multiplier": 0.1,
            "logits_scaling": 0.6,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        },
        torch.float32,
        None,
    ),
    # As Granite 3, with one linear for gate and up.
    "granite4": (
        "granite4",
        {
            "shared_intermediate_size": 128,
            "num_local_experts": 0,
            "layer_types": ["attention", "attention"],
            "position_embedding_type": "rope",
            "tie_word_embeddings": True,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.3,
            "logits_scaling": 3.0,
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: no rotary embedding, biases of attention, 3 queries to a key, nothing a whole vector.
    "granite4_nope": (
        "granite4",
        {
            "hidden_size": 72,
            "head_dim": 20,
            "num_attention_heads": 6,
            "vocab_size": 267,
            "shared_intermediate_size": 100,
            "mamba_n_heads": 8,  # unused, but must divide twice the hidden size
            "num_local_experts": 0,
            "layer_types": ["attention", "attention"],
            "attention_bias": True,
            "embedding_multiplier": 0.7,
            "residual_multiplier": 1.7,
            "attention_multiplier": 0.1,
            "logits_scaling": 0.6,
        },
        torch.float32,
        None,
    ),
    "olmo2": (
        "olmo2",
        {
            "num_key_value_heads": 4,
            "pad_token_id": None,  # whose row of the embedding torch does not train
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, 3 queries to a key, heads that are no whole vectors, a tied head.
    "olmo2_odd": (
        "olmo2",
        {
            "head_dim": 20,
            "num_attention_heads": 6,
            "vocab_size": 267,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        },
        torch.float32,
        None,
    ),
    # The last of four layers sees everything, and is scaled.
    "olmo3": (
        "olmo3",
        {
            "num_hidden_layers": 4,
            "num_key_value_heads": 4,
            "sliding_window": 10,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "yarn",
                    "rope_theta": 5e5,
                    "factor": 4.0,
                    "original_max_position_embeddings": 32,
                },
                "sliding_attention": {"rope_type": "default", "rope_theta": 5e5},
            },
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: as olmo2_odd, with other layers and another base of the frequencies in each kind of them.
    "olmo3_window": (
        "olmo3",
        {
            "head_dim": 20,
            "num_attention_heads": 6,
            "num_hidden_layers": 3,
            "vocab_size": 267,
            "attention_bias": True,
            "tie_word_embeddings": True,
            "sliding_window": 10,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 3e2},
            },
        },
        torch.float32,
        None,
    ),
    # One head of keys and values, as in the smaller published model.
    "gemma": (
        "gemma",
        {"head_dim": 32, "num_key_value_heads": 1, "tie_word_embeddings": True, "pad_token_id": None},
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, 3 queries to a key, heads and rows that are no whole vectors, a head of its own, a scaled rotary
    # embedding.
    "gemma_odd": (
        "gemma",
        {
            "hidden_size": 72,
            "intermediate_size": 120,
            "head_dim": 20,
            "num_attention_heads": 6,
            "vocab_size": 267,
            "attention_bias": True,
            "pad_token_id": None,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        },
        torch.float32,
        None,
    ),
    # One head of keys and values, as in the smallest published model; the last of three layers sees everything.
    "gemma3": (
        "gemma3",
        {
            "head_dim": 32,
            "num_key_value_heads": 1,
            "num_hidden_layers": 3,
            "query_pre_attn_scalar": 32,
            "tie_word_embeddings": True,
            "pad_token_id": None,
            "sliding_window": 10,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, 3 queries to a key, heads and rows that are no whole vectors, a head of its own, another scale
    # of the scores, other layers, a scaled rotary embedding.
    "gemma3_window": (
        "gemma3",
        {
            "hidden_size": 72,
            "intermediate_size": 120,
            "head_dim": 20,
            "num_attention_heads": 6,
            "num_hidden_layers": 3,
            "vocab_size": 267,
            "query_pre_attn_scalar": 15,
            "attention_bias": True,
            "pad_token_id": None,
            "sliding_window": 10,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 3e2},
            },
        },
        torch.float32,
        None,
    ),
    # Texts longer than the original context, from which on queries grow.
    "ministral3": (
        "ministral3",
        {
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 16.0,
                "original_max_position_embeddings": 8,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: a tied head, 3 queries to a key, heads that are no whole vectors, a window, scores that YaRN scales.
    "ministral3_window": (
        "ministral3",
        {
            "head_dim": 20,
            "num_attention_heads": 6,
            "vocab_size": 267,
            "tie_word_embeddings": True,
            "sliding_window": 10,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e4,
                "factor": 4.0,
                "original_max_position_embeddings": 5,
                "mscale": 1.7,
                "mscale_all_dim": 0.8,
                "llama_4_scaling_beta": 0.3,
            },
        },
        torch.float32,
        None,
    ),
    # Three quarters of each head rotate. One of the sequences is longer than the original context, two are not.
    "phi3": (
        "phi3",
        {
            "tie_word_embeddings": True,
            "pad_token_id": 0,
            "original_max_position_embeddings": 16,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "partial_rotary_factor": 0.75,
                "short_factor": [1.0, 1.1, 1.2, 1.5, 2.0, 3.0],
                "long_factor": [1.5, 2.5, 4.0, 7.0, 12.0, 20.0],
            },
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: an untied head, 3 queries to a key, nothing a whole vector, a window, a factor of its own.
    "phi3_window": (
        "phi3",
        {
            "hidden_size": 120,
            "intermediate_size": 100,
            "num_attention_heads": 6,
            "vocab_size": 267,
            "pad_token_id": 0,
            "sliding_window": 10,
            "original_max_position_embeddings": 11,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 500.0,
                "partial_rotary_factor": 0.5,
                "attention_factor": 1.3,
                "short_factor": [1.0, 0.9, 1.3, 2.0, 2.5],
                "long_factor": [3.0, 2.5, 2.0, 5.0, 9.0],
            },
        },
        torch.float32,
        None,
    ),
    # Two layers with a convolution around one with attention.
    "lfm2": (
        "lfm2",
        {
            "num_hidden_layers": 3,
            "layer_types": ["conv", "full_attention", "conv"],
            "block_auto_adjust_ff_dim": False,
            "tie_word_embeddings": True,
            "pad_token_id": None,
            "norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, four taps, 3 queries to a key, nothing a whole vector, a head of its own, an adjusted MLP, layers
    # by the older key, a scaled rotary embedding.
    "lfm2_odd": (
        "lfm2",
        {
            "hidden_size": 70,
            "intermediate_size": 181,
            "block_ffn_dim_multiplier": 0.9,
            "block_multiple_of": 12,
            "head_dim": 20,
            "num_attention_heads": 6,
            "num_hidden_layers": 4,
            "full_attn_idxs": [0, 2],
            "vocab_size": 267,
            "pad_token_id": None,
            "conv_bias": True,
            "conv_L_cache": 4,
            "norm_eps": 1e-4,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0},
        },
        torch.float32,
        None,
    ),
    # Two value heads to a key head; the third of four layers has attention, a quarter of whose heads rotate.
    "qwen3_5": (
        "qwen3_5",
        {
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
            "head_dim": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "tie_word_embeddings": True,
            "pad_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e7,
                "partial_rotary_factor": 0.25,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        torch.bfloat16,
        None,
    ),
    # Every variant: biases, three taps, 3 value heads to a key head, 3 queries to a key, nothing a whole vector, a head of
    # its own, a scaled rotary embedding, every other layer with attention.
    "qwen3_5_odd": (
        "qwen3_5",
        {
            "hidden_size": 70,
            "intermediate_size": 100,
            "num_hidden_layers": 4,
            "full_attention_interval": 2,
            "head_dim": 20,
            "num_attention_heads": 6,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 6,
            "linear_key_head_dim": 12,
            "linear_value_head_dim": 10,
            "linear_conv_kernel_dim": 3,
            "vocab_size": 267,
            "pad_token_id": None,
            "attention_bias": True,
            "rms_norm_eps": 1e-4,
            "rope_parameters": {
                "rope_type": "linear",
                "rope_theta": 1e4,
                "factor": 4.0,
                "partial_rotary_factor": 0.5,
            },
        },
        torch.float32,
        None,
    ),
}

# Their norms multiply by 1 + weight.
OFFSET_NORMS = ("gemma", "gemma3", "qwen3_5")


# Their weights are in the repository, since goldens of many programs stand on them; those of all others are drawn, here and
# by drawn.ts.
STORED = ("llama2", "llama3", "smollm2", "tinyllama", "mistral", "odd", "sharded", "half", "qwen2", "qwen3")


def build(name: str):
    """The model, and of each weight its shape, its deviation times the root of 3, and its mean."""
    kind, overrides, dtype, _ = MODELS[name]
    settings = {**_common, "rope_parameters": _plain_rope, "tie_word_embeddings": False, **overrides}
    if kind == "lfm2":  # which has another name for it
        settings.pop("rms_norm_eps")
    config, model = CLASSES[kind]
    model = model(config(**settings))
    small = settings["tie_word_embeddings"] or kind in ("gemma", "gemma3")  # whose embedding is scaled

    def scales(key: str, shape) -> tuple[float, float]:
        if key.endswith(".bias"):
            return 0.5, 0
        if key.endswith(("A_log", "dt_bias")):  # decays from near 0 to near 1
            return 1, -2 if key.endswith("A_log") else 0
        if len(shape) == 1:
            return 0.2, 0 if kind in OFFSET_NORMS and not key.endswith("linear_attn.norm.weight") else 1
        if "conv1d" in key:
            return shape[2] ** -0.5, 0
        if "embed_tokens" in key:
            return 0.2 if small else 1, 0
        if any(part in key for part in ("lm_head", "q_proj", "k_proj", "qkv_proj")):
            return 1.5 * shape[1] ** -0.5, 0
        if kind == "qwen3_5" and any(part in key for part in ("o_proj", "out_proj", "down_proj", "in_proj_qkv", "in_proj_z")):
            # The norm of what a delta rule gives magnifies rounding.
            return 0.5 * shape[1] ** -0.5, 0
        return shape[1] ** -0.5, 0

    weights = {}
    with torch.no_grad():
        for key, weight in model.named_parameters():
            deviation, mean = scales(key, weight.shape)
            if name in STORED:
                weight.copy_(torch.randn(weight.shape, generator=generator(f"{name}/{key}")) * deviation + mean)
            else:
                weights[key] = [list(weight.shape), deviation * 3**0.5, mean]
                weight.copy_(drawn(f"{name}/{key}", *weights[key]))
    return model.to(dtype), weights


def batch_of(name: str):
    vocab = MODELS[name][1].get("vocab_size", _common["vocab_size"])
    return make_batch(f"golden/{name}", LENGTHS_OF.get(name, LENGTHS), vocab, prompt=3)


def describe(path: Path, weights: dict) -> str:
    """What drawn.ts makes the same file of: its hash, its dtype, and the weights in its order, a line each."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header.pop("__metadata__")
    (dtype,) = {tensor["dtype"] for tensor in header.values()}
    if header.keys() != weights.keys():
        raise SystemExit(f"{path} has other weights than the model")
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(weights[key])}" for key in header)
    return f'{{"sha256": "{hashlib.sha256(content).hexdigest()}", "dtype": "{dtype}", "weights": {{\n{lines}\n}}}}'


def write_v4_config() -> None:
    """llama3's configuration with the keys of transformers 4, which most published models still use."""
    config = json.loads((ROOT / "models/llama3/config.json").read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    path = ROOT / "models/llama3-config-v4.json"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    check = ROOT / "models/.v4"
    shutil.copytree(ROOT / "models/llama3", check, dirs_exist_ok=True)
    shutil.copy(path, check / "config.json")
    batch = batch_of("llama3")
    with torch.no_grad():
        same = torch.equal(forward(load_double(check), batch), forward(load_double(ROOT / "models/llama3"), batch))
    shutil.rmtree(check)
    if not same:
        raise SystemExit("the two spellings of llama3's configuration give different logits")


def check_norm_patch(original) -> None:
    """The float64 norm must be the only difference, at float32 rounding."""
    batch = batch_of("llama3")
    model = load_double(ROOT / "models/llama3")
    with torch.no_grad():
        patched = forward(model, batch)
        ours = modeling_llama.LlamaRMSNorm.forward
        modeling_llama.LlamaRMSNorm.forward = original
        plain = forward(model, batch)
        modeling_llama.LlamaRMSNorm.forward = ours
    error = relative_error(plain, patched)
    print(f"  transformers' own norm differs by {error:.1e}")
    if not 0 < error < 1e-6:
        raise SystemExit("the float64 norm is not transformers' norm")


def check_windows() -> None:
    """The goldens are torch's fused attention in float64. transformers' own attention, whose softmax is float32, must
    agree to that, and the window must matter."""
    for name in [name for name in MODELS if name.endswith("_window")]:
        batch = batch_of(name)
        folder = ROOT / "models" / name
        with torch.no_grad():
            logits = forward(load_double(folder), batch)
            eager = relative_error(forward(load_double(folder, attn_implementation="eager"), batch), logits)
            without = relative_error(forward(load_double(folder, sliding_window=4096), batch), logits)
        print(f"  {name}: eager attention differs by {eager:.1e}, attention to everything by {without:.1e}")
        if not (eager < 1e-6 and without > 1e-2):
            raise SystemExit(f"{name} is not what transformers' attention computes")


def make() -> None:
    original_norm = modeling_llama.LlamaRMSNorm.forward
    described = {}
    for name, (_, _, _, shard_size) in MODELS.items():
        folder = ROOT / "models" / name
        shutil.rmtree(folder, ignore_errors=True)
        model, weights = build(name)
        model.save_pretrained(folder, **({"max_shard_size": shard_size} if shard_size else {}))
        if weights:
            described[name] = describe(folder / "model.safetensors", weights)
        (folder / "generation_config.json").unlink(missing_ok=True)
        batch = batch_of(name)
        with torch.no_grad():
            logits = forward(load_double(folder), batch)
            total = loss_sum(logits, batch)
        count = loss_count(batch)
        save_tensors(
            ROOT / "golden" / f"{name}.safetensors",
            {
                **batch,
                "logits": logits.float(),
                "loss": (total / count)[None],
                "loss_sum": total[None],
                "loss_count": torch.tensor([count], dtype=torch.int32),
            },
        )
        print(f"  {name}: loss {float(total / count):.6f} over {count} labels, logits std {float(logits.std()):.2f}")
    (ROOT / "models/drawn.json").write_text("{\n" + ",\n".join(f'"{name}": {text}' for name, text in described.items()) + "\n}\n")
    write_v4_config()
    check_norm_patch(original_norm)
    check_windows()


if __name__ == "__main__":
    make()
