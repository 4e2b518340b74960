"""Full fine-tuning in float64: gradient of every weight of the model, ten AdamW steps over all of them."""

from common import OPTIMIZER, ROOT, forward, load_double, loss_count, loss_sum, save_json, save_tensors
from make_lora import SCHEDULE, train, train_batches
from make_models import batch_of

# name, model: one with a head of its own, one whose head is the embedding, one with norms of queries and keys, one with
# multipliers of the embedding, the residual stream, and the logits, one with norms after attention and MLP, one whose norms
# have 1 + weight, one with convolutions that have biases, and one with gated delta rules.
CASES = [
    ("untied", "sharded"),
    ("tied", "half"),
    ("qwen3", "qwen3"),
    ("granite", "granite"),
    ("olmo2", "olmo2"),
    ("gemma3", "gemma3"),
    ("lfm2", "lfm2_odd"),
    ("qwen3_5", "qwen3_5_odd"),
]


def make_case(name: str, base: str, batches) -> dict:
    model = load_double(ROOT / "models" / base)
    # Parameters that are shared come once, under the name that the file has.
    weights = dict(model.named_parameters())
    batch = batch_of(base)
    loss = loss_sum(forward(model, batch), batch) / loss_count(batch)
    loss.backward()
    tensors = {f"grad.{key}": weight.grad.float() for key, weight in weights.items()}
    losses, norms = train(model, batches)
    tensors |= {f"final.{key}": weight.detach().float() for key, weight in weights.items()}
    save_tensors(ROOT / "full" / f"{name}.safetensors", tensors)
    print(f"  {name}: loss {loss.item():.6f}, {losses[0]:.4f} -> {losses[-1]:.4f}")
    return {
        "name": name,
        "model": base,
        "loss": loss.item(),
        "optimizer": OPTIMIZER,
        "schedule": SCHEDULE,
        "losses": losses,
        "grad_norms": norms,
    }


def make() -> None:
    batches = train_batches()
    save_json(ROOT / "full" / "cases.json", [make_case(*case, batches) for case in CASES])


if __name__ == "__main__":
    make()
