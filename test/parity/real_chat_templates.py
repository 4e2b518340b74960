"""Makes real_chat_templates.json: 60 random chats, and of each what `apply_chat_template` of transformers renders from
the chat templates of a folder, such as models/templates of https://github.com/ggml-org/llama.cpp. The templates belong to
their authors, so only hashes of them and of the texts are kept; with a third argument, the texts are written there.

    pip install transformers==5.24.0 jinja2==3.1.6
    python test/parity/real_chat_templates.py FOLDER [TEXTS.json]
"""

import datetime
import hashlib
import json
import sys
from pathlib import Path

import jinja2
import transformers
from random_chats import chats
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).resolve().parent
DOCS = HERE / "../../docs/data.md"
COUNT = 60
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
NOW = datetime.datetime(2025, 11, 24, 12, 30)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock


def digest(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def renderer(template):
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=template, **TOKENS)

    def render(chat):
        """The text, or None where the template fails."""
        try:
            return tokenizer.apply_chat_template(
                chat["messages"],
                tools=chat["tools"],
                add_generation_prompt=chat["add_generation_prompt"],
                tokenize=False,
                **chat["variables"],
            )
        except Exception:
            return None

    return render


def describe(templates):
    """Writes the numbers into docs/data.md."""
    counts = [text is not None for template in templates.values() for text in template["texts"]]
    sentence = (
        f"The {len(templates)} templates that llama.cpp ships give {sum(counts):,} texts of {COUNT} random chats each, all of "
        f"them equal to those of transformers {transformers.__version__} with Jinja {jinja2.__version__}; the chats include "
        "tools, reasoning, Unicode, and white space at the edges. The other "
        f"{counts.count(False)} of {len(counts):,} are refused by the template, or fail in it, in both."
    )
    page = DOCS.read_text()
    start, end = "<!-- real chat templates -->\n", "<!-- end of real chat templates -->"
    before, rest = page.split(start)
    DOCS.write_text(f"{before}{start}{sentence}\n{end}{rest.split(end)[1]}")


def main(folder, texts_path=None):
    rows = chats(COUNT)
    templates, texts = {}, {}
    for path in sorted(Path(folder).glob("*.jinja")):
        source = path.read_bytes().decode()
        render = renderer(source)
        texts[path.name] = [render(json.loads(row)) for row in rows]
        hashes = [None if text is None else digest(text) for text in texts[path.name]]
        templates[path.name] = {"sha256": digest(source), "texts": hashes}
    value = {
        "versions": {"transformers": transformers.__version__, "jinja2": jinja2.__version__},
        "now": NOW.isoformat(),
        "special_tokens": TOKENS,
        "chats": rows,
        "templates": templates,
    }
    (HERE / "real_chat_templates.json").write_text(json.dumps(value, indent=1) + "\n")
    describe(templates)
    if texts_path:
        Path(texts_path).write_text(json.dumps(texts))


if __name__ == "__main__":
    main(*sys.argv[1:])
