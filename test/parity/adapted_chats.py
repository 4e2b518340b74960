"""Makes adapted_chats.json: chats in the form that the templates of some models read, as transformers renders them.

The templates in chat-templates/ are written after the formats of the models. Each chat is given in the usual form
(`reasoning_content`, `tools`, `tool_calls`) and rewritten here by hand.

    pip install transformers==5.24.0 jinja2==3.1.6
    python test/parity/adapted_chats.py
"""

import json
from pathlib import Path

import chat_values
import jinja2
import transformers
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Weather in Z\u00fcrich?"}
AGAIN = {"role": "user", "content": "And in Rome?"}
ANSWER = {"role": "assistant", "content": "It rains."}
THOUGHT = "Look at the sky.\n\nIt is gray."
REASONED = {"role": "assistant", "content": "It's dry.", "reasoning_content": THOUGHT}
ARGUMENTS = {"city": 'Z\u00fcrich "west"', "days": 2, "b": True, "n": None, "f": 2.5, "l": [1, "x"], "o": {"z": 1}}
RESULT = {"role": "tool", "content": '{"t": 3}'}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "now": {"type": "boolean", "default": True}},
            "required": ["city"],
        },
    },
}


def call(content, *arguments):
    calls = [{"type": "function", "function": {"name": "weather", "arguments": given}} for given in arguments]
    return {"role": "assistant", "content": content, "tool_calls": calls}


CALL = call("", ARGUMENTS)
TWO_CALLS = call("Looking.", {"city": "Oslo"}, {"city": "Rome"})

PLAIN = {"answer": ([USER, ANSWER], None), "turns": ([SYSTEM, USER, ANSWER, AGAIN, ANSWER], None)}
REASONING = {
    "reasoned": ([USER, REASONED], None),
    "reasoned turns": ([SYSTEM, USER, REASONED, AGAIN, REASONED], None),
}
TOOLS = {
    "call": ([SYSTEM, USER, CALL], [TOOL]),
    "calls and results": ([SYSTEM, USER, TWO_CALLS, RESULT, RESULT, ANSWER, AGAIN, CALL], [TOOL, TOOL]),
    "tools without a system prompt": ([USER, CALL, RESULT, ANSWER], [TOOL]),
}


def functions(message):
    return [one["function"] for one in message.get("tool_calls", [])]


def without(message, *keys):
    return {key: value for key, value in message.items() if key not in keys}


def dumps(value):
    return json.dumps(value, ensure_ascii=False)


def thought_in_content(message):
    if "reasoning_content" not in message:
        return message
    content = f"<think>{message['reasoning_content']}</think>{message['content']}"
    return {**without(message, "reasoning_content"), "content": content}


def ministral3(messages, tools):
    def change(message):
        if "reasoning_content" not in message:
            return message
        parts = [
            {"type": "thinking", "thinking": message["reasoning_content"]},
            {"type": "text", "text": message["content"]},
        ]
        return {"role": "assistant", "content": parts}

    return [change(message) for message in messages], {"tools": tools}


def phi4_mini(messages, tools):
    def change(message):
        if not functions(message):
            return message
        calls = [{"name": one["name"], "arguments": one["arguments"]} for one in functions(message)]
        return {"role": "assistant", "content": message["content"] + "<|tool_call|>" + dumps(calls) + "<|/tool_call|>"}

    messages = [change(message) for message in messages]
    if tools:
        system = messages.pop(0) if messages[0]["role"] == "system" else {"role": "system", "content": ""}
        messages.insert(0, {**system, "tools": dumps([tool["function"] for tool in tools])})
    return messages, {}


def olmo3(messages, tools):
    def change(message):
        if message["role"] == "tool":
            return {**message, "role": "environment"}
        calls = [
            f"{one['name']}({', '.join(f'{key}={dumps(value)}' for key, value in one['arguments'].items())})"
            for one in functions(message)
        ]
        return {**without(message, "tool_calls"), "function_calls": "\n".join(calls)} if calls else message

    messages = [thought_in_content(change(message)) for message in messages]
    if tools:
        messages[0] = {**messages[0], "functions": dumps(tools)}
    return messages, {}


def smollm3(messages, tools):
    def change(message):
        calls = [
            f'<tool_call>\n{{"name": {dumps(one["name"])}, "arguments": {dumps(one["arguments"])}}}\n</tool_call>'
            for one in functions(message)
        ]
        thought = message.get("reasoning_content")
        block = "" if thought is None else f"<think>\n{thought}\n</think>\n"
        content = block + message["content"] + "\n".join(calls)
        return {**without(message, "tool_calls", "reasoning_content"), "content": content}

    reasons = any("reasoning_content" in message for message in messages)
    return [change(message) for message in messages], {
        "xml_tools": tools,
        **({} if reasons else {"enable_thinking": False}),
    }


def lfm2(messages, tools):
    def value(given):
        if isinstance(given, str):
            return dumps(given)
        if isinstance(given, list):
            return "[" + ", ".join(map(value, given)) + "]"
        if isinstance(given, dict):
            return "{" + ", ".join(f"{dumps(key)}: {value(one)}" for key, one in given.items()) + "}"
        return repr(given)

    def change(message):
        calls = [
            f"{one['name']}({', '.join(f'{key}={value(given)}' for key, given in one['arguments'].items())})"
            for one in functions(message)
        ]
        if not calls:
            return message
        text = "<|tool_call_start|>[" + ", ".join(calls) + "]<|tool_call_end|>" + message["content"]
        return {"role": "assistant", "content": text}

    return [change(message) for message in messages], {"tools": tools}


def lfm2_5(messages, tools):
    messages, _ = lfm2(messages, tools)
    return [thought_in_content(message) for message in messages], {"tools": tools, "keep_past_thinking": True}


def lfm2_5_keyed(messages, tools):
    def change(message):
        if "reasoning_content" not in message:
            return message
        return {**without(message, "reasoning_content"), "thinking": message["reasoning_content"]}

    return [change(message) for message in messages], {"tools": tools, "keep_past_thinking": True}


def lfm2_5_preserving(messages, tools):
    return messages, {"tools": tools, "preserve_thinking": True}


LFM = ["<|startoftext|>", "<|im_start|>", "<|im_end|>", "<|tool_call_start|>", "<|tool_call_end|>"]
# family -> special tokens, cases
FAMILIES = {
    ministral3: (["<s>", "</s>", "[INST]", "[/INST]", "[THINK]", "[/THINK]", "[TOOL_CALLS]", "[ARGS]"], PLAIN | REASONING | TOOLS),
    phi4_mini: (["<|endoftext|>", "<|end|>", "<|assistant|>", "<|tool_call|>", "<|/tool_call|>"], PLAIN | TOOLS),
    olmo3: (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], PLAIN | REASONING | TOOLS),
    lfm2: (LFM, PLAIN | TOOLS),
    **{family: (LFM, PLAIN | REASONING | TOOLS) for family in (lfm2_5, lfm2_5_keyed, lfm2_5_preserving)},
    smollm3: (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], PLAIN | REASONING | TOOLS),
}


# Rendered by STRINGS, which converts a value to text with the filter and with the operator.
STRINGS = "{{ (messages[0].content | string) + '|' + ('' ~ messages[0].content) + '|' + (messages[0].nothing ~ '') }}"
VALUES = [
    True,
    7,
    2.5,
    "it's",
    [1, "a", None, False, [], {}],
    {"a": 1, "b": {"c": [True, 'say "hi"', "it's", "both ' and \""]}, "d": "line\n\\tab\t\u00e9\x00\x7f"},
]


def tokenizer_with(tokens):
    """The tokenizer `qwen2` with added tokens."""
    value = json.loads((HERE / "tokenizer_small.json").read_text())["tokenizers"]["qwen2"]["tokenizer"]
    known = {token["content"] for token in value["added_tokens"]}
    following = 1 + max([*value["model"]["vocab"].values(), *(token["id"] for token in value["added_tokens"])])
    flags = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [token for token in tokens if token not in known]
    value["added_tokens"] += [{"id": following + i, "content": token, **flags} for i, token in enumerate(added)]
    return value


def written(messages, tools):
    return render_jinja_template([messages], tools=tools, chat_template=chat_values.WRITTEN)[0][0]


def main():
    families = {}
    for adapt, (tokens, chats) in FAMILIES.items():
        own = (HERE / f"chat-templates/{adapt.__name__}.jinja").read_text()
        bos = tokens[0]
        eos = next(token for token in ("</s>", "<|endoftext|>", "<|im_end|>") if token in tokens)
        tokenizer = tokenizer_with(tokens)
        encoder = Tokenizer.from_str(json.dumps(tokenizer))

        def rendered(messages, tools):
            adapted, variables = adapt(messages, tools)
            variables = {"tools": None, "bos_token": bos, "eos_token": eos, **variables}
            texts, _ = render_jinja_template([adapted], chat_template=own, **variables)
            # Phi's template closes a chat, not a turn.
            text = texts[0].removesuffix(eos) if adapt is phi4_mini else texts[0]
            return {"text": text, "ids": encoder.encode(text, add_special_tokens=False).ids}

        families[adapt.__name__] = {
            "own": own,
            "bos_token": bos,
            "eos_token": eos,
            "added_tokens": tokenizer["added_tokens"],
            "cases": [
                {"name": name, "messages": messages, "tools": tools, **rendered(messages, tools)}
                for name, (messages, tools) in chats.items()
            ],
            "rows": [
                {"name": name, "row": row, **rendered(*chat_values.parsed(row))}
                for name, row in chat_values.ROWS.items()
            ],
        }
    strings = [
        {
            "value": value,
            "text": render_jinja_template([[{"role": "user", "content": value}]], chat_template=STRINGS)[0][0],
        }
        for value in VALUES
    ]
    value = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "families": families,
        "strings": {"template": STRINGS, "cases": strings},
        "written": {
            "template": chat_values.WRITTEN,
            "rows": [
                {"name": name, "row": row, "text": written(*chat_values.parsed(row))}
                for name, row in chat_values.ROWS.items()
            ],
        },
        "numbers": chat_values.numbers(),
    }
    (HERE / "adapted_chats.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
