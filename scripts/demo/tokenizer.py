"""Trains the byte-level BPE tokenizer of the demo's base model: tokenizer.py TEXT.jsonl OUT/tokenizer.json VOCAB.

A capital begins a token and takes no space before it, and every digit is one token. So a name has the same tokens
wherever it stands, after a space, a quote or a line feed, and copying it is copying its tokens.
"""

import json
import sys

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
PIECES = r" ?\p{Ll}+|\p{Lu}\p{Ll}*|\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"


def texts(path):
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def main():
    source, target, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(source), trainer)
    tokenizer.save(target)


main()
