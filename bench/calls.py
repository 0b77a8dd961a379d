"""What a call of attention costs beside the library's own time, through each door of torch: python bench/calls.py.

float32 [1,1,16,64] without gradients, one thread. Rounds of 200 calls of each in turn; the fastest round counts, since
everything else on the machine only adds.
"""

import time

import fusedattn
import torch
from fusedattn import _native, tensors
from fusedattn.like import flash_attn, sdpa, xformers

ROUNDS, CALLS = 41, 200


def library(q, k, v):
    """A call of the library alone: its problem filled before, in a layout that no door asks for."""
    out, *_ = tensors.forward(q, k, v, None, None, None, sdpa.terms("SBND", 0.125, "EVERYTHING"), None, False)
    (call,) = (call for call in tensors._forward_calls._calls.values() if call.q.data == q.data_ptr())
    return lambda: _native.problem_forward(call.address, None), out


def seconds(call) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS


def fastest(calls: dict) -> dict:
    """Seconds of a call, by name."""
    rounds = [{name: seconds(call) for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: min(one[name] for one in rounds) for name in calls}


def of_transformers(q, k, v) -> dict:
    """Calls as models of transformers make them: [1, 1, 16, 64], and a step of decoding."""
    try:
        from fusedattn.like.transformers.attention import attention_forward
    except ImportError as absent:
        print(f"like.transformers is left out: {absent}")
        return {}
    layer, last = torch.nn.Module(), q[:, :, -1:]
    return {
        "like.transformers": lambda: attention_forward(layer, q, k, v, None, is_causal=False),
        "like.transformers, one query": lambda: attention_forward(layer, last, k, v, None, is_causal=True),
        "fusedattn.attention, one query": lambda: fusedattn.attention(last, k, v),
    }


def main() -> None:
    torch.set_num_threads(1)
    q, k, v = (torch.randn(1, 1, 16, 64) for _ in range(3))
    numbers, shown = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    rows_first = [t.transpose(1, 2).contiguous() for t in (q, k, v)]
    theirs, functional = torch._C._nn.scaled_dot_product_attention, torch.nn.functional
    alone, _kept = library(*(t.permute(2, 0, 1, 3) for t in (q, k, v)))
    with fusedattn.accelerated():
        calls = {
            "the library alone": alone,
            "fusedattn.attention": lambda: fusedattn.attention(q, k, v),
            "like.sdpa, by name": lambda: sdpa.scaled_dot_product_attention(q, k, v),
            "like.sdpa, mask of bools": lambda: sdpa.scaled_dot_product_attention(q, k, v, shown),
            "like.sdpa, mask of numbers": lambda: sdpa.scaled_dot_product_attention(q, k, v, numbers),
            "torch.nn.functional": lambda: functional.scaled_dot_product_attention(q, k, v),
            "torch.nn.functional, mask of numbers": lambda: functional.scaled_dot_product_attention(q, k, v, numbers),
            "torch's dispatcher": lambda: theirs(q, k, v),
            "torch's dispatcher, mask of numbers": lambda: theirs(q, k, v, numbers),
            "like.flash_attn": lambda: flash_attn.flash_attn_func(*rows_first),
            "like.xformers": lambda: xformers.memory_efficient_attention(*rows_first),
        } | of_transformers(q, k, v)
        with torch.no_grad():
            ours = fastest(calls)
    with torch.no_grad():
        plain = fastest({"torch": lambda: theirs(q, k, v)})["torch"]
    for name, found in ours.items():
        over = found - ours["the library alone"]
        print(f"{name:<38}{found * 1e6:6.1f} µs, {over * 1e6:5.1f} µs over the library")
    print(f"{'torch without fusedattn':<38}{plain * 1e6:6.1f} µs")


main()
