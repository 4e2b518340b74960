"""The same training by PEFT on the card: LoRA over bf16 weights, and over 4 bits where bitsandbytes is there.

    python3 peers.py [--tokens 2048 4096] [--steps 5] [--small]

Models of the shape of benchmarks/cuda/card_bench.cpp with random weights, LoRA of rank 16 on all linears, AdamW, one sequence
at a time, with and without gradient checkpointing. Prints tokens per second (median) and the most memory that torch took.
"""
import argparse
import time

import torch

SHAPES = {
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
               num_key_value_heads=8, vocab_size=128256),
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=512),
}
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def four_bits(model):
    """Replaces the linears of the blocks by 4-bit ones, layer by layer, on the card."""
    import bitsandbytes as bnb

    for name, module in list(model.model.named_modules()):
        if not isinstance(module, torch.nn.Linear):
            continue
        linear = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False, quant_type="nf4",
                                   compress_statistics=True, compute_dtype=torch.bfloat16)
        linear.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4",
                                          compress_statistics=True)
        parent, _, own = name.rpartition(".")
        setattr(model.model.get_submodule(parent), own, linear.to("cuda"))
    return model


def measured(shape, quantized, checkpointing, tokens, steps):
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=131072, rope_theta=500000.0,
                         tie_word_embeddings=False, attn_implementation="sdpa")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if quantized:
        model = four_bits(model)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=LINEARS))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    model.train()
    if checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    ids = torch.randint(0, config.vocab_size, (1, tokens), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    times = []
    for step in range(steps + 2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast("cuda", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        if step >= 2:
            times.append(time.perf_counter() - start)
    median = sorted(times)[len(times) // 2]
    return tokens / median, torch.cuda.max_memory_allocated() / 2**30


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    shape, lengths = ("tiny", [64]) if options.small else ("8b", options.tokens)
    print(f"torch {torch.__version__} on {torch.cuda.get_device_name()}", flush=True)
    try:
        import bitsandbytes

        bases = [True, False]
        print(f"bitsandbytes {bitsandbytes.__version__}")
    except ImportError as error:
        bases = [False]
        print(f"no bitsandbytes: {error}")
    for quantized in bases:
        for tokens in lengths:
            for checkpointing in (False, True):
                what = f"{'NF4' if quantized else 'bf16'}, {tokens} tokens, {'' if checkpointing else 'no '}checkpointing"
                try:
                    speed, gib = measured(shape, quantized, checkpointing, tokens, options.steps)
                    print(f"{what}: {speed:.0f} tokens/s, {gib:.2f} GiB", flush=True)
                except Exception as error:  # the next case may still fit
                    print(f"{what}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
