"""Converts a GGUF file of the llama architecture into a Hugging Face model folder with plain weights.

    python benchmarks/peers/gguf_to_folder.py model.gguf FOLDER [--dtype bf16|f32]

Reads F32, F16, BF16, Q8_0, Q4_0 and Q4_1 with its own numpy decoder, undoes the row permutation of q and k and
takes the configuration from the metadata. The folder has config.json and model.safetensors, no tokenizer: the
benchmarks feed token ids. For files one trusts; the checked reader is lowrank's own.
"""

import argparse
import json
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# ggml type -> (elements per block, bytes per block)
_LAYOUTS = {0: (1, 4), 1: (1, 2), 30: (1, 2), 8: (32, 34), 2: (32, 18), 3: (32, 20)}

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GLOBAL_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


class GgufFile:
    """Metadata and decoded tensors of one file."""

    def __init__(self, path: Path):
        self._bytes = np.memmap(path, np.uint8, "r")
        self._at = 0
        if bytes(self._bytes[:4]) != b"GGUF":
            raise SystemExit(f"{path} is not a GGUF file")
        self._at = 4
        version, tensors, entries = self._read("I"), self._read("Q"), self._read("Q")
        if version not in (2, 3):
            raise SystemExit(f"{path} has GGUF version {version}; 2 and 3 are read")
        self.metadata = {self._string(): self._value(self._read("I")) for _ in range(entries)}
        self._infos = dict(self._info() for _ in range(tensors))
        alignment = self.metadata.get("general.alignment", 32)
        self._data = -(-self._at // alignment) * alignment

    def _read(self, code: str):
        size = struct.calcsize("<" + code)
        (value,) = struct.unpack("<" + code, self._bytes[self._at : self._at + size])
        self._at += size
        return value

    def _string(self) -> str:
        length = self._read("Q")
        self._at += length
        return bytes(self._bytes[self._at - length : self._at]).decode()

    def _value(self, kind: int):
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            item, count = self._read("I"), self._read("Q")
            return [self._value(item) for _ in range(count)]
        return self._read(_SCALARS[kind])

    def _info(self):
        name, dims = self._string(), self._read("I")
        shape = [self._read("Q") for _ in range(dims)][::-1]
        return name, (shape, self._read("I"), self._read("Q"))

    def names(self) -> list[str]:
        return list(self._infos)

    def tensor(self, name: str) -> np.ndarray:
        """float32, in the shape that Hugging Face uses (slowest dimension first)."""
        shape, kind, offset = self._infos[name]
        if kind not in _LAYOUTS:
            raise SystemExit(f"{name} has ggml type {kind}, which this converter does not read")
        per_block, size = _LAYOUTS[kind]
        blocks = int(np.prod(shape)) // per_block
        begin = self._data + offset
        raw = np.asarray(self._bytes[begin : begin + blocks * size]).reshape(blocks, size)
        return _decode(raw, kind).reshape(shape)


def _f16(raw: np.ndarray, at: int) -> np.ndarray:
    return np.ascontiguousarray(raw[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(raw: np.ndarray) -> np.ndarray:
    """Element j is the low nibble of byte j, element j + 16 its high nibble."""
    return np.concatenate([raw & 15, raw >> 4], 1).astype(np.float32)


def _decode(raw: np.ndarray, kind: int) -> np.ndarray:
    if kind == 0:
        return raw.view("<f4")
    if kind == 1:
        return raw.view("<f2").astype(np.float32)
    if kind == 30:
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    if kind == 8:
        return _f16(raw, 0) * raw[:, 2:].view(np.int8)
    if kind == 2:
        return _f16(raw, 0) * (_nibbles(raw[:, 2:]) - 8)
    return _f16(raw, 0) * _nibbles(raw[:, 4:]) + _f16(raw, 2)


def _unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF keeps rotary pairs next to each other; Hugging Face keeps them half a head apart."""
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def config_of(gguf: GgufFile) -> dict:
    metadata = gguf.metadata
    if metadata["general.architecture"] != "llama":
        raise SystemExit(f"architecture {metadata['general.architecture']}; this converter reads llama")
    if "rope_freqs.weight" in gguf.names() or metadata.get("llama.rope.scaling.type", "none") != "none":
        raise SystemExit("this converter does not read rope scaling")

    def get(key: str, default=None):
        return metadata.get(f"llama.{key}", default)

    hidden, heads = get("embedding_length"), get("attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv", heads),
        "head_dim": get("attention.key_length", hidden // heads),
        "vocab_size": len(metadata["tokenizer.ggml.tokens"]),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_theta": get("rope.freq_base", 10000.0),
        "hidden_act": "silu",
        "attention_bias": False,
        "tie_word_embeddings": "output.weight" not in gguf.names(),
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata.get("tokenizer.ggml.eos_token_id"),
    }


def weights_of(gguf: GgufFile, config: dict) -> dict[str, np.ndarray]:
    """float32 weights under Hugging Face's names."""
    weights = {}
    for name in gguf.names():
        weight = gguf.tensor(name)
        stem = name.removesuffix(".weight")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".", 2)
            if part == "attn_q":
                weight = _unpermute(weight, config["num_attention_heads"])
            elif part == "attn_k":
                weight = _unpermute(weight, config["num_key_value_heads"])
            target = f"model.layers.{layer}.{_LAYER_NAMES[part]}"
        else:
            target = _GLOBAL_NAMES[stem]
        weights[f"{target}.weight"] = np.ascontiguousarray(weight)
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=["bf16", "f32"], default="bf16")
    options = parser.parse_args()
    gguf = GgufFile(options.gguf)
    config = config_of(gguf)
    dtype = torch.bfloat16 if options.dtype == "bf16" else torch.float32
    config["torch_dtype"] = str(dtype).removeprefix("torch.")
    options.folder.mkdir(parents=True, exist_ok=True)
    weights = {name: torch.tensor(value).to(dtype) for name, value in weights_of(gguf, config).items()}
    save_file(weights, options.folder / "model.safetensors", metadata={"format": "pt"})
    (options.folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
