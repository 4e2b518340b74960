"""Classifiers of transformers through PEFT in float64: scores, loss, gradients, and steps; and PEFT's folder of one.

Rows are texts of single-letter tokens with a class each. A row is scored on its own, so no padding is looked at. The loss
is the mean over rows weighted by class, as torch's cross_entropy with `weight` has it.
"""

import json

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    matthews_corrcoef,
    precision_recall_fscore_support,
)
from transformers import AutoModelForSequenceClassification

from common import OPTIMIZER, ROOT, generator, load_double, save_json, save_tensors, trained

FOLDER = ROOT / "classification"
LABELS = 3
CLASS_WEIGHTS = [1.0, 2.5, 0.5]
LENGTHS = [9, 5, 14, 3, 7, 11]
STEPS = 3


def load(base: str):
    """The decoder in float64, with a head of float32 numbers."""
    load_double(ROOT / "models" / base)  # patches the norms
    model = AutoModelForSequenceClassification.from_pretrained(
        ROOT / "models" / base, num_labels=LABELS, dtype=torch.float32, attn_implementation="sdpa"
    )
    model.config.pad_token_id = 0
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(model.score.weight.shape, generator=generator(f"{base}/score")) * 0.2)
    return model.double().eval()


def rows(base: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    rng = generator(f"{base}/rows")
    ids = [torch.randint(1, 256, (length,), generator=rng) for length in LENGTHS]
    return ids, torch.randint(0, LABELS, (len(LENGTHS),), generator=rng)


def attach(model, base: str):
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules="all-linear")
    model = get_peft_model(model, config).double()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator(f"{base}/{key}")) * 0.1)
            elif "lora_A" in key:
                parameter.copy_(torch.randn(parameter.shape, generator=generator(f"{base}/{key}")) * 0.2)
        for parameter in trained(model):
            parameter.copy_(parameter.float())
    return model


def tensors_of(model, prefix: str, grad: bool = False) -> dict[str, torch.Tensor]:
    if not grad:
        return {f"{prefix}.{key}": value.detach().float() for key, value in get_peft_model_state_dict(model).items()}
    found = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            name = key.replace(".default", "").replace(".modules_to_save", "")
            found[f"{prefix}.{name}"] = parameter.grad.float()
    if {key.removeprefix(f"{prefix}.") for key in found} != set(get_peft_model_state_dict(model)):
        raise SystemExit("trained parameters and saved tensors have different names")
    return found


def loss_of(model, ids, classes, weights):
    scores = torch.cat([model(input_ids=row[None]).logits for row in ids])
    return scores, torch.nn.functional.cross_entropy(scores, classes, weight=weights)


def make(base: str) -> dict:
    model = attach(load(base), base)
    ids, classes = rows(base)
    tensors = tensors_of(model, "init")
    case = {"model": base, "rows": [row.tolist() for row in ids], "classes": classes.tolist(), "losses": {}, "norms": {}}
    for name, weights in {"plain": None, "weighted": torch.tensor(CLASS_WEIGHTS, dtype=torch.float64)}.items():
        model.zero_grad()
        scores, loss = loss_of(model, ids, classes, weights)
        loss.backward()
        case["losses"][name] = loss.item()
        case["norms"][name] = torch.nn.utils.clip_grad_norm_(trained(model), 1e9).item()
        tensors |= tensors_of(model, f"grad.{name}", grad=True)
    tensors["scores"] = scores.detach().float()
    # transformers' own loss is that of no weights.
    own = torch.stack(
        [model(input_ids=row[None], labels=label[None]).loss for row, label in zip(ids, classes)]
    ).mean()
    if abs(own.item() - case["losses"]["plain"]) > 1e-12:
        raise SystemExit("transformers has another loss")
    folder = FOLDER / f"peft_{base}"
    model.float().save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    # The folder is of any place, and its set of targets in one order.
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    save_json(folder / "adapter_config.json", config)
    model.double()
    settings = {key: value for key, value in OPTIMIZER.items() if key != "max_grad_norm"}
    optimizer = torch.optim.AdamW(trained(model), **settings, foreach=False)
    steps = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        _, loss = loss_of(model, ids, classes, torch.tensor(CLASS_WEIGHTS, dtype=torch.float64))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained(model), OPTIMIZER["max_grad_norm"]).item()
        optimizer.step()
        steps.append([loss.item(), norm])
    tensors |= tensors_of(model, "final")
    save_tensors(FOLDER / f"{base}.safetensors", tensors)
    return case | {"steps": steps}


def metrics() -> list[dict]:
    """Metrics of scikit-learn, over all classes, also those that neither classes nor predictions have."""
    rng = generator("metrics")
    draw = lambda classes, rows: torch.randint(0, classes, (rows,), generator=rng).tolist()
    pairs = [(k, draw(k, n), draw(k, n)) for k, n in ((2, 12), (3, 40), (5, 9), (7, 200))]
    pairs += [(3, [0, 0, 1, 1], [0, 0, 1, 1]), (3, [0, 1, 2], [1, 1, 1]), (2, [1, 1, 1], [1, 0, 1]), (2, [0, 0], [0, 0])]
    def by_class(k, actual, predicted) -> dict:
        scores = precision_recall_fscore_support(actual, predicted, labels=range(k), zero_division=0)
        return dict(zip(("precision", "recall", "f1", "support"), (score.tolist() for score in scores)))

    return [
        {
            "classes": k,
            "actual": actual,
            "predicted": predicted,
            "accuracy": accuracy_score(actual, predicted),
            "macroF1": f1_score(actual, predicted, labels=range(k), average="macro", zero_division=0),
            "microF1": f1_score(actual, predicted, labels=range(k), average="micro", zero_division=0),
            "matthewsCorrelation": matthews_corrcoef(actual, predicted),
            "confusionMatrix": confusion_matrix(actual, predicted, labels=range(k)).tolist(),
            **by_class(k, actual, predicted),
        }
        for k, actual, predicted in pairs
    ]


def main():
    save_json(FOLDER / "metrics.json", metrics())
    save_json(
        FOLDER / "cases.json",
        {
            "labels": LABELS,
            "class_weights": CLASS_WEIGHTS,
            "optimizer": OPTIMIZER,
            "cases": [make(base) for base in ("llama3", "qwen3")],
        },
    )


if __name__ == "__main__":
    main()
