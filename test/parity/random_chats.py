"""Random chats for chat templates: with system prompts, several turns, tools, calls and their results, reasoning,
unicode, and white space at the edges. The same seed gives the same chats."""

import json
import random

CODE = "    return x + 1\n"
TEXTS = [
    "What is 2 + 2?",
    "It is 4.",
    CODE,
    "\tif x:\n\t\treturn  x\n",
    "  Two spaces before, two after  ",
    "\nA line feed before, two after\n\n",
    "\n\n    x = 1\n",
    "你好，世界",
    "Zürich \"west\" & <b>it's</b> 100% {{ x }}",
    "🎉 café \u00a0no-break\u00a0",
    "\u3000ideographic space\u3000",
    "a\\nb \\ 'c'",
    "one\r\ntwo",
    "İstanbul ß ﬁ",
    "first\n\n\nsecond",
    "{\"a\": [1, 2.0, null, true]}",
    "[1, 2]",
    "<tag> </tag> |x|",
]
THOUGHTS = ["Two and two.\n\nFour.", "Look it up.", "  想一想 \n", "\nStep 1: read.\nStep 2: answer.\n", "It's \"gray\"."]
ARGUMENTS = [
    {"city": "Zürich"},
    {"city": "Rome", "days": 2, "now": True},
    {"path": "a/b.py", "text": CODE, "n": None},
    {"x": 1.0, "y": -2.5, "list": [1, "two", {"three": 3}], "empty": {}},
    {"query": "it's \"quoted\" <x>"},
    {},
]
PROPERTIES = {
    "city": {"type": "string", "description": "Name of a city", "enum": ["Zürich", "Rome"]},
    "days": {"type": "integer", "description": "Number of days", "default": 1, "minimum": 1},
    "now": {"type": "boolean"},
    "x": {"type": "number", "description": "A number"},
    "list": {"type": "array", "description": "Things", "items": {"type": "string"}},
    "options": {
        "type": "object",
        "description": "More",
        "properties": {"unit": {"type": "string", "enum": ["C", "F"]}, "exact": {"type": "boolean"}},
        "required": ["unit"],
    },
    "text": {"type": ["string", "null"]},
}
NAMES = ["get_weather", "read_file", "search"]
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def tool(rng, name):
    properties = {key: PROPERTIES[key] for key in rng.sample(list(PROPERTIES), rng.randrange(0, 4))}
    parameters = {"type": "object", "properties": properties}
    if properties and rng.random() < 0.7:
        parameters["required"] = list(properties)[:1]
    function = {"name": name, "description": rng.choice(["Looks it up & <answers>", "Sucht \"nach\" Ä"]), "parameters": parameters}
    return {"type": "function", "function": function}


def calls(rng, names):
    count = rng.choice([1, 1, 1, 2])
    return [
        {
            "id": "".join(rng.choice(LETTERS) for _ in range(9)),
            "type": "function",
            "function": {"name": rng.choice(names), "arguments": rng.choice(ARGUMENTS)},
        }
        for _ in range(count)
    ]


def answer(rng, reasons):
    message = {"role": "assistant", "content": rng.choice(TEXTS)}
    if reasons and rng.random() < 0.7:
        thought = rng.choice(THOUGHTS)
        if rng.random() < 0.7:
            message["reasoning_content"] = thought
        else:
            message["content"] = f"<think>\n{thought}\n</think>\n\n{message['content']}"
    return message


def chat(rng):
    names = rng.sample(NAMES, rng.randrange(1, 4))
    tools = [tool(rng, name) for name in names] if rng.random() < 0.45 else None
    reasons = rng.random() < 0.5
    messages = [{"role": "system", "content": rng.choice(TEXTS)}] if rng.random() < 0.5 else []
    for _ in range(rng.choice([1, 1, 2, 3])):
        messages.append({"role": "user", "content": rng.choice(TEXTS)})
        if tools and rng.random() < 0.6:
            called = answer(rng, reasons) | {"tool_calls": calls(rng, names)}
            if rng.random() < 0.6:
                called["content"] = rng.choice(["", None])
            messages.append(called)
            for call in called["tool_calls"]:
                result = {"role": "tool", "name": call["function"]["name"], "tool_call_id": call["id"]}
                messages.append(result | {"content": rng.choice(TEXTS)})
        messages.append(answer(rng, reasons))
    asked = rng.random() < 0.3
    if asked:
        messages.pop()
    variables = rng.choice([{}, {}, {"enable_thinking": True}, {"enable_thinking": False}])
    return {"messages": messages, "tools": tools, "add_generation_prompt": asked, "variables": variables}


def chats(count, seed=1):
    """Each as JSON, since its numbers have a form that other languages lose."""
    rng = random.Random(seed)
    return [json.dumps(chat(rng), ensure_ascii=False) for _ in range(count)]
