"""From a CSV to a routed classifier, without a network and in about a minute: ``python docs/tutorial.py``.

The cells (``# %%``) run one by one in editors that know them.
"""

# %% A CSV of reviews. Yours would come from elsewhere; these are the embedded task's sentences, some easy, some hard.
import csv
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from sharcs_pl import SharcsForSequenceClassification
from sharcs_pl.data.synthetic import graded_examples, word_tokenizer

folder = Path(tempfile.mkdtemp(prefix="sharcs-"))
reviews, run = folder / "reviews.csv", folder / "run"
examples = graded_examples("train", size=5000, seed=1)
with reviews.open("w", newline="", encoding="utf-8") as file:
    rows = csv.writer(file)
    rows.writerow(["review", "verdict"])
    rows.writerows(
        (text, ("bad", "good")[label]) for (text,), label in zip(examples.texts, examples.labels, strict=True)
    )

# %% An encoder in a folder. Yours would be pretrained (encoder=minilm, or a hub id); this small BERT starts from random
# weights, and its tokenizer knows the words of the reviews.
torch.manual_seed(0)
tokenizer = word_tokenizer()
config = BertConfig(
    vocab_size=len(tokenizer),
    hidden_size=64,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=256,
    max_position_embeddings=32,
    pad_token_id=tokenizer.vocab["[PAD]"],
)
BertForSequenceClassification(config).save_pretrained(folder / "encoder")
tokenizer.save_pretrained(folder / "encoder")


# %% Train, as on the command line. A fifth of the rows is kept for evaluation. The best epoch is looked for among those
# that cost at most 0.8 of the stock model: without a limit an early one may win that sends nothing narrow yet.
def sharcs(command: str, *overrides: str) -> None:
    """Run ``sharcs <command> <overrides>`` and fail where it fails."""
    subprocess.run([sys.executable, "-m", "sharcs_pl", command, *overrides], check=True)


sharcs(
    "train",
    *("task=custom", f"task.train={reviews}", "task.dev=0.2", "task.text=review", "task.label=verdict"),
    *("encoder=custom", f"encoder.pretrained={folder / 'encoder'}", "task.max_length=32"),
    *("recipe=default/graded_tiny", "trainer.max_epochs=8", "batch_size=16", "checkpoint.max_macs_fraction=0.8"),
    *("trainer.enable_progress_bar=false", f"hydra.run.dir={run}"),
)

# %% The saved model, and a batch that mixes widths in one call.
model = SharcsForSequenceClassification.from_pretrained(run / "model")
tokenizer = AutoTokenizer.from_pretrained(run / "model")
texts = ["the soup was tasty", "the film was tasty but the cast was never dull", "the lobby felt shabby by noon"]
with torch.inference_mode():
    out = model(**tokenizer(texts, padding=True, return_tensors="pt"))
for text, logits, rung in zip(texts, out.logits, out.rungs.tolist(), strict=True):
    verdict = model.config.id2label[int(logits.argmax())]  # pyright: ignore
    print(f"{verdict:<5} at width {model.ladder.labels()[rung]:<5} {text}")

# %% What the run said of each validation sample: the errors at each width.
with (run / "predictions.tsv").open(newline="", encoding="utf-8") as file:
    predictions = list(csv.DictReader(file, delimiter="\t"))
for rung, width in enumerate(model.ladder.labels()):
    routed = [row for row in predictions if int(row["rung"]) == rung]
    errors = sum(row["prediction"] != row["label"] for row in routed)
    print(f"width {width}: {len(routed)} reviews, {errors} errors")

# %% How hard each training sample was: the scores of one of them, epoch by epoch, and where all of them ran at the end.
history = pq.read_table(run / "history.parquet").to_pylist()
print([(row["epoch"], round(row["score"], 2), row["rung"]) for row in history if row["uid"] == 0])
last = max(row["epoch"] for row in history)
print("samples per rung in the last epoch:", dict(Counter(row["rung"] for row in history if row["epoch"] == last)))

# %% Evaluate again, from the saved model alone, with the cost formula beside a count of the real model.
sharcs("evaluate", f"run={run / 'model'}", "cost.audit=true")
print(f"everything is in {folder}")
