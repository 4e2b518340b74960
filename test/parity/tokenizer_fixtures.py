"""Makes tokenizer_small.json: small tokenizers of the Llama family's kinds, as tokenizer.json and as GGUF metadata,
with the ids and texts that Python's `tokenizers` gives for the strings of tokenizer_strings.json.

    pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0
    python test/parity/tokenizer_fixtures.py                      # tokenizer_small.json
    python test/parity/tokenizer_fixtures.py smollm2 MODEL.gguf   # tokenizer_smollm2.json

The byte-level vocabularies are trained on LICENSE and on the strings themselves. The SentencePiece one is trained
by `sentencepiece`, and its ids must equal those of the tokenizer.json made from it, so scores, merges and rank
order are checked by an independent implementation. `smollm2` reads the vocabulary of SmolLM2-135M-Instruct from a
GGUF file and keeps only ids, keyed to the strings; the tokenizer.json behind them is put together here by hand,
after the one that the model's authors publish.
"""

import io
import json
import sys
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = Path(__file__).resolve().parent
STRINGS = json.loads((HERE / "tokenizer_strings.json").read_text())
LICENSE = (HERE.parent.parent / "LICENSE").read_text()
CORPUS = [line + "\n" for line in LICENSE.splitlines()] + [s for s in STRINGS if len(s) < 250] * 3
VERSIONS = {"tokenizers": tokenizers.__version__, "sentencepiece": sentencepiece.__version__}

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*|\p{{N}}|{MARKS}"
)
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+{ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*{ENDINGS}"
    rf"|\p{{N}}{{1,3}}|{MARKS}"
)
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# token types of GGUF
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def byte_level(regex=None, digits=False, nfc=False, ignore_merges=False, vocab_size=900):
    """An untrained byte-level BPE: its own regex, or the one built into ByteLevel."""
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tok.normalizer = normalizers.NFC()
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if regex:
        steps.append(pre_tokenizers.Split(Regex(regex), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex is None))
    tok.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tok.train_from_iterator(CORPUS, trainer)
    return tok


def gguf_byte_level(tok: Tokenizer, pre: str, **keys):
    """The metadata that llama.cpp's converter would write for this tokenizer.json."""
    data = json.loads(tok.to_str())
    by_id = {i: t for t, i in data["model"]["vocab"].items()}
    types = {i: NORMAL for i in by_id}
    for added in data["added_tokens"]:
        by_id[added["id"]] = added["content"]
        types[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    assert sorted(by_id) == list(range(len(by_id)))
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [by_id[i] for i in range(len(by_id))],
        "tokenizer.ggml.token_type": [types[i] for i in range(len(by_id))],
        "tokenizer.ggml.merges": merges,
    } | {f"tokenizer.ggml.{name}": value for name, value in keys.items()}


def bos_processor(token: str, tok: Tokenizer):
    return processors.TemplateProcessing(
        single=f"{token}:0 $A:0", pair=f"{token}:0 $A:0 {token}:1 $B:1",
        special_tokens=[(token, tok.token_to_id(token))],
    )


def make_llama3():
    tok = byte_level(LLAMA3, ignore_merges=True)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    tok.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=False), bos_processor("<|begin_of_text|>", tok)]
    )
    config = {"bos_token": names[0], "eos_token": names[4]}
    ids = {n: tok.token_to_id(n) for n in names}
    keys = {"bos_token_id": ids[names[0]], "eos_token_id": ids[names[4]], "add_bos_token": True}
    return tok, config, gguf_byte_level(tok, "llama-bpe", **keys)


def make_smollm():
    tok = byte_level(digits=True)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    tok.post_processor = processors.ByteLevel(trim_offsets=True)
    config = {"bos_token": names[1], "eos_token": names[2]}
    keys = {
        "bos_token_id": tok.token_to_id(names[1]),
        "eos_token_id": tok.token_to_id(names[2]),
        "add_bos_token": False,
    }
    return tok, config, gguf_byte_level(tok, "smollm", **keys)


def make_gpt2():
    """With added tokens of every kind, which GGUF cannot express beyond special or not."""
    tok = byte_level()
    tok.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=False)])
    plain = gguf_byte_level(tok, "gpt-2", eos_token_id=tok.token_to_id("<|endoftext|>"))
    bare = encode_all(tok)
    tok.add_tokens(
        [
            AddedToken("<mark>"),
            AddedToken("<left>", lstrip=True, normalized=False),
            AddedToken("<right>", rstrip=True, normalized=False),
            AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("  "),
        ]
    )
    return tok, {"eos_token": "<|endoftext|>"}, plain, bare


def make_qwen2():
    """With an added token that is matched after normalization, which GGUF cannot express."""
    tok = byte_level(QWEN2, nfc=True)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    tok.add_tokens([AddedToken("<mark>", normalized=False)])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    config = {"bos_token": None, "eos_token": names[2]}
    plain = gguf_byte_level(tok, "qwen2", eos_token_id=tok.token_to_id(names[2]), add_bos_token=False)
    bare = encode_all(tok)
    tok.add_tokens([AddedToken("<acc\u00e9nt>")])
    return tok, config, plain, bare


def make_qwen35():
    tok = byte_level(QWEN35, nfc=True)
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    keys = {"eos_token_id": tok.token_to_id(names[2]), "add_bos_token": False}
    return tok, {"bos_token": None, "eos_token": names[2]}, gguf_byte_level(tok, "qwen35", **keys)


def make_tekken():
    """As Ministral 3 has it."""
    tok = byte_level(TEKKEN, ignore_merges=True)
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    tok.post_processor = bos_processor("<s>", tok)
    ids = {n: tok.token_to_id(n) for n in names}
    keys = {"bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"], "add_bos_token": True}
    return tok, {"bos_token": "<s>", "eos_token": "</s>"}, gguf_byte_level(tok, "tekken", **keys)


def make_o200k():
    """As Phi-4-mini has it."""
    tok = byte_level(O200K)
    names = ["<|endoftext|>", "<|end|>", "<|user|>"]
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    keys = {"bos_token_id": tok.token_to_id(names[0]), "eos_token_id": tok.token_to_id(names[0]), "add_bos_token": False}
    return tok, {"bos_token": names[0], "eos_token": names[0]}, gguf_byte_level(tok, "gpt-4o", **keys)


def train_sentencepiece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line.rstrip("\n") for line in CORPUS if "\n" not in line.rstrip("\n") and line.strip()),
        model_writer=model,
        model_type="bpe",
        vocab_size=1100,
        byte_fallback=True,
        split_digits=True,
        character_coverage=0.9995,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        add_dummy_prefix=True,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def spm_pieces(spm):
    pieces = [spm.id_to_piece(i) for i in range(len(spm))]
    types = [
        UNKNOWN if spm.is_unknown(i) else CONTROL if spm.is_control(i) else BYTE if spm.is_byte(i) else NORMAL
        for i in range(len(spm))
    ]
    return pieces, [spm.get_score(i) for i in range(len(spm))], types


def spm_merges(pieces, scores, types):
    """Every split of a piece into two pieces, best score first; within a piece by the ids of its halves."""
    vocab = {p: i for i, p in enumerate(pieces) if types[i] == NORMAL}
    merges = []
    for piece, index in vocab.items():
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        for left, right in halves:
            if left in vocab and right in vocab:
                merges.append((-scores[index], index, vocab[left], vocab[right], left, right))
    return [(left, right) for *_, left, right in sorted(merges)]


def spm_tokenizer(pieces, merges, prefix):
    vocab = {p: i for i, p in enumerate(pieces)}
    tok = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if prefix == "normalizer":
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    else:
        tok.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prefix, split=prefix == "always")
    tok.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in ["<unk>", "<s>", "</s>"]])
    tok.post_processor = bos_processor("<s>", tok)
    return tok


def encode_all(tok: Tokenizer):
    return [tok.encode(s, add_special_tokens=False).ids for s in STRINGS]


def entry(tok: Tokenizer, config, gguf=None, bare=None):
    ids = encode_all(tok)
    return {
        "tokenizer": json.loads(tok.to_str()),
        "config": config,
        "ids": ids,
        "with_special": [tok.encode(s).ids for s in STRINGS[:3]],
        "decoded": [tok.decode(i, skip_special_tokens=False) for i in ids],
        "gguf": gguf,
        # Ids if the metadata cannot express all of tokenizer.json.
        "gguf_ids": bare,
    }


def make_small():
    spm = train_sentencepiece()
    pieces, scores, types = spm_pieces(spm)
    merges = spm_merges(pieces, scores, types)
    legacy = spm_tokenizer(pieces, merges, "normalizer")
    check_against_sentencepiece(spm, legacy)
    gguf = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
    }
    llama_config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return {
        "llama3": entry(*make_llama3()),
        "smollm": entry(*make_smollm()),
        "gpt2": entry(*make_gpt2()),
        "qwen2": entry(*make_qwen2()),
        "qwen35": entry(*make_qwen35()),
        "tekken": entry(*make_tekken()),
        "o200k": entry(*make_o200k()),
        "llama2": entry(legacy, llama_config, gguf),
        "metaspace_first": entry(spm_tokenizer(pieces, merges, "first"), llama_config),
        "metaspace_always": entry(spm_tokenizer(pieces, merges, "always"), llama_config),
    }


def check_against_sentencepiece(spm, tok: Tokenizer):
    """Control tokens are text to sentencepiece, so strings that spell one are left out."""
    for text in STRINGS:
        if text and not any(name in text for name in ["<unk>", "<s>", "</s>"]):
            ours, theirs = tok.encode(text, add_special_tokens=False).ids, spm.encode(text)
            assert ours == theirs, (text, ours, theirs)


def make_smollm2(path: str):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    types = fields["tokenizer.ggml.token_type"].contents()
    assert fields["tokenizer.ggml.pre"].contents() == "smollm"
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"].contents()]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, kind in zip(tokens, types) if kind == CONTROL]
    )
    assert tok.get_vocab_size() == len(tokens)
    return {"versions": VERSIONS, "vocab_size": len(tokens), "ids": encode_all(tok)}


def save(name: str, value):
    (HERE / name).write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=True) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["smollm2"]:
        save("tokenizer_smollm2.json", make_smollm2(sys.argv[2]))
    else:
        save("tokenizer_small.json", {"versions": VERSIONS, "tokenizers": make_small()})
