"""Runs a Case through npu_fusion_attention_v2 in any layout, forward and backward, and holds it to the golden."""

import torch
from ascend_golden import LEAVES, assert_like, assert_statistic, draw, golden, lengths
from fusedattn.like.torch_npu import npu_fusion_attention_grad_v2, npu_fusion_attention_v2

ORDERS = {"BNSD": (0, 1, 2, 3), "BSND": (0, 2, 1, 3), "BSH": (0, 2, 1, 3), "SBH": (2, 0, 1, 3)}
LAYOUTS = [*ORDERS, "TND"]
COMPRESSED = torch.triu(torch.ones(2048, 2048), diagonal=1).bool()
PREFIXED = torch.cat((COMPRESSED, (torch.arange(2048) >= 1024).expand(1024, 2048)))


def laid(t, layout):
    """A BNSD tensor in another layout."""
    t = t.permute(ORDERS[layout]).contiguous()
    return t.flatten(2) if layout in ("BSH", "SBH") else t


def unlaid(t, layout, heads):
    """Back to BNSD."""
    t = t.unflatten(2, (heads, -1)) if layout in ("BSH", "SBH") else t
    return t.permute([ORDERS[layout].index(axis) for axis in range(4)])


def arguments(case) -> dict:
    """The keywords of npu_fusion_attention_v2 but for tensors that are differentiated."""
    words = dict(
        atten_mask=case.mask,
        sparse_mode=case.sparse_mode,
        pre_tokens=case.pre,
        next_tokens=case.next,
        prefix=case.prefix,
        pse=case.pse,
        pse_type=case.pse_type,
        keep_prob=case.keep_prob,
    )
    if case.starts:
        words |= dict(q_start_idx=[case.starts[0]], kv_start_idx=[case.starts[1]])
    if case.ends:
        words |= dict(actual_seq_qlen=list(case.ends[0]), actual_seq_kvlen=list(case.ends[1]))
    return words


def run(case, layout="BNSD", **more):
    """(outputs, leaves by name) of a call; q, k, v in `layout`."""
    given = {name: getattr(case, name) for name in LEAVES}
    if layout != "TND":
        given |= {name: laid(given[name], layout) for name in ("query", "key", "value")}
    leaves = {name: t.detach().requires_grad_() for name, t in given.items() if t is not None}
    words = arguments(case) | dict(scale=case.scale, dropout_mask=case.bits) | more
    if case.bits is None:
        words.pop("dropout_mask")
    outputs = npu_fusion_attention_v2(head_num=case.heads, input_layout=layout, **leaves, **words)
    return outputs, leaves


def check(case, layout="BNSD", by_hand=True, seed=0, **more):
    """Outputs, statistics and gradients against the golden; returns the outputs.

    by_hand: npu_fusion_attention_grad_v2 must give the gradients that autograd gives, where the bits are
        generated.
    """
    outputs, leaves = run(case, layout, seed=seed, **more)
    out, row_max, row_sum = outputs[:3]
    wanted, statistics = golden(case)
    unlay = (lambda t, heads: t) if layout == "TND" else (lambda t, heads: unlaid(t, layout, heads))
    assert out.is_contiguous() and out.dtype == case.query.dtype
    assert_like(unlay(out, case.heads), wanted, "attention_out")
    for name, found, index in (("max", row_max, 0), ("sum", row_sum, 1)):
        assert found.is_contiguous() and (found == found[..., :1]).all()
        for b, statistic in enumerate(statistics):
            assert_statistic(_of_sequence(case, found, b), statistic[index], name)
    dy = draw(*wanted.shape, dtype=case.query.dtype)
    laid_dy = dy if layout == "TND" else laid(dy, layout)
    found = dict(zip(leaves, torch.autograd.grad(out, [*leaves.values()], laid_dy)))
    leaves64 = [*case.leaves.values()]
    want = dict(
        zip(case.leaves, torch.autograd.grad(wanted, leaves64, dy.to(case.precision), materialize_grads=True))
    )
    for name, gradient in found.items():
        heads = case.heads if name == "query" else case.key.shape[1]
        gradient = gradient if name == "sink" else unlay(gradient, heads)
        assert_like(gradient, want[name], f"gradient of {name}", gradient=True, dtype=case.query.dtype)
    if by_hand and case.bits is None:
        check_by_hand(case, layout, outputs, leaves, laid_dy, found)
    return outputs


def _of_sequence(case, statistic, b):
    """[N,Sq] of sequence b, from [B,N,Sq,8] or from the blocks of TND."""
    if not case.ends:
        return statistic[b, ..., 0]
    row, rows, *_ = lengths(case)[b]
    block = statistic.flatten()[row * case.heads * 8 : (row + rows) * case.heads * 8]
    return block.view(case.heads, rows, 8)[..., 0]


def check_by_hand(case, layout, outputs, leaves, dy, found):
    out, row_max, row_sum, _, seed, offset, numels = outputs
    tensors = [leaves[name].detach() for name in ("query", "key", "value")]
    rest = {name: t.detach() for name, t in leaves.items() if name not in ("query", "key", "value")}
    dq, dk, dv, dpse, dq_rope, dk_rope, dsink = npu_fusion_attention_grad_v2(
        *tensors, dy, case.heads, layout, softmax_max=row_max, softmax_sum=row_sum, attention_in=out.detach(),
        scale_value=case.scale, seed=seed, offset=offset, numels=numels, **arguments(case), **rest,
    )  # fmt: skip
    for name, gradient in zip(LEAVES, (dq, dk, dv, dq_rope, dk_rope, dsink)):
        if name in found:
            assert torch.equal(gradient, found[name]), f"gradient of {name}, by hand"
        else:
            assert gradient is None
    assert dpse is None if case.pse is None else (dpse.shape == case.pse.shape and not dpse.any())
