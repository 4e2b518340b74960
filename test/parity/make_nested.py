"""A tiny Ministral 3 that takes images as well, with the text model of models/ministral3, as transformers writes it, and
a LoRA adapter of its text model, as PEFT writes it, with the logits of both in float64."""

import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import Ministral3Config, Mistral3Config, Mistral3ForConditionalGeneration, PixtralVisionConfig

from common import ROOT, generator, load_double, relative_error, save_tensors
from make_models import batch_of

NAME = "ministral3"
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "head_dim": 8,
    "image_size": 28,
    "patch_size": 14,
}


def text_logits(model, batch) -> torch.Tensor:
    ids, bounds = batch["input_ids"].long(), batch["cu_seqlens"].tolist()
    parts = [model(input_ids=ids[begin:end][None], use_cache=False).logits[0] for begin, end in zip(bounds, bounds[1:])]
    return torch.cat(parts)


def make() -> None:
    flat = load_double(ROOT / "models" / NAME)
    text = Ministral3Config.from_pretrained(ROOT / "models" / NAME)
    whole = Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config=text,
            vision_config=PixtralVisionConfig(**VISION),
            spatial_merge_size=2,
            image_token_index=3,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    with torch.no_grad():
        for key, weight in whole.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator(f"nested/{key}")) * 0.1)
    whole.model.language_model.load_state_dict(flat.model.state_dict())
    whole.lm_head.load_state_dict(flat.lm_head.state_dict())
    folder = ROOT / "nested"
    shutil.rmtree(folder, ignore_errors=True)
    whole.to(torch.bfloat16).save_pretrained(folder / "model")
    (folder / "model" / "generation_config.json").unlink(missing_ok=True)

    model = Mistral3ForConditionalGeneration.from_pretrained(folder / "model", dtype=torch.float32).double().eval()
    batch = batch_of(NAME)
    with torch.no_grad():
        plain = text_logits(model, batch)
        error = relative_error(plain, text_logits(flat, batch))
    print(f"  the text model differs from {NAME} by {error:.1e}")
    if error > 1e-6:
        raise SystemExit("the text model of the whole is not the model that it was made of")
    peft = {"r": 4, "lora_alpha": 8, "target_modules": r".*language_model.*\.(q_proj|v_proj|down_proj)"}
    with torch.random.fork_rng():
        torch.manual_seed(7)
        adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **peft))
    with torch.no_grad():
        for key, parameter in adapted.named_parameters():
            if "lora_B" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator(f"nested/{key}")) * 0.1)
        logits = text_logits(adapted.double(), batch)
    adapted.peft_config["default"].base_model_name_or_path = "nested/model"
    adapted.float().save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    save_tensors(folder / "logits.safetensors", {**batch, "plain": plain.float(), "adapted": logits.float()})


if __name__ == "__main__":
    make()
