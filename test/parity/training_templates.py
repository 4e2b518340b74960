"""Makes training_templates.json: chats as transformers renders them from the templates that models are published with
(chat-templates/) and from those in the families' files, with the characters that their marks enclose, and
ids and masks of the latter.

    pip install transformers==5.24.0 jinja2==3.1.6
    python test/parity/training_templates.py
"""

import json
import re
from pathlib import Path

import chat_values
import jinja2
import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent
MODELS = HERE / "../../lib/models"
# Names of templates that models are published with; those without a training template of their own name share one.
FAMILIES = ["qwen3", "qwen3_5", "qwen3_5_small", "qwen3_6"]


def training_source(family: str) -> str:
    """The text in the file of the family, with the change that makes Qwen3.6's of Qwen3.5's."""
    file = "qwen3" if family == "qwen3" else "qwen3_5"
    text = (MODELS / f"{file}.ts").read_text()
    source = re.search(r"String\.raw`(.*?)`", text, re.S)[1].strip()
    return source.replace(*re.search(r"TEMPLATE\.replace\('(.*)', '(.*)'\)", text).groups()) if family == "qwen3_6" else source


SYSTEM = {"role": "system", "content": "Be brief. "}
USER = {"role": "user", "content": "What is 2 + 2? \u4f60\u597d"}
AGAIN = {"role": "user", "content": "  And <b>3</b>?\n"}
ANSWER = {"role": "assistant", "content": "It is 4.\n\n  Indeed."}
REASONED = {"role": "assistant", "content": "It is 4.", "reasoning_content": "Two and two.\n\nFour."}
ARGUMENTS = {"city": "Z\u00fcrich", "days": 2, "b": True, "n": None, "f": 2.5, "l": [1, "x"], "o": {"z": 1}}
CALL = {
    "role": "assistant",
    "content": "",
    "reasoning_content": "Ask.",
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}],
}
TWO_CALLS = {
    "role": "assistant",
    "content": "Looking it up.",
    "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": city}}} for city in ("Oslo", "Rome")
    ],
}
RESULT = {"role": "tool", "content": '{"t": 3}'}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's weather <now> & later",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Z\u00fcrich", "Oslo"]}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}

# Chats whose text is the same by both templates: of one answer, and up to the first call.
EQUAL = {
    "answer": ([USER, ANSWER], None),
    "system": ([SYSTEM, USER, ANSWER], None),
    "reasoned": ([USER, REASONED], None),
    "system reasoned": ([SYSTEM, USER, REASONED], None),
    "call": ([USER, CALL], [TOOL]),
    "system call": ([SYSTEM, USER, CALL], [TOOL, TOOL]),
    "two calls": ([USER, TWO_CALLS], [TOOL]),
}
# Chats that the models' own templates change when they go on.
LONGER = {
    "turns": ([SYSTEM, USER, REASONED, AGAIN, ANSWER, USER, REASONED], None),
    "tools": ([USER, CALL, RESULT, ANSWER, AGAIN, TWO_CALLS, RESULT, RESULT, REASONED], [TOOL]),
}


def render(source: str, messages, tools, **variables):
    traced = "generation %}" in source
    texts, spans = render_jinja_template(
        [messages], tools=tools, chat_template=source, return_assistant_tokens_mask=traced, **variables
    )
    return {"text": texts[0], "spans": spans[0] if traced else None}


def masked(source: str, messages, tools):
    small = json.loads((HERE / "tokenizer_small.json").read_text())["tokenizers"]["qwen2"]["tokenizer"]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(small)), chat_template=source)
    encoded = tokenizer.apply_chat_template(
        messages, tools=tools, return_dict=True, return_assistant_tokens_mask=True
    )
    return {"ids": encoded["input_ids"], "mask": encoded.get("assistant_masks", encoded.get("assistant_mask"))}


def answers(source: str, messages, tools):
    """What the model sees of each answer in use: the chat up to it, and the prompt that asks for it."""
    found = []
    for at, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        thinking = {"enable_thinking": "reasoning_content" in message}
        text = render(source, messages[: at + 1], tools, **thinking)["text"]
        prompt = render(source, messages[:at], tools, add_generation_prompt=True, **thinking)["text"]
        small = json.loads((HERE / "tokenizer_small.json").read_text())["tokenizers"]["qwen2"]["tokenizer"]
        ids = Tokenizer.from_str(json.dumps(small)).encode(text, add_special_tokens=False).ids
        found.append({"at": at, "prompt": prompt, "ids": " ".join(map(str, ids))})
    return found


def main():
    families = {}
    for family in FAMILIES:
        own, training = (HERE / f"chat-templates/{family}.jinja").read_text(), training_source(family)
        cases = []
        for name, (messages, tools) in (EQUAL | LONGER).items():
            case = {"name": name, "messages": messages, "tools": tools}
            prompt = {"add_generation_prompt": True}
            case["own"] = render(own, messages, tools)["text"]
            case["prompt"] = render(own, messages[:-1], tools, enable_thinking=True, **prompt)["text"]
            case["unreasoned_prompt"] = render(own, messages[:-1], tools, enable_thinking=False, **prompt)["text"]
            case["training"] = render(training, messages, tools) | masked(training, messages, tools)
            cases.append(case)
            if name in LONGER:
                case["answers"] = answers(own, messages, tools)
            else:
                assert case["own"] == case["training"]["text"], name
        rows = [
            {"name": name, "row": row, "ids": masked(training, *chat_values.parsed(row))["ids"]}
            for name, row in chat_values.ROWS.items()
        ]
        families[family] = {"own": own, "training": training, "cases": cases, "rows": rows}
    value = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "families": families,
    }
    (HERE / "training_templates.json").write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
