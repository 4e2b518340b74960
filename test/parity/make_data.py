"""Data files as Python programs write them: Parquet by pyarrow in several codecs and encodings, CSV by csv and pandas' rules."""

import csv
import json
import os
import shutil

import pyarrow as pa
import pyarrow.parquet as pq

from common import ROOT

FOLDER = os.path.join(ROOT, "data")

MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string()), ("weight", pa.int64())])
CALL = pa.struct([("type", pa.string()), ("function", pa.struct([("name", pa.string()), ("arguments", pa.string())]))])

TEXTS = ["plain", "", "zwei\nZeilen", "tab\there", 'a "quoted", one', "ünïcödé 你好 🎉", " spaces ", "x" * 300]


def chats() -> list[dict]:
    """Lists of structs, with fields that most messages leave empty, a row without a system message, and an empty list of tools."""
    rows = []
    for i, text in enumerate(TEXTS * 3):
        messages = [
            {"role": "user", "content": f"{i}: {text}", "weight": None},
            {"role": "assistant", "content": text or "nothing", "weight": i % 2 if i % 3 == 0 else None},
        ]
        if i % 4 == 0:
            messages.insert(0, {"role": "system", "content": "Be brief.", "weight": None})
        rows.append({"id": 2**40 + i, "messages": messages, "score": None if i % 5 == 0 else i / 4, "topic": f"t{i % 3}"})
    return rows


def tools() -> list[dict]:
    """Two tools whose schemas and arguments have other keys, so that Parquet pads each with nulls."""

    def row(name: str, properties: dict, arguments: dict) -> dict:
        function = {"name": name, "parameters": {"type": "object", "properties": properties}}
        call = {"type": "function", "function": {"name": name, "arguments": arguments}}
        return {
            "messages": [{"role": "user", "content": name}, {"role": "assistant", "content": "", "tool_calls": [call]}],
            "tools": [{"type": "function", "function": function}],
        }

    return [
        row("weather", {"city": {"type": "string", "enum": ["Oslo", "Rome"]}}, {"city": "Oslo"}),
        row("add", {"a": {"type": "integer"}, "b": {"type": "integer"}}, {"a": 1, "b": 2}),
    ]


def pairs() -> list[dict]:
    return [{"prompt": f"{i}: {text}", "completion": text[::-1] or "-", "label": i % 2} for i, text in enumerate(TEXTS * 5)]


def write(name: str, rows: list[dict], schema: pa.Schema | None = None, **options) -> None:
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, os.path.join(FOLDER, name), **options)


def parquet() -> None:
    schema = pa.schema(
        [("id", pa.int64()), ("messages", pa.list_(MESSAGE)), ("score", pa.float64()), ("topic", pa.dictionary(pa.int8(), pa.string()))]
    )
    for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
        write(f"chats.{codec}.parquet", chats(), schema, compression=codec, row_group_size=10)
    write("pairs.plain.parquet", pairs(), use_dictionary=False, compression="none")
    write("pairs.dictionary.parquet", pairs(), use_dictionary=True, compression="snappy", data_page_size=256)
    write("pairs.v2.parquet", pairs(), data_page_version="2.0", version="2.6", compression="zstd", row_group_size=7)
    encodings = {"prompt": "DELTA_BYTE_ARRAY", "completion": "DELTA_LENGTH_BYTE_ARRAY", "label": "DELTA_BINARY_PACKED"}
    write("pairs.delta.parquet", pairs(), use_dictionary=False, column_encoding=encodings, compression="gzip")
    required = pa.schema([pa.field("prompt", pa.large_string(), nullable=False), pa.field("completion", pa.string(), nullable=False)])
    write("pairs.required.parquet", [{k: row[k] for k in ["prompt", "completion"]} for row in pairs()], required)
    calls = [
        {
            "messages": [
                {"role": "user", "content": "add", "tool_calls": None},
                {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]},
            ]
        },
        {"messages": [{"role": "user", "content": "b", "tool_calls": []}, {"role": "assistant", "content": "c", "tool_calls": None}]},
    ]
    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("tool_calls", pa.list_(CALL))])
    write("calls.parquet", calls, pa.schema([("messages", pa.list_(message))]))
    write("tools.parquet", tools())
    write("empty.parquet", [], pa.schema([("text", pa.string())]))


def tables() -> None:
    names = ["prompt", "completion", "label"]
    dialects = {
        "pairs.csv": {"lineterminator": "\r\n"},
        "pairs.unix.csv": {"lineterminator": "\n", "quoting": csv.QUOTE_ALL},
        "pairs.semicolon.csv": {"delimiter": ";", "lineterminator": "\r\n"},
        "pairs.tsv": {"delimiter": "\t", "lineterminator": "\n"},
    }
    for name, dialect in dialects.items():
        encoding = "utf-8-sig" if "semicolon" in name else "utf-8"
        with open(os.path.join(FOLDER, name), "w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, names, **dialect)
            writer.writeheader()
            writer.writerows(pairs())


def make() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    parquet()
    tables()
    with open(os.path.join(FOLDER, "rows.json"), "w", encoding="utf-8") as file:
        json.dump({"chats": chats(), "pairs": pairs(), "tools": tools()}, file, ensure_ascii=False, indent=1)


if __name__ == "__main__":
    make()
