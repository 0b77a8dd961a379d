"""flash_attn and xformers as far as docs/migration.md calls them, by the formula in float64.

Their kernels need a GPU. These modules have the names, arguments, layouts and masks that the originals document,
and compute in float64 whatever they are given; results have query's dtype.
"""

import types

import torch
from fusedattn.like import torch_npu
from golden import attention


def swapped(*tensors):
    """[B,S,H,D] as [B,H,S,D], or back."""
    return [t.transpose(1, 2) for t in tensors]


def band(rows, columns, left, right, shift):
    """bool [rows, columns]: i + shift - left <= j <= i + shift + right; below 0 an edge is open."""
    distance = torch.arange(columns) - torch.arange(rows)[:, None] - shift
    seen = torch.ones(rows, columns, dtype=torch.bool)
    if left >= 0:
        seen &= distance >= -left
    if right >= 0:
        seen &= distance <= right
    return seen


def dropout(q, k, p):
    """What probabilities are multiplied with: the bits that torch_npu generates from the seed it draws next."""
    if p == 0:
        return None
    one = torch.zeros(1, 1, 1, 1)
    seed = torch_npu.npu_fusion_attention(one, one, one, 1, "BNSD", keep_prob=1 - p)[4]
    shape = torch.Size((*q.shape[:3], k.shape[2]))
    packed = torch_npu._npu_dropout_gen_mask(q, [shape.numel()], p, seed, 0)
    bits = (packed[:, None] >> torch.arange(8)) & 1
    return bits.flatten()[: shape.numel()].view(shape) / torch.tensor(1 - p, dtype=torch.float32).double()


def dense(q, k, v, p, scale, seen, **terms):
    """(out [B,S,H,D], log of the sum of exponentials [B,H,S])."""
    queries, keys, values = swapped(q, k, v)
    keep = dropout(queries, keys, p)
    out, top, total = attention(queries, keys, values, seen, scale, keep=keep, **terms)
    return out.transpose(1, 2).to(q.dtype), (top + total.log()).detach()


def flash_attn(version):
    """The module flash_attn of a version; causal is from the top left up to 2.0, from the bottom right after it."""
    top_left = tuple(map(int, version.split(".")[:2])) <= (2, 0)

    def flash_attn_func(
        q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0,
        alibi_slopes=None, deterministic=False, return_attn_probs=False,
    ):  # fmt: skip
        assert softcap == 0
        rows, columns = q.shape[1], k.shape[1]
        left, right = window_size
        shift = 0 if top_left else columns - rows
        seen = band(rows, columns, left, 0 if causal else right, shift)
        out, lse = dense(q, k, v, dropout_p, softmax_scale, seen, slopes=alibi_slopes)
        return (out, lse, None) if return_attn_probs else out

    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p=0.0, softmax_scale=None,
        causal=False, window_size=(-1, -1), softcap=0.0, alibi_slopes=None, deterministic=False,
        return_attn_probs=False, block_table=None,
    ):  # fmt: skip
        assert dropout_p == 0 and block_table is None
        words = (0.0, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic, True)
        parts = [
            flash_attn_func(*(t[None] for t in own), *words)[:2]
            for own in sequences(q, k, v, cu_seqlens_q.tolist(), cu_seqlens_k.tolist())
        ]
        out, lse = (torch.cat([pair[i][0] for pair in parts], dim=i) for i in (0, 1))
        return (out, lse, None) if return_attn_probs else out

    return module("flash_attn", **locals(), __version__=version)


def sequences(q, k, v, q_starts, k_starts):
    for b in range(len(q_starts) - 1):
        columns = slice(k_starts[b], k_starts[b + 1])
        yield q[q_starts[b] : q_starts[b + 1]], k[columns], v[columns]


class LowerTriangularMask:
    """Row i sees columns 0 to i."""

    def seen(self, rows, columns):
        return band(rows, columns, -1, 0, 0)


class LowerTriangularFromBottomRightMask:
    """Row i sees columns 0 to i + columns - rows."""

    def seen(self, rows, columns):
        return band(rows, columns, -1, 0, columns - rows)


class LocalAttentionFromBottomRightMask:
    """Row i sees window_left columns before the bottom right diagonal to window_right after it."""

    def __init__(self, window_left, window_right):
        self.edges = window_left, window_right

    def seen(self, rows, columns):
        return band(rows, columns, *self.edges, columns - rows)


class BlockDiagonalMask:
    """Sequences one after another in the rows of a batch of 1; each sees itself."""

    within = staticmethod(lambda rows, columns: torch.ones(rows, columns, dtype=torch.bool))

    def __init__(self, q_seqlen, kv_seqlen):
        self.lengths = list(zip(q_seqlen, kv_seqlen))

    @classmethod
    def from_seqlens(cls, q_seqlen, kv_seqlen=None):
        return cls(q_seqlen, kv_seqlen or q_seqlen)

    def seen(self, rows, columns):
        blocks = torch.block_diag(*(self.within(*pair) for pair in self.lengths)).bool()
        assert blocks.shape == (rows, columns)
        return blocks


class BlockDiagonalCausalMask(BlockDiagonalMask):
    within = staticmethod(lambda rows, columns: band(rows, columns, -1, 0, 0))


class BlockDiagonalCausalFromBottomRightMask(BlockDiagonalMask):
    within = staticmethod(lambda rows, columns: band(rows, columns, -1, 0, columns - rows))


def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None):
    """[B,M,H,K], or [B,M,K] of one head; attn_bias: [B,H,Mq,Mk] ([B,Mq,Mk]) or a mask above."""
    tensors, seen, bias = (query, key, value), None, attn_bias
    if query.dim() == 3:
        tensors = [t.unsqueeze(2) for t in tensors]
        bias = bias.unsqueeze(1) if isinstance(bias, torch.Tensor) else bias
    batch, rows, heads = tensors[0].shape[:3]
    columns = tensors[1].shape[1]
    if isinstance(bias, torch.Tensor):
        assert bias.shape == (batch, heads, rows, columns)
    elif bias is not None:
        seen, bias = bias.seen(rows, columns), None
    out, _ = dense(*tensors, p, scale, seen, bias=bias)
    return out.squeeze(2) if query.dim() == 3 else out


def xformers():
    """The modules of xformers by name."""
    masks = [
        LowerTriangularMask, LowerTriangularFromBottomRightMask, LocalAttentionFromBottomRightMask,
        BlockDiagonalMask, BlockDiagonalCausalMask, BlockDiagonalCausalFromBottomRightMask,
    ]  # fmt: skip
    attn_bias = module("xformers.ops.fmha.attn_bias", **{mask.__name__: mask for mask in masks})
    fmha = module("xformers.ops.fmha", attn_bias=attn_bias)
    ops = module("xformers.ops", fmha=fmha, memory_efficient_attention=memory_efficient_attention)
    ops.LowerTriangularMask = LowerTriangularMask
    return {m.__name__: m for m in (attn_bias, fmha, ops, module("xformers", ops=ops))}


def module(name, **contents):
    made = types.ModuleType(name)
    vars(made).update(contents)
    return made
