"""Texts that follow JSON schemas, by llguidance: grammar.json. Needs requirements-grammar.txt only.

    pip install -r test/parity/requirements-grammar.txt && python test/parity/make_grammar.py

Schemas are written by hand at the edges of the strict subset, or drawn. Texts are drawn byte by byte from those that
llguidance allows; before each byte, and at the end, all bytes that could come next are recorded, and END where the text is
whole. As in lowrank, one space may stand after `:` and `,`, and none elsewhere.
"""

import json
import random
from importlib.metadata import version
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

OUT = Path(__file__).resolve().parent / "grammar.json"
END = 256
TOKENIZER = LLTokenizer("byte")
SPACES = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
DRAWN = 60
TEXTS = 4
LONGEST = 90
CLOSING = {*b'"]}', END}


def closed(properties, required=None):
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


LEAVES = [
    {"type": "null"},
    {"type": "boolean"},
    {"type": "string"},
    {"type": "string", "maxLength": 3},
    {"type": "string", "minLength": 2, "maxLength": 5},
    {"type": "string", "minLength": 3},
    {"type": "string", "maxLength": 0},
    {"type": "integer"},
    {"type": "integer", "minimum": 0},
    {"type": "integer", "minimum": 2024, "maximum": 2040},
    {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 105},
    {"type": "integer", "maximum": -7, "minimum": -1234},
    {"type": "integer", "minimum": 0, "maximum": 100, "multipleOf": 7},
    {"type": "number"},
    {"type": "number", "minimum": 0.5, "maximum": 2.25},
    {"type": "number", "exclusiveMinimum": -1.5, "maximum": 10},
    {"type": "number", "minimum": -0.03, "exclusiveMaximum": 99.95},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"type": "string", "pattern": "^[A-Z][a-z]{2,6}$"},
    {"type": "string", "pattern": "^(a|bc)*$"},
    {"type": "string", "pattern": "^[a-c]+-\\d{2,3}$", "maxLength": 6},
    {"type": "string", "pattern": "^\\w\\s[^x]{2}$"},
    {"type": "string", "pattern": "^(ab?c|[éü]{1,2}|€)$"},
    {"type": "string", "pattern": "b+"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "ipv4"},
    {"enum": ["red", "green", 3, -1.5, None, True]},
    {"enum": ['say "no"', "back\\slash", "naïve", "a\nb", "re", "red"]},
    {"const": "fixed"},
    {"const": {"a": [1, "b"]}},
    {"type": ["boolean", "null"]},
    {"type": ["string", "integer"], "maxLength": 2, "maximum": 9},
    {"anyOf": [{"type": "string", "maxLength": 1}, {"type": "integer"}, {"type": "null"}]},
    {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "integer", "minimum": 5, "maximum": 120}]},
]

BY_HAND = LEAVES + [
    closed({}),
    closed({"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"const": 1}}),
    closed({"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"const": 1}}, []),
    closed({"a": {"type": "null"}, "b": {"type": "boolean"}, "c": {"const": 1}}, ["b"]),
    closed({"a": {"type": "null"}, "ab": {"type": "null"}, 'a"b': {"type": "null"}, "ä/~": {"type": "null"}}, ["ab"]),
    {"type": "array", "items": {"type": "null"}},
    {"type": "array", "items": {"type": "integer", "maximum": 9, "minimum": 0}, "minItems": 1, "maxItems": 3},
    {"type": "array", "items": {"type": "null"}, "minItems": 2},
    {"type": "array", "items": {"type": "null"}, "maxItems": 0},
    {"type": "array", "items": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}, "maxItems": 2},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "array"},
    {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": closed({
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            })
        },
    },
    closed({"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}),
]


def drawn(rng, depth=0):
    """A schema of the strict subset, at most three deep."""
    kind = rng.choice(["leaf", "leaf", "object", "object", "array", "anyOf"] if depth < 3 else ["leaf"])
    if depth == 0 or kind == "object":
        names = rng.sample(["id", "name", "note", "nested", "n", "née", "a b", "x-y"], rng.randint(1, 4))
        properties = {name: drawn(rng, depth + 1) for name in names}
        return closed(properties, [name for name in names if rng.random() < 0.7])
    if kind == "array":
        least = rng.choice([0, 0, 1, 2])
        return {
            "type": "array",
            "items": drawn(rng, depth + 1),
            "minItems": least,
            "maxItems": least + rng.randint(0, 2),
        }
    if kind == "anyOf":
        return {"anyOf": [drawn(rng, depth + 1), {"type": "null"}]}
    return rng.choice(LEAVES)


def next_bytes(matcher):
    """The bytes that may come next; END where the text may end."""
    bias = matcher.compute_logit_bias()
    return [byte for byte in range(256) if bias[byte]] + [END] * matcher.is_accepting()


def ranges(values):
    """Ascending values as the first and the last one of each run."""
    runs = []
    for value in values:
        if runs and runs[-1][1] == value - 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return sum(runs, [])


def choice(rng, allowed, length):
    """The next byte of a text, one that closes something more often the longer the text is."""
    closing = [byte for byte in allowed if byte in CLOSING]
    if closing and rng.random() < length / LONGEST:
        return rng.choice(closing)
    plain = [byte for byte in allowed if byte < 128]
    # Most strings would be of other bytes than ASCII.
    return rng.choice(plain if plain and rng.random() < 0.8 else allowed)


def text_of(rng, grammar, sets):
    matcher = LLMatcher(TOKENIZER, grammar)
    assert not matcher.is_error(), matcher.get_error()
    text, seen = [], []
    while len(text) < LONGEST:
        allowed = next_bytes(matcher)
        key = tuple(ranges(allowed))
        seen.append(sets.setdefault(key, len(sets)))
        byte = choice(rng, allowed, len(text))
        if byte == END:
            break
        text.append(byte)
        assert matcher.consume_token(byte)
    return {"bytes": bytes(text).hex(), "next": seen}


def main():
    rng = random.Random(1)
    schemas = BY_HAND + [drawn(rng) for _ in range(DRAWN)]
    sets = {}
    cases = []
    for schema in schemas:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=SPACES)
        cases.append({"schema": schema, "texts": [text_of(rng, grammar, sets) for _ in range(TEXTS)]})
    lines = [json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases]
    head = {"made_by": f"llguidance {version('llguidance')}", "sets": [list(key) for key in sets]}
    opening = json.dumps(head, separators=(",", ":"))[:-1]
    OUT.write_text(opening + ',"cases":[\n' + ",\n".join(lines) + "\n]}\n")


main()
