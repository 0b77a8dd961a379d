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
from torch.utils.checkpoint import checkpoint


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


VERSIONS = npu_fusion_attention, npu_fusion_attention_v2, npu_fusion_attention_v3


class Subclass(torch.Tensor):
    """No plain tensor: a call with it goes through the dispatcher."""


@pytest.mark.parametrize("kind", [torch.Tensor, Subclass])
@pytest.mark.parametrize("function", VERSIONS, ids=lambda function: function.__name__)
def test_checkpoints(function, kind):
    """What is recomputed drops what the first run dropped, and gives its gradients."""
    case = padded()
    leaves = [t.as_subclass(kind).requires_grad_() for t in (case.query, case.key, case.value)]

    def model(q, k, v):
        return function(q, k, v, 4, "BNSD", keep_prob=0.7)[0]

    found = []
    for run in (model, lambda *leaves: checkpoint(model, *leaves, use_reentrant=False)):
        torch.manual_seed(5)
        found.append(torch.autograd.grad(run(*leaves).square().sum(), leaves))
    assert all(map(torch.equal, *found))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("function", VERSIONS, ids=lambda function: function.__name__)
def test_vmap_says_how_seeds_are_drawn(function):
    query = draw(2, 4, 9, 16).expand(3, 2, 4, 9, 16)

    def mapped(randomness):
        call = torch.vmap(lambda q: function(q, q, q, 4, "BNSD", keep_prob=0.5)[0], randomness=randomness)
        return call(query)

    with pytest.raises(RuntimeError, match="randomness error mode"):
        mapped("error")
    same = mapped("same")
    assert torch.equal(same[0], same[1]) and torch.equal(same[0], same[2])
    if function is npu_fusion_attention_v3:
        different = mapped("different")
        assert not torch.equal(different[0], different[1])
    else:
        with pytest.raises(RuntimeError, match="seed is drawn for each sample.*accepted: randomness 'same'"):
            mapped("different")


def test_a_lazily_negated_gradient():
    case = padded()
    query = case.query.requires_grad_()
    out = npu_fusion_attention(query, case.key, case.value, 4, "BNSD")[0]
    dy = draw(*out.shape)
    found = [torch.autograd.grad(out, query, d, retain_graph=True)[0] for d in (torch._neg_view(dy), -dy)]
    assert torch.equal(*found)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_meta_tensors(layout):
    case = packed(tail=1, keep_prob=0.5) if layout == "TND" else padded(keep_prob=0.5)
    real, leaves = run(case, layout)
    words = {name: t.to("meta") if isinstance(t, torch.Tensor) else t for name, t in arguments(case).items()}
    metas = {name: t.detach().to("meta").requires_grad_() for name, t in leaves.items()}
    found = npu_fusion_attention_v2(head_num=4, input_layout=layout, **metas, **words)
    assert [(t.shape, t.dtype) for t in found[:4]] == [(t.shape, t.dtype) for t in real[:4]]
    assert all(t.is_meta for t in found[:4]) and found[5:] == real[5:] and isinstance(found[4], int)
    gradients = torch.autograd.grad(found[0].sum(), [*metas.values()])
    assert [t.shape for t in gradients] == [t.shape for t in leaves.values()]


META_REFUSED = [
    (dict(key=(2, 2, 7, 9)), "161002: key has head size 9; accepted: query's, 8"),
    (dict(value=(3, 2, 7, 8)), "561002: key has batch 2, value has batch 3"),
    (dict(head_num=5), "561002: head_num is 5; query has 2 heads"),
    (dict(atten_mask=(5, 6)), "561002: atten_mask has"),
    (dict(sink=(3,)), r"561002: sink has shape \[3\]"),
    (dict(dropout_mask=(4,), keep_prob=0.5), "561002: dropout_mask has"),
]


@pytest.mark.parametrize("changes, sentence", META_REFUSED, ids=[sentence for _, sentence in META_REFUSED])
def test_meta_tensors_are_checked(changes, sentence):
    given = dict(query=(2, 2, 5, 8), key=(2, 2, 7, 8), value=(2, 2, 7, 8), head_num=2) | changes
    for name, shape in given.items():
        given[name] = torch.empty(shape, device="meta") if isinstance(shape, tuple) else shape
    with pytest.raises(RuntimeError, match=f"failed with {sentence}"):
        npu_fusion_attention(input_layout="BNSD", **given)


def test_meta_tensors_of_packed_sequences_are_checked():
    query, ends = torch.empty(9, 2, 8, device="meta"), torch.empty(2, dtype=torch.int64, device="meta")
    words = dict(head_num=2, input_layout="TND", actual_seq_qlen=ends, actual_seq_kvlen=ends)
    assert npu_fusion_attention_v3(query, query, query, **words)[0].shape == (9, 2, 8)
    with pytest.raises(RuntimeError, match="value has head size 16"):
        npu_fusion_attention_v3(query, query, torch.empty(9, 2, 16, device="meta"), **words)
    with pytest.raises(RuntimeError, match="actual_seq_qlen is on device meta, where it has no numbers"):
        npu_fusion_attention(query, query, query, **words)


@pytest.mark.parametrize("ends", [torch.tensor([2.0, 5.0]), torch.tensor([[2, 5]])], ids=str)
def test_lengths_that_are_none(ends):
    query = draw(5, 2, 8)

    def model(q, ends):
        return npu_fusion_attention_v3(q, q, q, 2, "TND", actual_seq_qlen=ends, actual_seq_kvlen=ends)[0]

    torch._dynamo.reset()
    for call in (model, torch.compile(model, backend="aot_eager")):
        with pytest.raises(RuntimeError, match="actual_seq_qlen.*accepted"):
            call(query, ends)
    negated = torch._neg_view(torch.tensor([-2, -5]))
    assert torch.equal(model(query, negated), model(query, torch.tensor([2, 5])))
