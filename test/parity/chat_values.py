"""Rows of chats whose tool calls and schemas have values that other languages read differently from Python: floats
without a fraction, large integers, and keys that look like integers. Rows are text, since parsing them is the point."""

import json
import random

ARGUMENTS = (
    '{"b": true, "n": null, "f": 1.0, "2": "x", "1": "y", "l": [1, 2.5], "o": {"z": 1}, "i": 12345678901234567890, '
    '"m": [-9007199254740993, 1e2, -0.0, 1E-5, 1e16, 0.10, 12345678901234567.5, {"10": 2.00, "9": [], "s": {}}]}'
)
TOOL = (
    '{"type": "function", "function": {"name": "weather", "description": "Today\'s weather", "parameters": '
    '{"type": "object", "properties": {"2": {"type": "number", "minimum": -1.0, "maximum": 1e3, "default": null}, '
    '"1": {"type": "integer", "enum": [3, 2, 9007199254740993], "strict": false}}, "required": ["2"]}}}'
)


def row(arguments, tools):
    call = f'{{"type": "function", "function": {{"name": "weather", "arguments": {arguments}}}}}'
    return (
        '{"messages": [{"role": "user", "content": "Which weather?"}, '
        f'{{"role": "assistant", "content": "", "tool_calls": [{call}]}}], "tools": {tools}}}'
    )


ROWS = {
    "values": row(ARGUMENTS, f"[{TOOL}]"),
    "values in strings": row(json.dumps(ARGUMENTS), json.dumps(f"[{TOOL}]")),
}


def parsed(text):
    """Messages and tools of a row, with strings of JSON parsed."""
    value = json.loads(text)
    for message in value["messages"]:
        for call in message.get("tool_calls", []):
            given = call["function"]["arguments"]
            call["function"]["arguments"] = json.loads(given) if isinstance(given, str) else given
    tools = value["tools"]
    return value["messages"], json.loads(tools) if isinstance(tools, str) else tools


# A value in every way in which a template can write it.
WRITTEN = """{%- set given = messages[1].tool_calls[0].function.arguments %}
{{- given }}
{{ given | string }} {{ given ~ '' }}
{{ given | tojson }}
{{ given | tojson(indent=2) }}
{{ given | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}
{{ tools | tojson(indent=4) }}
{% for key, value in given | items %}{{ key }}={{ value }}={{ value | string }}={{ value | tojson }}={{ value is mapping }}
{% endfor %}
{%- for key in given %}{{ key }} {% endfor %}
{%- for key, value in given.items() %}{{ key ~ value }} {% endfor %}
{{ given.f }} {{ given['f'] + 1 }} {{ given['i'] }} {{ given.f == 1 }} {{ given.m[1] }} {{ given.n }} {{ given.b }} {{ given['none'] }}
{{ given.l | join(', ') }} {{ [true, none, 1.0, 'a', [2.0]] | join('-') }} {{ 'abc' | join(',') }} {{ given | join }}
{{ 1.0 }} {{ true }} {{ none }} {{ 3 / 2 }} {{ 4 / 2 }} {{ 2.0 | tojson }}"""


def numbers():
    """Numbers as JSON may have them, with what Python writes for them as JSON and as text."""
    rng = random.Random(7)
    texts = ["0", "-0", "-0.0", "1.0", "1e0", "1E+2", "-1.50", "1e-4", "9.9e-5", "1e15", "1e16", "123456789012345680.0"]
    texts += ["9007199254740991", "9007199254740992", "-9007199254740993", "1" + "0" * 40, "1e22", "1e400", "-1e400", "5e-324"]
    texts += [repr(rng.uniform(-1, 1) * 10 ** rng.randrange(-20, 25)) for _ in range(40)]
    texts += [f"{rng.randrange(1, 10**6)}e{rng.randrange(-12, 20)}" for _ in range(40)]
    texts += [str(rng.randrange(-(10 ** rng.randrange(1, 30)), 10**20)) for _ in range(20)]
    return [[text, json.dumps(json.loads(text)), str(json.loads(text))] for text in texts]
