"""LoRA fine-tuning through transformers + PEFT (+ bitsandbytes) on the CPU: the work that lowrank's benchmark does.

    python benchmarks/peers/peft_train.py MODEL_FOLDER [--quantization nf4] [--precision bf16]
        [--strategy lora] [--gradient-checkpointing] [--compile] [--no-autocast] [--steps 8] [--tokens ids.bin] [--threads 2]

Every step is `--batch` sequences of `--length` tokens, all of them supervised, no padding; LoRA, or another of PEFT's
methods, on the seven linears of every layer; torch's AdamW. `--tokens` is a file of little-endian int32 ids, step after
step; without it the ids are random from `--seed`. `--adapter` starts from a PEFT folder instead of a fresh
adapter, so that two programs can start from the same numbers.

On a machine that others use too, compare CPU seconds (all threads together) rather than wall seconds.

Prints a JSON line per step and a last one with the median speed after `--warmup` steps, the peak resident
memory of training (VmHWM, reset once the model is loaded) and, apart, that of loading.
"""

import argparse
import json
import os
import re
import statistics
import time
from contextlib import nullcontext
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--quantization", choices=["none", "nf4"], default="none")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--strategy", choices=["lora", "dora", "vera", "loha", "lokr"], default="lora")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true", help="torch.compile the model")
    parser.add_argument("--no-autocast", action="store_true", help="of bf16: adapters in bf16 too, and no autocast")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.steps <= options.warmup:
        parser.error("--steps must be more than --warmup")
    if options.no_autocast and options.precision != "bf16":
        parser.error("--no-autocast is of --precision bf16: in fp32 there is no autocast")
    if options.quantization != "none" and options.strategy in ("loha", "lokr"):
        parser.error(f"PEFT has no {options.strategy} over a quantized base: take --quantization none")
    return options


def adapter_config(options: argparse.Namespace):
    """The strategies at one rank where they have one, as `compared` of scripts/strategy-tables.mjs has them."""
    import peft

    common = {"task_type": "CAUSAL_LM", "target_modules": LINEARS}
    if options.strategy == "vera":
        return peft.VeraConfig(**common)
    if options.strategy == "loha":
        return peft.LoHaConfig(r=options.rank, alpha=options.alpha, **common)
    if options.strategy == "lokr":
        return peft.LoKrConfig(r=options.rank, alpha=options.alpha, **common)
    dora = options.strategy == "dora"
    return peft.LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=0.0, use_dora=dora, **common
    )


def memory(key: str) -> int:
    """Bytes of a field of /proc/self/status: VmHWM is the peak, VmRSS what is resident now."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"^{key}:\s+(\d+) kB", status, re.M)[1]) * 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def load(options: argparse.Namespace):
    from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training

    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    settings = {"dtype": dtype, "attn_implementation": "sdpa"}
    if options.quantization == "nf4":
        settings["device_map"] = {"": "cpu"}
        settings["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, **settings)
    model.config.use_cache = False
    checkpointing = {"use_reentrant": False}
    if options.quantization == "nf4":
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=options.gradient_checkpointing,
            gradient_checkpointing_kwargs=checkpointing,
        )
    elif options.gradient_checkpointing:
        model.gradient_checkpointing_enable(checkpointing)
    if options.adapter:
        return PeftModel.from_pretrained(model, options.adapter, is_trainable=True)
    torch.manual_seed(options.seed)
    return get_peft_model(model, adapter_config(options))


def read_tokens(options: argparse.Namespace, vocab: int) -> torch.Tensor:
    """[steps, batch, length]"""
    shape = (options.steps, options.batch, options.length)
    if not options.tokens:
        return torch.from_numpy(np.random.default_rng(options.seed).integers(0, vocab, shape))
    ids = np.fromfile(options.tokens, "<i4", count=int(np.prod(shape)))
    if ids.size < np.prod(shape):
        raise SystemExit(f"{options.tokens} has {ids.size} ids; {options.steps} steps need {int(np.prod(shape))}")
    return torch.from_numpy(ids.reshape(shape).astype(np.int64))


def versions() -> dict[str, str]:
    import bitsandbytes
    import peft

    return {module.__name__: module.__version__ for module in (torch, transformers, peft, bitsandbytes)}


def main() -> None:
    options = parse()
    transformers.utils.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    versions()  # imports everything, so that the next figure is the process without a model
    before = memory("VmRSS")
    reset_peak()
    started = time.perf_counter()
    model = load(options)
    if options.no_autocast:
        model.to(torch.bfloat16)
    model.train()
    load_seconds = time.perf_counter() - started
    load_peak, loaded = memory("VmHWM"), memory("VmRSS")
    tokens = read_tokens(options, model.config.vocab_size)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    step_model = torch.compile(model) if options.compile else model
    optimizer = torch.optim.AdamW(trained, lr=options.learning_rate, weight_decay=options.weight_decay)
    reset_peak()

    losses, seconds, cpu_seconds = [], [], []
    for step, ids in enumerate(tokens, 1):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        mixed = options.precision == "bf16" and not options.no_autocast
        autocast = torch.autocast("cpu", torch.bfloat16) if mixed else nullcontext()
        with autocast:
            loss = step_model(input_ids=ids, labels=ids).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, options.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.process_time() - cpu_begin)
        losses.append(loss.item())
        line = {"step": step, "loss": losses[-1], "grad_norm": norm.item(), "seconds": seconds[-1]}
        line |= {"cpu_seconds": cpu_seconds[-1], "peak_rss_bytes": memory("VmHWM")}
        print(json.dumps(line), flush=True)

    print(
        json.dumps(
            {
                "mode": {
                    "quantization": options.quantization,
                    "precision": options.precision,
                    "strategy": options.strategy,
                    "gradient_checkpointing": options.gradient_checkpointing,
                    "compile": options.compile,
                    "autocast": not options.no_autocast,
                    "preloaded": os.environ.get("LD_PRELOAD"),
                    "rank": options.rank,
                    "batch": options.batch,
                    "length": options.length,
                    "threads": torch.get_num_threads(),
                    "malloc_mmap_threshold": os.environ.get("MALLOC_MMAP_THRESHOLD_"),
                },
                "tokens_per_second": tokens[0].numel() / statistics.median(seconds[options.warmup :]),
                "tokens_per_cpu_second": tokens[0].numel() / statistics.median(cpu_seconds[options.warmup :]),
                "peak_rss_bytes": memory("VmHWM"),
                "load_peak": load_peak,
                "loaded_rss_bytes": loaded,
                "before_load_rss_bytes": before,
                "load_seconds": load_seconds,
                "trainable_parameters": sum(parameter.numel() for parameter in trained),
                "losses": losses,
                "cpu_capability": torch.backends.cpu.get_cpu_capability(),
                "versions": versions(),
            }
        )
    )


if __name__ == "__main__":
    main()
