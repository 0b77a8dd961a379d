"""The attention functions of torch_npu under torch.compile, fake tensors and transforms."""

import pytest
import torch
from ascend_calls import COMPRESSED, LAYOUTS, arguments, run
from ascend_golden import draw
from fusedattn.like.torch_npu import (
    npu_fusion_attention,
    npu_fusion_attention_grad,
    npu_fusion_attention_v2,
    npu_fusion_attention_v3,
)
from fusedattn.like.torch_npu_score import Terms
from test_like_torch_npu_modes import packed, padded
from test_like_torch_npu_versions import roped
from torch._subclasses.fake_tensor import FakeTensorMode


def compiled_like_eager(model, leaves, outputs=1):
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    got = compiled(*leaves)
    torch.manual_seed(3)
    wanted = model(*leaves)
    assert all(map(torch.equal, got[:outputs], wanted[:outputs]))
    dy = draw(*got[0].shape, dtype=got[0].dtype)
    assert all(map(torch.equal, *(torch.autograd.grad(o[0], leaves, dy) for o in (got, wanted))))


def test_compiled_version_3_with_dropout():
    """No break, though the seed is drawn where the graph runs; sequence ends are tensors."""
    case = packed(keep_prob=0.8)
    leaves = [t.requires_grad_() for t in (case.query, case.key, case.value)]
    ends = [torch.tensor(end) for end in case.ends]

    def model(q, k, v):
        words = dict(actual_seq_qlen=ends[0], actual_seq_kvlen=ends[1], keep_prob=0.8, atten_mask=COMPRESSED)
        return npu_fusion_attention_v3(q, k, v, 4, "TND", sparse_mode=3, **words)

    compiled_like_eager(model, leaves, outputs=6)


def test_compiled_version_2_with_everything():
    case = padded(Sq=45, Skv=45)
    leaves = [t.requires_grad_() for t in (case.query, case.key, case.value, torch.zeros(4))]

    def model(q, k, v, sink):
        slopes = torch.tensor([0.5, 0.25, 0.125, 0.0625])
        words = dict(pse=slopes, pse_type=2, q_start_idx=[1], kv_start_idx=[2], sink=sink, prefix=[0, 0])
        return npu_fusion_attention_v2(q, k, v, 4, "BNSD", atten_mask=COMPRESSED, sparse_mode=2, **words)

    compiled_like_eager(model, leaves, outputs=3)


def test_compiled_rotary_parts():
    case = roped()
    leaves = [t.requires_grad_() for t in (case.query, case.key, case.value, case.query_rope, case.key_rope)]
    words = arguments(case)

    def model(q, k, v, q_rope, k_rope):
        return npu_fusion_attention_v2(q, k, v, 4, "TND", query_rope=q_rope, key_rope=k_rope, **words)

    compiled_like_eager(model, leaves, outputs=3)


def test_compiled_gradient():
    case = padded()
    (out, row_max, row_sum, *_), _ = run(case)
    saved = dict(softmax_max=row_max, softmax_sum=row_sum, attention_in=out.detach(), scale_value=0.3)

    def model(q, dy):
        return npu_fusion_attention_grad(q, case.key, case.value, dy, 4, "BNSD", **saved)[:3]

    torch._dynamo.reset()
    got = torch.compile(model, fullgraph=True, backend="aot_eager")(case.query, out.detach())
    assert all(map(torch.equal, got, model(case.query, out.detach())))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fake_tensors(layout):
    case = packed(tail=1) if layout == "TND" else padded()
    real, leaves = run(case, layout)
    mode, words = FakeTensorMode(), arguments(case)
    fakes = {name: mode.from_tensor(t.detach()).requires_grad_() for name, t in leaves.items()}
    with mode:
        fake = npu_fusion_attention_v2(head_num=4, input_layout=layout, **fakes, **words)
        assert [(t.shape, t.dtype) for t in fake[:4]] == [(t.shape, t.dtype) for t in real[:4]]
        assert fake[4:] == real[4:]
        gradients = torch.autograd.grad(fake[0].sum(), [*fakes.values()])
    assert [t.shape for t in gradients] == [t.shape for t in leaves.values()]


def test_second_derivatives_are_refused():
    case = padded()
    outputs, leaves = run(case)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.autograd.grad(outputs[0].sum(), leaves["query"], create_graph=True)


def test_forward_mode_is_refused():
    case = padded()
    with pytest.raises(NotImplementedError, match="forward-mode"):
        torch.func.jvp(
            lambda q: npu_fusion_attention(q, case.key, case.value, 4, "BNSD")[0],
            (case.query,),
            (case.query,),
        )


def test_graphs_break_where_a_seed_becomes_an_integer():
    case = padded()
    compiled = torch.compile(
        lambda q: npu_fusion_attention(q, case.key, case.value, 4, "BNSD", keep_prob=0.5), backend="aot_eager"
    )
    torch.manual_seed(3)
    got = compiled(case.query)
    torch.manual_seed(3)
    wanted = npu_fusion_attention(case.query, case.key, case.value, 4, "BNSD", keep_prob=0.5)
    assert torch.equal(got[0], wanted[0]) and got[4:] == wanted[4:]


def test_operators_are_what_torch_expects():
    q, k, v = (draw(2, heads, 9, 16).requires_grad_() for heads in (4, 2, 2))
    sink, shift = torch.zeros(4, requires_grad=True), draw(2, 4, 9, 9)
    terms = Terms(4, "BNSD", 0.3, 1.0, 9, 9, 0, 3, 1, "", None, None, None, True, 1)
    inputs = q, k, v, None, None, shift, None, COMPRESSED, sink
    numbers = None, None, torch.tensor([3]), torch.tensor([0])
    torch.library.opcheck(torch.ops.fusedattn.npu_score.default, (*inputs, *numbers, *terms))
    out, row_max, row_sum, *_ = torch.ops.fusedattn.npu_score(*inputs, *numbers, *terms)
    inputs = tuple(None if t is None else t.detach() for t in inputs)
    saved = draw(*out.shape), row_max, row_sum, out.detach()
    arguments = (*inputs, *saved, *numbers, *terms, [True, False, True])
    torch.library.opcheck(torch.ops.fusedattn.npu_score_grad.default, arguments)
    torch.library.opcheck(torch.ops.fusedattn.npu_dropout_bits.default, (q.detach(), 100, 0.5, 1, 2))
