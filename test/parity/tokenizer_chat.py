"""Makes tokenizer_chat.json: texts that transformers renders from chat templates of the usual kinds, which of their
characters its `{% generation %}` tracing marks, and the masks of tokens that it makes of them for a tokenizer of
tokenizer_small.json.

    pip install transformers==5.24.0 jinja2==3.1.6
    python test/parity/tokenizer_chat.py
"""

import json
from pathlib import Path

import jinja2
import transformers
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).resolve().parent

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful assistant.<|im_end|>
' }}{% endif %}{{ '<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""

CHATML_MARKED = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}
    {%- else %}
        {{- message.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA3 = """{% set ns = namespace(out=bos_token) %}{% for message in messages %}{% set part = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}{% set ns.out = ns.out + part %}{% endfor %}{{ ns.out }}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

LLAMA3_ALWAYS_OPEN = """{% for message in messages %}{% set part = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set part = bos_token + part %}{% endif %}{{ part }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"""

LLAMA32 = """{{- bos_token }}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Today: " + date_string + "\\n\\n" }}
{%- if tools is not none %}
    {{- "Functions in JSON:\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception("one tool call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
        {{- '{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set system_message = false %}{% endif %}{% for message in rest %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

MISTRAL = """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"""

ZEPHYR = """{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""

SPEAKERS = """{%- macro speaker(role) -%}
    {%- if role == 'user' -%} User {%- elif role == 'assistant' -%} Assistant {%- else -%} {{ role | upper }} {%- endif -%}
{%- endmacro -%}
{%- for message in messages if message.role != 'note' -%}
    {{ speaker(message.role) }}: {{ message.content.strip() }}
    {%- if message.role == 'assistant' %}{{ eos_token }}{% endif %}
    {{- '\\n' if not loop.last }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '\\n' }}Assistant:{% endif -%}
"""

# White space on every side of the markers, with and without dashes.
MARKED_SPACES = """{% for m in messages -%}
  [{{ m.role }}]
  {% if m.role == 'assistant' -%}
    {%- generation -%}
      {{ m.content }}<end>
    {%- endgeneration %}
  {% else %}
    {{ m.content }}
  {%- endif -%}
{% endfor %}
{% generation %}

tail {% endgeneration %}

after"""

TEMPLATES = {
    "chatml": (CHATML, "<|im_start|>", "<|im_end|>"),
    "chatml_marked": (CHATML_MARKED, "<|im_start|>", "<|im_end|>"),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "llama3_always_open": (LLAMA3_ALWAYS_OPEN, "<|begin_of_text|>", "<|eot_id|>"),
    "llama32": (LLAMA32, "<|begin_of_text|>", "<|eot_id|>"),
    "llama2": (LLAMA2, "<s>", "</s>"),
    "mistral": (MISTRAL, "<s>", "</s>"),
    "zephyr": (ZEPHYR, "<s>", "</s>"),
    "speakers": (SPEAKERS, "<s>", "</s>"),
    "marked_spaces": (MARKED_SPACES, "<s>", "</s>"),
}

USER = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "It is 4."}
CHATS = {
    "question": [USER],
    "single": [USER, ANSWER],
    "system": [{"role": "system", "content": "Be brief. "}, USER, ANSWER],
    "turns": [
        USER,
        ANSWER,
        {"role": "user", "content": "  And <b>\u00e9</b> & \u4f60\u597d?\n"},
        {"role": "assistant", "content": "\nLine one\n\n  line two  "},
        {"role": "user", "content": "Thanks \U0001f389"},
        {"role": "assistant", "content": ""},
    ],
}

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
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"city": "Z\u00fcrich", "days": 2, "x": [True, None]}}}
    ],
}
TOOL_CHAT = [USER, CALL, {"role": "tool", "content": '{"t": 3}'}, {"role": "tool", "content": {"t": [1, "a"]}}, ANSWER]

DATE = "24 Nov 2025"


def render(name: str, messages, add_generation_prompt: bool, tools=None):
    template, bos, eos = TEMPLATES[name]
    traced = "{% generation" in template or "{%- generation" in template
    case = {"template": name, "messages": messages, "add_generation_prompt": add_generation_prompt, "tools": tools}
    try:
        texts, spans = render_jinja_template(
            [messages],
            tools=tools,
            chat_template=template,
            add_generation_prompt=add_generation_prompt,
            return_assistant_tokens_mask=traced,
            bos_token=bos,
            eos_token=eos,
            date_string=DATE,
        )
    except jinja2.exceptions.TemplateError as error:
        return case | {"error": str(error)}
    return case | {"text": texts[0], "spans": spans[0] if traced else None}


def masks(name: str):
    """Ids and assistant masks of every chat by the `smollm` tokenizer with this template."""
    template, bos, eos = TEMPLATES[name]
    small = json.loads((HERE / "tokenizer_small.json").read_text())["tokenizers"]["smollm"]["tokenizer"]
    tok = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(small)), bos_token=bos, eos_token=eos, chat_template=template
    )
    found = []
    for messages in CHATS.values():
        encoded = tok.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
        mask = encoded.get("assistant_masks", encoded.get("assistant_mask"))
        found.append({"template": name, "messages": messages, "ids": encoded["input_ids"], "mask": mask})
    return found


def main():
    cases = []
    for name in TEMPLATES:
        for messages in CHATS.values():
            for prompt in (False, True):
                cases.append(render(name, messages, prompt))
    cases.append(render("llama32", TOOL_CHAT, True, [TOOL]))
    value = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "date_string": DATE,
        "templates": {n: {"text": t, "bos_token": b, "eos_token": e} for n, (t, b, e) in TEMPLATES.items()},
        "cases": cases,
        "masks": masks("chatml_marked"),
    }
    (HERE / "tokenizer_chat.json").write_text(json.dumps(value, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
