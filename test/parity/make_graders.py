"""Likenesses of texts, by others: graders.json in numbers/. Needs requirements-graders.txt only.

    pip install -r test/parity/requirements-graders.txt && python test/parity/make_graders.py

Pairs are written by hand at the edges of the metrics, or drawn: a text and a copy with words dropped, moved, and changed.
"""

import json
import random
from importlib.metadata import version
from pathlib import Path

from nltk.translate.gleu_score import sentence_gleu
from rapidfuzz import fuzz
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import sentence_bleu

OUT = Path(__file__).resolve().parent / "numbers" / "graders.json"
PACKAGES = ("rapidfuzz", "sacrebleu", "rouge-score", "nltk")
ROUGE = RougeScorer(["rouge1", "rouge2", "rouge3", "rouge4", "rouge5", "rougeL"], use_stemmer=False)

BY_HAND = [
    ("", ""),
    ("", "a"),
    ("a", ""),
    ("a", "a"),
    (" ", "\n"),
    ("the cat", "the cat sat on the mat"),
    ("the the the the the the the", "the cat is on the mat"),
    ("The cat sat on the mat.", "the cat sat on the mat"),
    ("It costs $1,234.50 (or 3-4 %), doesn't it?", "It costs $ 1,234.5 , or 3 - 4%: does it not?"),
    ("a &amp; b &quot;c&quot; &lt;d&gt; &amp;lt;", 'a & b "c" <d> <'),
    ("end-\nof line\nnext <skipped>word ", "endof line next word"),
    ("x.y,z 1.5 .5 5. -3 3-", "x . y , z 1.5 . 5 5 . - 3 3 -"),
    ("5.x 7,y a.5 b,6 x.y.", "5 .x 7 , y a . 5 b , 6 x . y ."),
    ("naïve café 日本語 🙂🙃", "naive cafe 日本 🙃🙂"),
    ("İstanbul STRASSE straße K", "istanbul strasse STRASSE k"),
    ("tab\tand\u00a0no-break\u2003em\u3000wide\x1cfile\u0085next\ufeffmark", "tab and no-break em wide file next mark"),
    ("snake_case CamelCase 42nd", "snake case camelcase 42 nd"),
    ('{"name": "Ada", "age": 36}', '{"age": 36, "name": "Ada"}'),
    ("a b c d e f g h", "h g f e d c b a"),
    ("ab" * 40, "ba" * 40),
    ("\U0001f468\u200d\U0001f469 family", "family \U0001f468"),
]
WORDS = "the a of to and in it's on-line Rome 7 3.5 x, y. (z) naïve 日本 & 100% e-mail don't end.".split()


def drawn(seed: int) -> tuple:
    """A text of the words above, and a copy that is the less like it the larger the seed."""
    rng = random.Random(seed)
    text = [rng.choice(WORDS) for _ in range(rng.randrange(1, 24))]
    copy = [rng.choice(WORDS) if rng.random() < seed / 80 else word for word in text]
    if rng.random() < 0.5:
        copy = copy[rng.randrange(len(copy)) :] + copy[: rng.randrange(len(copy) + 1)]
    copy = [word.upper() if rng.random() < 0.1 else word for word in copy]
    return " ".join(copy), rng.choice([" ", "  ", "\n"]).join(text)


def scores(given: str, reference: str) -> dict:
    rouge = ROUGE.score(reference, given)
    return {
        "fuzzy_match": fuzz.ratio(given, reference) / 100,
        "bleu": sentence_bleu(given, [reference]).score / 100,
        "gleu": float(sentence_gleu([reference.split()], given.split())),
        **{f"rouge_{n}": float(rouge[f"rouge{n}"].fmeasure) for n in range(1, 6)},
        "rouge_l": float(rouge["rougeL"].fmeasure),
    }


if __name__ == "__main__":
    pairs = BY_HAND + [drawn(seed) for seed in range(60)]
    cases = [{"input": a, "reference": b, "scores": scores(a, b)} for a, b in pairs]
    for metric in cases[0]["scores"]:
        found = [case["scores"][metric] for case in cases]
        assert any(0 < score < 1 for score in found) and any(score == 0 for score in found), metric
    versions = json.dumps({name: version(name) for name in PACKAGES})
    rows = ",\n".join(json.dumps(case) for case in cases)
    OUT.write_text(f'{{\n"versions": {versions},\n"cases": [\n{rows}\n]\n}}\n')
