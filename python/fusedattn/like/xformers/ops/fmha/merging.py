"""merge_attentions: attention over all keys from attention over parts of them, by their log-sum-exps."""

from __future__ import annotations

import torch

from fusedattn import joint, merge_ops  # noqa: F401  (defines torch.ops.fusedattn)

from .arguments import DTYPES


def merge(attn_split, lse_split, write_lse: bool, output_dtype):
    """(out, lse or None) as merge_attentions describes them."""
    outs, lses = _parts("attn_split", attn_split), _parts("lse_split", lse_split)
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in (*outs, *lses))
    if wanted and not write_lse:
        raise ValueError("write_lse is False and inputs require grad; accepted is True, or detached inputs")
    _check(outs, lses, output_dtype)
    results = _Merge.apply(output_dtype, len(outs), *outs, *lses) if wanted else _merge(outs, lses, output_dtype)
    return results[0], results[1] if write_lse else None


def _merge(outs, lses, output_dtype):
    dtype, lse_dtype = output_dtype or outs[0].dtype, lses[0].dtype
    groups = tuple(outs[0].shape[2:4]) if outs[0].dim() == 5 else None
    if dtype is torch.float32:
        outs = [t.float() for t in outs]
    if groups is not None:
        outs, lses = [t.flatten(2, 3) for t in outs], [t.flatten(1, 2) for t in lses]
    lses = [t.float() for t in lses]
    out, lse, _ = torch.ops.fusedattn.merge(list(outs), lses, [], None, "BSND", joint.ROWS, False)
    if groups is not None:
        out, lse = out.unflatten(2, groups), lse.unflatten(1, groups)
    return out.to(dtype), lse.to(lse_dtype)


class _Merge(torch.autograd.Function):
    """Without a derivative, which is refused when it is asked for, as the original does."""

    @staticmethod
    def forward(ctx, output_dtype, count, *parts):
        return _merge(parts[:count], parts[count:], output_dtype)

    @staticmethod
    def backward(ctx, *_):
        raise NotImplementedError(
            "Backward pass is not implemented for merge_attentions: gradients of a log-sum-exp do not pass through"
            " attention's backward; accepted are detached inputs, and memory_efficient_attention_backward of each"
            " part with the merged output and log-sum-exp"
        )


def _parts(name: str, given) -> list[torch.Tensor]:
    parts = list(given.unbind(0)) if isinstance(given, torch.Tensor) and given.dim() else given
    if not isinstance(parts, (list, tuple)) or not parts or not all(isinstance(t, torch.Tensor) for t in parts):
        raise ValueError(f"{name} is a {type(given).__name__}; accepted is a tensor or a list of tensors, one part at least")
    return list(parts)


def _check(outs, lses, output_dtype) -> None:
    if len(outs) != len(lses):
        raise ValueError(f"lse_split has {len(lses)} parts; accepted are {len(outs)}, as attn_split has")
    first = outs[0]
    if first.dim() not in (4, 5):
        raise ValueError(f"attn_split has parts {tuple(first.shape)}; accepted are [B, M, H, K] and [B, M, G, H, K]")
    batch, rows, *heads, _ = first.shape
    if 0 in (*heads, first.shape[-1]):
        raise ValueError(f"attn_split has parts {tuple(first.shape)}; accepted is at least 1 head and 1 feature")
    for name, parts, shape in (("attn_split", outs, tuple(first.shape)), ("lse_split", lses, (batch, *heads, rows))):
        for index, part in enumerate(parts):
            if tuple(part.shape) != shape or part.dtype != parts[0].dtype or part.device != first.device:
                found = f"{part.dtype} {tuple(part.shape)} on {part.device}"
                raise ValueError(f"{name}[{index}] is {found}; accepted is {parts[0].dtype} {shape} on {first.device}")
    if not first.is_cpu or first.layout != torch.strided:
        raise NotImplementedError(f"attn_split is {first.layout} on {first.device}; accepted are dense tensors on the CPU")
    for name, dtype in (("attn_split", first.dtype), ("output_dtype", output_dtype or first.dtype)):
        if dtype not in DTYPES:
            raise NotImplementedError(f"{name} is {dtype}; accepted are {', '.join(map(str, DTYPES))}")
    if not lses[0].is_floating_point():
        raise NotImplementedError(f"lse_split is {lses[0].dtype}; accepted is torch.float32")
