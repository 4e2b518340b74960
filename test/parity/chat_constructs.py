"""Makes chat_constructs.json: random chats as `apply_chat_template` of transformers renders them from the templates in
chat-constructs/, and what Jinja makes of expressions, each alone in a template of the same kind.

    pip install transformers==5.24.0 jinja2==3.1.6
    python test/parity/chat_constructs.py
"""

import json
from pathlib import Path

import jinja2
import transformers
from random_chats import chats
from real_chat_templates import NOW, TOKENS, renderer

HERE = Path(__file__).resolve().parent
COUNT = 16

VARIABLES = {
    "text": "  Größe: it's\n\tok 🎉 ",
    "words": ["b", "A", "c", "a"],
    "numbers": [3, 1, 2.5, 2],
    "items": [{"k": "x", "n": 2}, {"k": "y", "n": 1}, {"k": "X", "n": 2}],
    "nested": {"b": {"c": [1, {"d": "e"}]}, "a": None, "items": "key"},
    "nothing": None,
    "yes": True,
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2 ¦ 7 // 2 ¦ -7 // 2 ¦ -7 % 3 ¦ 7 % -3 ¦ 7.5 // 2 ¦ 2 ** 10 ¦ 2 ** -1 ¦ 10 ** 20 ¦ 9007199254740991 + 2
1 / 0 ¦ 1 % 0 ¦ true + 1 ¦ 'a' * 3 ¦ [1] * 2 ¦ 3 * 'ab' ¦ 'a' + 1 ¦ 'a' ~ 1 ~ none ~ true ¦ [1] + [2.0] ¦ (1, 2) + (3, 4) ¦ [1] + (2, 3)
none + 1 ¦ -yes ¦ not text ¦ 1 == 1.0 ¦ true == 1 ¦ [1, 2] == [1, 2] ¦ (1, 2) == [1, 2] ¦ {'a': 1} == {'a': 1.0} ¦ '1' == 1 ¦ none == false
1 < 2 ¦ 'a' < 'b' ¦ '😀' < '\uffee' ¦ [1, 2] < [1, 3] ¦ 1 < 'a' ¦ none < 1 ¦ 'a' in text ¦ 'k' in items[0] ¦ 1 in [1.0] ¦ [1] in [[1]] ¦ 1 in 'a' ¦ 'a' in none
'a' in missing ¦ 'a' not in missing ¦ missing == missing ¦ missing ¦ missing.x ¦ missing + 'a' ¦ missing ~ 'a' ¦ missing | length ¦ missing | list ¦ missing()
missing is defined ¦ nested.x is defined ¦ nested.x.y is defined ¦ nested['items'] ¦ nested.b.c[1].d ¦ nested['b']['c'][-1]['d'] ¦ nested.b.c[9] is undefined
text[2] ¦ text[-2] ¦ text[99] is defined ¦ text[2:5] ¦ text[::-1] ¦ text[-3:] ¦ text[:-2:2] ¦ numbers[1:] ¦ numbers[::-2] ¦ numbers[5:] ¦ numbers[none:2] ¦ none[0]
text | length ¦ text | upper ¦ text | lower ¦ text | title ¦ text | capitalize ¦ text | trim ¦ text | trim(' \n') ¦ 'xxaxx' | trim('x') ¦ text | reverse ¦ text | wordcount
text.strip() ¦ text.lstrip() ¦ text.rstrip() ¦ 'xyaxy'.strip('yx') ¦ 'xyaxy'.lstrip('x') ¦ '🎉a🎉🎉'.strip('🎉') ¦ '🎉'.strip() ¦ '🎉🎉'.rstrip('🎉') ¦ ' 🎉 '.rstrip() ¦ '🎉é🎉' | length ¦ '\n\n a\n'.lstrip('\n') ¦ '\ufeffa\u3000'.strip() ¦ '\x1ca\x85'.strip()
text.split() ¦ 'a,b,,c'.split(',') ¦ 'a,b,c'.split(',', 1) ¦ ' a  b c '.split(none, 1) ¦ 'a,b,c'.rsplit(',', 1) ¦ ' a b  c '.rsplit(none, 1) ¦ 'a'.split('') ¦ 'a,b'.split(sep=',') ¦ 'a b'.split(maxsplit=1)
'a\r\nb\nc\u2028d\x0be'.splitlines() ¦ 'a\n\nb\n'.splitlines(true) ¦ 'a-b-c'.partition('-') ¦ 'a-b-c'.rpartition('-') ¦ 'abc'.partition('-') ¦ 'abc'.startswith('a') ¦ 'abc'.startswith(('x', 'ab')) ¦ 'abc'.endswith('c')
'aaa'.replace('a', 'b', 2) ¦ 'abc'.replace('', '-') ¦ 'aXb' | replace('X', 1) ¦ 'aaa' | replace('a', 'b', 1) ¦ 'abcabc'.find('c') ¦ 'abcabc'.rfind('c') ¦ '🎉c'.find('c') ¦ 'abc'.index('z') ¦ 'abab'.count('ab') ¦ '-'.join(words) ¦ '-'.join(numbers)
'Abc dEf'.title() ¦ "it's".title() ¦ 'aBC'.capitalize() ¦ 'ß'.upper() ¦ 'İ'.lower() ¦ '12'.isdigit() ¦ 'ab1'.isalnum() ¦ 'ab'.isalpha() ¦ ' \n'.isspace() ¦ ''.isspace() ¦ 'Ab'.islower() ¦ 'AB1'.isupper() ¦ 'abc'.removeprefix('a') ¦ 'abc'.removesuffix('c') ¦ '7'.rjust(3, '0') ¦ '7'.ljust(3)
'{} {}'.format(1, 'a') ¦ '{1}{0}'.format('a', 'b') ¦ '{a!r} {{}}'.format(a='x') ¦ '{}'.format() ¦ '%s and %d%%' % ('a', 2.7) ¦ '%s' % none ¦ '%(k)s' % items[0] ¦ '%s' | format('x') ¦ '%s %s' % 'a' ¦ '%r' % 'a'
numbers | sort ¦ numbers | sort(reverse=true) ¦ words | sort ¦ words | sort(case_sensitive=true) ¦ items | sort(attribute='n') ¦ items | map(attribute='k') | join('+') ¦ items | map(attribute='z', default='-') | list ¦ words | map('upper') | list ¦ words | map('replace', 'a', 'z') | list
numbers | min ¦ numbers | max ¦ words | min ¦ items | max(attribute='n') ¦ [] | min ¦ numbers | sum ¦ items | sum(attribute='n') ¦ numbers | first ¦ numbers | last ¦ [] | first ¦ [] | last | default('none') ¦ words | unique | list ¦ items | map(attribute='k') | unique | join
numbers | select('odd') | list ¦ [1, 2, 3, 4] | select('odd') | list ¦ [1, 2, 3, 4] | reject('divisibleby', 2) | list ¦ [0, 1, '', 'a', none] | select | list ¦ items | selectattr('n', 'gt', 1) | list ¦ items | selectattr('k', 'equalto', 'y') | list | length ¦ items | rejectattr('n', '==', 2) | list ¦ items | selectattr('z') | list ¦ items | selectattr('z', 'defined') | list
none | selectattr('a') | list ¦ none | map(attribute='a') | list ¦ none | length ¦ none | list ¦ none | upper ¦ none | trim ¦ none | default('d') ¦ none | default('d', true) ¦ missing | default('d') ¦ missing | d ¦ '' | default('d', boolean=true) ¦ none | string ¦ none | join
numbers | join(', ') ¦ items | join('; ', attribute='k') ¦ 'abc' | join('-') ¦ nested | length ¦ nested | list ¦ nested | items | list ¦ nested.items() | list ¦ nested.keys() | list ¦ nested.values() | list ¦ nested.get('a', 1) ¦ nested.get('z') ¦ nested.get('z', 1) ¦ nested | dictsort ¦ {'B': 1, 'a': 2} | dictsort ¦ {'B': 1, 'a': 2} | dictsort(true) ¦ {'b': 1, 'a': 2} | dictsort(by='value', reverse=true)
'3' | int ¦ '3.7' | int ¦ 'x' | int ¦ 'x' | int(7) ¦ 'ff' | int(base=16) ¦ 3.9 | int ¦ -3.9 | int ¦ none | int ¦ '1.5' | float ¦ 'x' | float ¦ 2 | float ¦ true | int ¦ ' 5 ' | int ¦ '1_000' | int ¦ 2.5 | round ¦ 3.14159 | round(2) ¦ 2.1 | round(method='ceil') ¦ -3 | abs ¦ -2.5 | abs
text | indent ¦ 'a\nb\n\nc' | indent(2) ¦ 'a\nb\n\nc' | indent(2, true, true) ¦ 'a\nb' | indent('> ') ¦ 'a\nb' | indent(width=2, first=true) ¦ nested | tojson ¦ nested | tojson(indent=2) ¦ items | tojson(separators=(',', ':')) ¦ '<é>' | tojson ¦ '<é>' | tojson(ensure_ascii=true) ¦ {'b': 1, 'a': {}} | tojson(sort_keys=true) ¦ missing | tojson ¦ {1: 2} | tojson ¦ (1, 2) | tojson
yes is boolean ¦ 1 is boolean ¦ 1 is number ¦ true is number ¦ true is integer ¦ 1 is integer ¦ 1.0 is integer ¦ 1.0 is float ¦ 'a' is string ¦ {} is mapping ¦ [] is sequence ¦ 'a' is sequence ¦ {} is sequence ¦ 1 is sequence ¦ none is sequence ¦ missing is sequence ¦ [] is iterable ¦ 1 is iterable ¦ missing is iterable ¦ none is none ¦ true is true ¦ 1 is true ¦ false is false ¦ 'a' is lower ¦ 'A1' is upper ¦ 3 is odd ¦ 4 is even ¦ range is callable
4 is divisibleby 2 ¦ 4 is divisibleby(3) ¦ 1 is eq 1 ¦ 1 is not eq 1 ¦ 2 is gt 1 ¦ 'a' is in ['a'] ¦ 'a' is not in ['a'] ¦ 'a' is in words and true ¦ none is sameas none ¦ 1 is ne(2) ¦ 3 is in numbers[1:] ¦ 5 is lt numbers[0] or false ¦ not 1 is eq 2
'a' if true else 'b' ¦ 'a' if false ¦ ('a' if false) is defined ¦ 1 if 0 else 2 if 0 else 3 ¦ true and 'x' ¦ 0 or 'y' ¦ '' or none ¦ not none ¦ not not 1 ¦ 1.0 ¦ 0.00000015 ¦ 'it''s' ¦ 'a' 'b' ¦ "q\"q" ¦ '\u00e9' ¦ '\x41' ¦ [1, 'a', none, true, 2.0] ¦ (1, 'a') ¦ {'a': [1], 2: 'b'} ¦ {} ¦ [[]]
(3, 1) | sort ¦ ('b', 'a') | map('upper') | list ¦ [none] | last ¦ [none] | first ¦ (1, 2) | reverse | list ¦ (1, 2)[1:] ¦ [1, 1] | unique | list ¦ 'aé🎉' | list ¦ '🎉' | length ¦ 'x'[5:] ¦ {'a': none}.a ¦ {'a': none}.b is defined ¦ [[1, 2], [3, 4]] | map('first') | list ¦ [[1, 2], [3]] | map('join', '-') | join(';') ¦ ['a', 'b'] | map('tojson') | join(' | ') ¦ range(3) | list ¦ range(1, 7, 2) | list ¦ range(3, 0, -1) | list ¦ dict(a=1, b='x') ¦ dict({'a': 1}, b=2) ¦ dict([['a', 1]]) ¦ namespace(a=1).a ¦ words.index('c') ¦ words.count('a') ¦ words.append('x') ¦ nested.update({}) ¦ nested.pop('a') ¦ words | nonsense ¦ words is nonsense ¦ nonsense(1) ¦ words.nonsense() ¦ (words | map('upper')) | length ¦ '<' + 'a&b' | safe ¦ ('<' | safe) ~ '&' ¦ ('a' | safe) + '<' ¦ ('a' | safe | upper) + '<'
"""


def main():
    rows = chats(COUNT, seed=2)
    templates = {}
    for path in sorted((HERE / "chat-constructs").glob("*.jinja")):
        render = renderer(path.read_bytes().decode())
        templates[path.name] = [render(json.loads(row)) for row in rows]
    expressions = [part.strip() for line in EXPRESSIONS.strip().splitlines() for part in line.split("¦")]
    asked = {"messages": [{"role": "user", "content": ""}], "tools": None, "add_generation_prompt": False}
    value = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "now": NOW.isoformat(),
        "special_tokens": TOKENS,
        "chats": rows,
        "templates": templates,
        "variables": json.dumps(VARIABLES),
        "expressions": [
            [text, renderer("{{ " + text + " }}")(asked | {"variables": VARIABLES})] for text in expressions
        ],
    }
    (HERE / "chat_constructs.json").write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    main()
