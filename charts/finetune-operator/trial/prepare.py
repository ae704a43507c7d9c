"""Put a tiny model and rows that it can learn where the test's job will look: `prepare.py URI`.

Run by `helm test` in the trainer's image. No download: the model is made from a configuration.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from finetune_trainer.errors import FineTuneError
from finetune_trainer.store.store import Store
from finetune_trainer.store.transfer import upload_folder

GOOD, BAD = ("good", "great", "fine", "superb"), ("bad", "awful", "poor", "dull")
OTHERS = ("the", "film", "was", "and", "plot", "actor", "music", "scene", "really", "quite")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
ROWS = 400


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer that knows a few words."""
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *GOOD, *BAD, *OTHERS))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(list(SPECIAL))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    )
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=32, **tokens)


def make_model(folder: Path) -> None:
    """An encoder of a few thousand weights with its tokenizer, as a transformers folder."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(**shape, vocab_size=len(tokenizer), max_position_embeddings=32, pad_token_id=0)
    BertForSequenceClassification(config).bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_rows(path: Path) -> None:
    """Reviews of one sentence; a single word decides."""
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            label, words = (("positive", GOOD), ("negative", BAD))[number % 2]
            sentence = [*chance.choices(OTHERS, k=chance.randint(3, 8)), chance.choice(words)]
            chance.shuffle(sentence)
            file.write(json.dumps({"text": " ".join(sentence), "label": label}) + "\n")


def main() -> None:
    """Write to the place that is named."""
    (destination,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_model(folder / "model")
        make_rows(folder / "train.jsonl")
        try:
            upload_folder(Store.open(destination), folder)
        except FineTuneError as error:
            sys.exit(str(error))
    print(f"a tiny model and {ROWS} rows lie at {destination}")


if __name__ == "__main__":
    main()
