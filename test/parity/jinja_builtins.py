"""Makes jinja_builtins.json: what Jinja makes of every builtin filter and test, of operators, and of methods, on values of
each kind. A result is kept as the first 4 hexadecimal digits of its SHA-256, and "----" where Jinja fails.

    pip install transformers==5.24.0 jinja2==3.1.6
    python test/parity/jinja_builtins.py
"""

import copy
import hashlib
import json
from pathlib import Path

import jinja2
import transformers
from chat_constructs import VARIABLES
from jinja2.defaults import DEFAULT_FILTERS, DEFAULT_TESTS
from real_chat_templates import TOKENS, renderer

HERE = Path(__file__).resolve().parent

VALUES = [
    "text", "words", "numbers", "items", "nested", "nothing", "yes", "missing", "''", "'a'", "'B'", "'a b  c'",
    "'<b>&amp;\"x\"</b>'", "'one\\ntwo\\n\\nthree\\n'", "'ÀÉîß ǆ'", "'12'", "'-3.5e2'", "' 7 '", "'0x1f'", "'inf'",
    "'İstanbul ΣΑΣ'", "0", "1", "3.0", "-0.0", "2.675", "0.5", "1.5", "2.5", "false", "[]", "{}", "(1,'b',none)",
    "[3,1,2,1]", "['b','A','a','B']", "[1,'a']", "[none,1]", "[[1,2],[0,5]]", "{'b':1,'A':2,'a':3}", "{1:'x',2:'y'}",
    "range(4)", "items[0].items()", "[true,false,1,0]", "[1.0,1]", "['x',['y',['z']]]",
]

# Arguments of filters; those of a filter that is not listed are none.
ARGUMENTS = {
    "attr": ["('k')", "('strip')", "('items')"],
    "batch": ["(2)", "(3,'-')", "(linecount=2, fill_with=0)"],
    "slice": ["(2)", "(3,'-')"],
    "center": ["", "(10)", "(width=5)"],
    "default": ["('x')", "('x',true)", "(default_value='q',boolean=true)"],
    "d": ["('x')", "('x',true)"],
    "dictsort": ["", "(true)", "(by='value')", "(reverse=true)", "(false,'value',true)"],
    "filesizeformat": ["", "(true)"],
    "float": ["", "(1)", "(default=2.5)"],
    "int": ["", "(5)", "(0,16)", "(0,2)", "(0,8)", "(base=0)", "(default=none)"],
    "format": ["(1)", "('a')", "(1,'b')"],
    "groupby": ["('k')", "('n')", "(attribute='k')", "('n',default=0)", "('k',case_sensitive=true)"],
    "indent": ["", "(2)", "(2,true)", "(2,false,true)", "(first=true,blank=true)", "('--')"],
    "join": ["", "(', ')", "(', ','k')", "(attribute='k')", "('-',attribute='a.b')"],
    "map": ["('upper')", "('length')", "(attribute='k')", "('int')", "('default','x')", "(attribute='a.b')", "('round',1)", "('join','-')", "('string')", "(attribute=0)", "('trim')", "('replace','a','b')", "('abs')", "()"],
    "max": ["", "(true)", "(attribute='n')"],
    "min": ["", "(true)", "(attribute='n')"],
    "reject": ["", "('odd')", "('string')", "('none')", "('eq',1)", "('in',[1,2])", "('defined')"],
    "select": ["", "('odd')", "('string')", "('none')", "('eq',1)", "('in',[1,2])", "('defined')", "('lower')", "('divisibleby',2)", "('gt',1)", "('mapping')"],
    "rejectattr": ["('k')", "('n','eq',2)", "('k','in',['x'])", "('z','defined')", "('a.b')"],
    "selectattr": ["('k')", "('n','eq',2)", "('k','in',['x'])", "('z','defined')", "('a.b')", "('a.b','eq',1)"],
    "replace": ["('a','b')", "('','-')", "('a','b',1)", "('a','b',count=1)", "('B',2)"],
    "round": ["", "(1)", "(2)", "(0,'floor')", "(1,'ceil')", "(-1)", "(method='floor')", "(-1,'ceil')"],
    "sort": ["", "(true)", "(reverse=true)", "(attribute='n')", "(case_sensitive=true)", "(attribute='n,k')", "(attribute='a.b')"],
    "sum": ["", "(attribute='n')", "(start=10)", "('n',5)", "(attribute='a.b')"],
    "tojson": ["", "(indent=2)", "(indent=0)", "(separators=(',',':'))", "(ensure_ascii=true)", "(sort_keys=true)"],
    "trim": ["", "('a')", "(' \\n')", "(chars='<>')"],
    "truncate": ["(5)", "(5,true)", "(5,true,'..')", "(3,false,'-',1)", "(255)"],
    "unique": ["", "(true)", "(attribute='k')"],
    "wordwrap": ["(5)", "(5,false)"],
    "xmlattr": ["", "(false)"],
}

COMPARED = ["(1)", "('a')", "(none)", "([])", "(1.0)"]
TEST_ARGUMENTS = {
    "eq": COMPARED,
    "equalto": COMPARED,
    "ne": COMPARED,
    "lt": COMPARED,
    "lessthan": COMPARED,
    "le": COMPARED,
    "gt": COMPARED,
    "greaterthan": COMPARED,
    "ge": COMPARED,
    "divisibleby": ["(2)", "(3)", "(0)", "('a')", "(1.5)"],
    "in": ["([1,'a'])", "('abc')", "({'a':1})", "(none)", "(range(3))", "(missing)"],
    "sameas": ["(none)", "(true)", "(1)", "('a')", "(words)"],
}

OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", "in", "not in", "and", "or"]
OPERANDS = ["1", "2.5", "'a'", "none", "[1]", "missing", "true", "words", "{'a': 1}", "(1, 2)", "range(2)"]

TEXTS = [
    "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", "in", "not in", "and", "or",
]
TEXT_METHODS = [
    "strip()", "lstrip('a ')", "rstrip()", "split()", "split(',')", "split(' ',1)", "rsplit(' ',1)", "splitlines()",
    "splitlines(true)", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "center(15,'*')",
    "ljust(12)", "rjust(12,'.')", "zfill(8)", "startswith('a')", "endswith(('c','d'))", "startswith('b',1)",
    "find('b')", "rfind('b')", "index('b')", "rindex('b')", "count('')", "count('a')", "replace('a','b')",
    "replace('a','b',1)", "join(['x','y'])", "join('xyz')", "partition('=')", "rpartition(' ')", "isdigit()",
    "isalpha()", "isalnum()", "isspace()", "islower()", "isupper()", "istitle()", "isnumeric()", "isdecimal()",
    "isidentifier()", "isascii()", "isprintable()", "expandtabs(4)", "encode()", "translate({})", "removeprefix('a')",
    "removesuffix('c')", "format(1,a=2)", "format_map({})", "maketrans('a','b')", "find('b',1)", "find('b',-2)",
    "split(maxsplit=1)", "rsplit(',')", "count('b',1,3)",
]
LISTS = [
    "words", "numbers", "[3,1,2,1]", "(1,'b',none)", "[]", "range(4)",
]
LIST_METHODS = [
    "index(1)", "count(1)", "copy()", "append(1)", "pop()", "extend([1])", "insert(0,1)", "remove(1)", "reverse()",
    "sort()", "clear()", "index('zz')",
]
MAPPINGS = [
    "nested", "{'b':1,'A':2}", "{}",
]
MAPPING_METHODS = [
    "items()", "keys()", "values()", "get('b')", "get('q','z')", "get('a')", "pop('b')", "update({'z':1})", "copy()",
    "setdefault('q',1)", "popitem()", "clear()", "items", "keys", "fromkeys(['a'])", "items()|list",
    "keys()|list|sort", "values()|map('string')|join",
]
OTHERS = [
    "range(5)|list", "range(5,1,-2)|list", "range(0)|list", "dict(a=1)", "joiner(',')()", "namespace(a=1).a",
    "namespace({'a':1}).a", "range(3)[1]", "range(10)[2:5]|list", "range(3)|length", "3 in range(4)", "range(3)",
    "dict([('a',1)])", "{'a':1,**{'b':2}}", "[1,2][-1]", "'abc'[-2:]", "(1,)", "1,2", "not 1 in [1]", "1 < 2 < 3",
    "1 < 3 > 2", "2**3**2", "-2**2", "- 3 % 2", "7 // -2", "7.0 // -2", "5 % -3", "-5 % 3.0", "1_000", "0x10", "0b11",
    "0o17", "1e3", "1.", "'a' ~ 1 + 2", "true ~ none", "'%05.2f' % 3.14159",
    "'%x %o %e %g' % (255,8,12345.678,0.0001)", "'%-5s|%5s|%+d|% d' % ('a','b',3,4)", "'%c' % 65", "'%i' % 3.9",
    "'{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:x}|{:%}'.format('a','b','c',7,3.14159,1234567,255,0.5)",
    "'{0[a]}{1.b}'.format({'a':1},2)", "loop is defined", "self is defined", "caller is defined",
    "varargs is defined", "raise_exception is defined", "[x for x in words]", "words|first|upper~'!'",
    "(words|sort)[0]", "words|sort|first", "words[1:]|join", "nested.b.c|last", "none.x is defined",
    "none['x'] is defined", "1.x is defined", "'a'.x is defined", "missing.x is defined", "missing['x'] is defined",
    "words['x'] is defined", "words[10] is defined", "nested[0] is defined", "nested[words] is defined",
    "nested[none] is defined", "1 if missing else 2", "missing or 'x'", "missing|default('x')|upper",
    "(missing if false)", "true if missing is undefined", "'a' if 1", "('a' if 0)|length", "none|tojson",
    "true|tojson", "(1.0)|tojson", "'é\\u2028</script>'|tojson", "{'a':[1,{'b':none}]}|tojson(indent=4)",
    "[]|tojson(indent=2)", "{}|tojson(indent=2)", "words|tojson|safe", "'\\n\\t\\\"'|tojson", "1 is 1",
    "1 is not none", "not 1 is none", "1 is divisibleby 1 and 2 is even", "'a' is in 'abc'", "x is defined and x",
    "'abc'|list|reverse|join", "words|map('length')|sum", "numbers|map('string')|map('length')|list",
    "items|map(attribute='k')|map('upper')|unique|sort|join(',')", "items|groupby('n')|list",
    "items|groupby('n')|map('first')|list", "items|groupby('n')|map(attribute='grouper')|list",
    "items|selectattr('n','==',2)|map(attribute='k')|list", "items|sum(attribute='n') / items|length",
    "'a'|center(5)|length", "'%s'|format(words)", "words|string", "nested|string", "(1,2)|string", "range|string",
    "'x'.__class__", "words.__len__()", "nested.__class__",
]

# Filters of which every item of the result is compared.
LISTED = {"map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items", "reverse"}
# A result that is drawn.
RANDOM = {"random"}


def groups():
    """What each group of expressions is about: the name of its receivers, and what follows a receiver."""
    found = {}
    for name in sorted(set(DEFAULT_FILTERS) - RANDOM):
        end = " | list" if name in LISTED else ""
        found[f"filter {name}"] = ("values", [f" | {name}{given}{end}" for given in ARGUMENTS.get(name, [""])])
    for name in sorted(name for name in DEFAULT_TESTS if name.isalpha()):
        found[f"test {name}"] = ("values", [f" is {name}{given}" for given in ["", *TEST_ARGUMENTS.get(name, [])]])
    for symbol in OPERATORS:
        found[f"operator {symbol}"] = ("values", [f" {symbol} ({operand})" for operand in OPERANDS])
    for kind, names in [("texts", TEXT_METHODS), ("lists", LIST_METHODS), ("mappings", MAPPING_METHODS)]:
        found[f"methods of {kind}"] = (kind, [f".{name}" for name in names])
    found["others"] = ("others", [""])
    return found


def digest(text):
    return "----" if text is None else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:4]


def main():
    chat = {"messages": [{"role": "user", "content": ""}], "tools": None, "add_generation_prompt": False}

    def result(text):
        return digest(renderer("{{ " + text + " }}")(chat | {"variables": copy.deepcopy(VARIABLES)}))

    receivers = {"values": VALUES, "texts": TEXTS, "lists": LISTS, "mappings": MAPPINGS, "others": OTHERS}
    value = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "special_tokens": TOKENS,
        "variables": json.dumps(VARIABLES),
        "receivers": receivers,
        "groups": {
            about: {
                "receivers": kind,
                "ends": ends,
                "results": "".join(result(f"({one}){end}") for one in receivers[kind] for end in ends),
            }
            for about, (kind, ends) in groups().items()
        },
    }
    (HERE / "jinja_builtins.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
