"""fusedattn.merge: parts of the keys joined equal all of them, in every layout, for torch and NumPy."""

import fusedattn
import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

SHAPES = {"BNSD": (2, 3, 10, 8), "BSND": (2, 10, 3, 8), "SBND": (10, 2, 3, 8), "BSH": (2, 10, 24), "SBH": (10, 2, 24)}
ROWS = {"BNSD": 2, "BSND": 1, "SBND": 0, "BSH": 1, "SBH": 0}


def split(q, k, v, layout, cuts, **more):
    """attention() over k and v cut along their rows."""
    sizes = [later - earlier for earlier, later in zip([0, *cuts], [*cuts, k.shape[ROWS[layout]]])]
    pieces = zip(k.split(sizes, ROWS[layout]), v.split(sizes, ROWS[layout]))
    return [fusedattn.attention(q, *piece, layout=layout, return_stats=True, **more) for piece in pieces]


def check_same(got, want):
    for have, expected in zip(got, want):
        torch.testing.assert_close(have, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", SHAPES)
def test_parts_equal_the_whole(layout):
    q, k, v = (torch.randn(SHAPES[layout]) for _ in range(3))
    more = {"heads": 3} if layout in ("BSH", "SBH") else {}
    whole = fusedattn.attention(q, k, v, layout=layout, return_stats=True, **more)
    check_same(fusedattn.merge(split(q, k, v, layout, [3, 7], **more), layout=layout, **more), whole)


def test_packed_parts_equal_the_whole():
    q, k, v = (torch.randn(12, 2, 8) for _ in range(3))
    ends = [0, 5, 5, 12]
    options = {"layout": "TND", "cu_seqlens_q": ends, "return_stats": True}
    whole = fusedattn.attention(q, k, v, cu_seqlens_k=ends, **options)
    first = torch.cat((torch.arange(0, 2), torch.arange(5, 9)))
    rest = torch.cat((torch.arange(2, 5), torch.arange(9, 12)))
    parts = [
        fusedattn.attention(q, k[rows], v[rows], cu_seqlens_k=cut, **options)
        for rows, cut in ((first, [0, 2, 2, 6]), (rest, [0, 3, 3, 6]))
    ]
    check_same(fusedattn.merge(parts, layout="TND"), whole)


@pytest.mark.parametrize("rows", [1, 6, 30])
def test_a_maximum_does_not_depend_on_what_is_hidden_elsewhere(rows):
    torch.manual_seed(rows)
    q, k, v = (torch.randn(1, 2, n, 64) for n in (rows, 300, 300))
    seen = (torch.arange(300) < 290).expand(rows, 300)
    hidden = fusedattn.attention(q, k, v, mask=seen, return_stats=True)
    absent = fusedattn.attention(q, k[:, :, :290], v[:, :, :290], return_stats=True)
    assert torch.equal(hidden[1], absent[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(-6, 6), st.sampled_from([torch.float32, torch.bfloat16]))
def test_any_split_equals_the_whole(a, b, right, dtype):
    torch.manual_seed(a * 100 + b)
    q, k, v = (torch.randn(1, 2, n, 8).to(dtype) for n in (6, 12, 12))
    seen = torch.arange(12) <= torch.arange(6).unsqueeze(1) + right
    whole = fusedattn.attention(q, k, v, mask=seen, return_stats=True)
    low, high = sorted((a, b))
    parts = [
        fusedattn.attention(q, k[:, :, i:j], v[:, :, i:j], mask=seen[:, i:j], return_stats=True)
        for i, j in ((0, low), (low, high), (high, 12))
    ]
    got, swapped = fusedattn.merge(parts), fusedattn.merge(parts[::-1])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for joined in (got, swapped, fusedattn.merge([fusedattn.merge(parts[:2]), parts[2]])):
        torch.testing.assert_close(joined[0].float(), whole[0].float(), rtol=tolerance, atol=tolerance)
        assert torch.equal(joined[1], whole[1])
        torch.testing.assert_close(joined[2], whole[2], rtol=1e-5, atol=0)


def test_parts_that_saw_nothing_change_no_bit():
    q, k, v = (torch.randn(1, 2, 5, 8) for _ in range(3))
    whole = fusedattn.attention(q, k, v, return_stats=True)
    without_keys = fusedattn.attention(q, k[:, :, :0], v[:, :, :0], return_stats=True)
    hidden = fusedattn.attention(q, k, v, mask=torch.zeros(5, 5, dtype=torch.bool), return_stats=True)
    for nothing in (without_keys, hidden):
        nothing[0].fill_(torch.nan)
        for parts in ([whole, nothing], [nothing, whole]):
            assert all(torch.equal(a, b) for a, b in zip(fusedattn.merge(parts), whole))
    assert all(torch.equal(a, b) for a, b in zip(fusedattn.merge([hidden, hidden])[1:], hidden[1:]))
    assert all(torch.equal(a, b) for a, b in zip(fusedattn.merge([without_keys, without_keys])[1:], without_keys[1:]))


def test_arrays_are_joined_as_tensors():
    q, k, v = (torch.randn(2, 10, 3, 8) for _ in range(3))
    parts = split(q, k, v, "BSND", [4])
    want = fusedattn.merge(parts, layout="BSND")
    got = fusedattn.merge([tuple(t.numpy() for t in part) for part in parts], layout="BSND")
    for have, expected in zip(got, want):
        assert isinstance(have, numpy.ndarray) and numpy.array_equal(have, expected.numpy())


def test_a_compiled_call_is_the_call():
    parts = split(*(torch.randn(1, 2, 6, 8) for _ in range(3)), "BNSD", [2])
    compiled = torch.compile(lambda p: fusedattn.merge(p), fullgraph=True, backend="aot_eager")
    assert all(torch.equal(a, b) for a, b in zip(compiled(parts), fusedattn.merge(parts)))


def nested(tensor):
    return torch.nested.nested_tensor(list(tensor))


def test_the_operator_refuses_tensors_of_two_devices():
    out, m = torch.ones(1, 2, 5, 8), torch.ones(1, 2, 5)
    parts = dict(out=[out, out], max=[m, m], sum=[m, m])
    for name, (first, second) in parts.items():
        with pytest.raises(ValueError, match=rf"{name}\[1\] is on device meta and out\[0\] on cpu"):
            mixed = parts | {name: [first, second.to("meta")]}
            torch.ops.fusedattn.merge(*mixed.values(), None, "BNSD", "rows", False)


@pytest.mark.filterwarnings("ignore:.*nested")
@pytest.mark.parametrize(
    "change, error, sentence",
    [
        (lambda out, m, s: ([], {}), ValueError, "parts is empty"),
        (lambda out, m, s: (out, {}), TypeError, "parts is a Tensor"),
        (lambda out, m, s: ([out], {}), TypeError, r"parts\[0\] is a Tensor; accepted is a tuple"),
        (lambda out, m, s: ([(1, 2, 3)], {}), TypeError, r"parts\[0\] out is a int"),
        (lambda out, m, s: ([(out, m, s), (out, m, s.numpy())], {}), TypeError, r"parts\[1\] sum is a ndarray"),
        (lambda out, m, s: ([(out, m, s)], {"layout": "NBSD"}), ValueError, "layout is 'NBSD'"),
        (lambda out, m, s: ([(out, m, s)], {"heads": 2}), ValueError, "heads is 2 with layout 'BNSD'"),
        (lambda out, m, s: ([(out[0], m, s)], {"layout": "BSH"}), ValueError, "heads is None"),
        (lambda out, m, s: ([(out[0], m, s)], {}), ValueError, "layout 'BNSD' needs 4 dimensions"),
        (lambda out, m, s: ([(out, m, s), (out[:, :, 1:], m, s)], {}), ValueError, r"parts\[1\] out has shape"),
        (lambda out, m, s: ([(out, m[:, :1], s)], {}), ValueError, r"parts\[0\] max has shape"),
        (lambda out, m, s: ([(out.double(), m, s)], {}), ValueError, "out has dtype torch.float64"),
        (lambda out, m, s: ([(out, m, s.half())], {}), ValueError, r"parts\[0\] sum has dtype torch.float16"),
        (lambda out, m, s: ([(out, m, s), (out.half(), m, s)], {}), ValueError, r"parts\[1\] out has dtype"),
        (lambda out, m, s: ([(out, m, s.to_sparse())], {}), ValueError, r"parts\[0\] sum has layout torch.sparse_coo"),
        (lambda out, m, s: ([(nested(out), m, s)], {}), ValueError, r"parts\[0\] out is a nested tensor"),
        (lambda out, m, s: (nested(out), {}), TypeError, "parts is a Tensor; accepted is a list of tuples"),
        (lambda out, m, s: ([(out, m.to("meta"), s)], {}), ValueError, r"parts\[0\] max is on device meta and"),
        (lambda out, m, s: ([(out.requires_grad_(), m, s)], {}), NotImplementedError, r"parts\[0\] out requires grad"),
    ],
)
def test_refusals(change, error, sentence):
    parts, more = change(torch.ones(1, 2, 5, 8), torch.ones(1, 2, 5), torch.ones(1, 2, 5))
    with pytest.raises(error, match=sentence):
        fusedattn.merge(parts, **more)
