"""Token compression: the upstream cases against an independent formula in float64, gradients, torch's ways."""

import itertools

import fusedattn
import numpy as np
import pytest
import torch
from fusedattn.like.torch_npu_nsa import npu_nsa_compress, npu_nsa_compress_grad

DTYPES = [torch.float16, torch.bfloat16, torch.float32]
THRESHOLD = {torch.float16: 2**-11, torch.bfloat16: 2**-8, torch.float32: 2**-14}
MEAN_THRESHOLD = {torch.float16: 2**-10, torch.bfloat16: 2**-7, torch.float32: 2**-14}


def windows_of(ends, block, stride):
    """(first token of every window), by slicing each sequence anew."""
    bounds = [0, *ends]
    starts = [range(begin, end - block + 1, stride) for begin, end in zip(bounds, bounds[1:])]
    return list(itertools.chain.from_iterable(starts))


def golden(input, weight, ends, stride):
    """The formula in float64, as one matrix product of gathered windows: [windows, N, D]."""
    block = len(weight)
    starts = torch.tensor(windows_of(ends, block, stride), dtype=torch.long)
    rows = input.double()[starts[:, None] + torch.arange(block)]  # [windows, block, N, D]
    return torch.einsum("wlnd,ln->wnd", rows, weight.double())


def golden_gradients(input, weight, ends, stride, grad):
    leaves = [t.detach().double().requires_grad_() for t in (input, weight)]
    return torch.autograd.grad(golden(*leaves, ends, stride), leaves, grad.double())


def assert_close(got, want, dim, what=""):
    """The rule of the upstream tests, its mean two-sided: only float32 sums rounded once pass."""
    assert got.shape == want.shape, what
    if not want.numel():
        return
    error = (got.detach().double() - want.detach()) / want.detach().abs().clamp(min=1)
    threshold = THRESHOLD[got.dtype] * (10 if dim >= 2048 else 1)
    assert error.abs().max() <= threshold, f"{what}: {error.abs().max():.2e} of {threshold:.2e}"
    assert error.mean().abs() < MEAN_THRESHOLD[got.dtype], what


def draw(tokens, heads, dim, block, dtype):
    return torch.randn(tokens, heads, dim).to(dtype), torch.randn(block, heads).to(dtype)


def check(input, weight, ends, stride, grad=None):
    """Forward, and both ways to the gradients, against the formula; returns the output."""
    block, dim = len(weight), input.shape[-1]
    leaves = [t.detach().requires_grad_() for t in (input, weight)]
    out = npu_nsa_compress(*leaves, block, stride, actual_seq_len=ends)
    assert out.dtype == input.dtype and out.is_contiguous()
    assert_close(out, golden(input, weight, ends, stride), dim, "output")
    grad = torch.ones_like(out) if grad is None else grad(out)
    by_autograd = torch.autograd.grad(out, leaves, grad)
    by_door = npu_nsa_compress_grad(grad, input, weight, block, stride, actual_seq_len=ends)
    for name, first, second, want in zip(
        ("input", "weight"), by_autograd, by_door, golden_gradients(input, weight, ends, stride, grad)
    ):
        assert torch.equal(first, second)
        assert_close(first, want, dim, f"gradient of {name}")
    return out


LENGTHS_80_96_80 = [80, 176, 256]
CASES = [  # tokens' ends, N, D, block, stride
    ("C example", [64], 4, 32, 32, 32),
    ("documentation", LENGTHS_80_96_80, 8, 128, 64, 16),
    ("4 heads, 16/16", LENGTHS_80_96_80, 4, 128, 16, 16),
    ("8 heads, 32/16", LENGTHS_80_96_80, 8, 128, 32, 16),
    ("4 heads, 64/16", LENGTHS_80_96_80, 4, 128, 64, 16),
    ("128 heads, 128/16", [160, 330], 128, 256, 128, 16),
    ("1 head, 32/32", [70, 100], 1, 16, 32, 32),
    ("lengths around windows", list(itertools.accumulate([32, 48, 63, 16, 17, 31])), 2, 32, 32, 16),
    ("all short", [10, 31, 32], 2, 16, 32, 16),
    ("gradient's C example", [0, 128, 272], 4, 32, 32, 16),
    ("gradient's unit test", [0, 120, 140, 272], 128, 192, 32, 16),
    ("gradient's golden", [0, 5, 49], 128, 192, 32, 16),
    ("head size 1024", [100], 2, 1024, 32, 16),
]
ROWS = {
    "C example": 2,
    "documentation": 7,
    "all short": 0,
    "gradient's C example": 15,
    "gradient's unit test": 13,
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name, ends, heads, dim, block, stride", CASES, ids=[case[0] for case in CASES])
def test_upstream_cases(name, ends, heads, dim, block, stride, dtype):
    input, weight = draw(ends[-1], heads, dim, block, dtype)
    out = check(input, weight, ends, stride)
    assert len(out) == ROWS.get(name, len(out)) == len(windows_of(ends, block, stride))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_random_lengths_with_empty_sequences(dtype):
    lengths = torch.randint(0, 100, (48,))
    lengths[[3, 4, 20]] = 0
    ends = lengths.cumsum(0).tolist()
    input, weight = draw(ends[-1], 4, 128, 16, dtype)
    check(input, weight, ends, 16, torch.randn_like)


def test_gradient_rounds_once():
    """As the operator's golden has it: uniform numbers, whose sums a 16-bit accumulator would lose."""
    input, weight = torch.rand(2049, 2, 64).half(), torch.rand(32, 2).half() / 64
    check(input, weight, [2049], 16, lambda out: torch.rand_like(out) / 4096)


def test_leading_zero_list_and_tuple_are_the_same():
    input, weight = draw(130, 2, 32, 32, torch.bfloat16)
    given = [[50, 130], (50, 130), [0, 50, 130], (0, 0, 50, 50, 130)]
    outs = [npu_nsa_compress(input, weight, 32, 16, actual_seq_len=ends) for ends in given]
    grads = [npu_nsa_compress_grad(outs[0], input, weight, 32, 16, actual_seq_len=ends) for ends in given]
    for out, (grad_input, grad_weight) in zip(outs, grads):
        assert torch.equal(out, outs[0])
        assert torch.equal(grad_input, grads[0][0]) and torch.equal(grad_weight, grads[0][1])


def test_gradient_without_a_list_is_one_sequence():
    input, weight = draw(100, 2, 32, 32, torch.float32)
    out = npu_nsa_compress(input, weight, 32, 16, actual_seq_len=[100])
    given = npu_nsa_compress_grad(out, input, weight, 32, 16, actual_seq_len=[100])
    for a, b in zip(npu_nsa_compress_grad(out, input, weight, 32, 16), given):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_strides(dtype):
    ends = [80, 150]
    packed = torch.randn(4, 32, 150).to(dtype)
    input = packed.permute(2, 0, 1)  # its last dimension is not contiguous
    weight = torch.randn(4, 32).to(dtype).t()
    check(input, weight, ends, 16, torch.randn_like)
    heads_first = torch.randn(4, 150, 32).to(dtype).transpose(0, 1)
    check(heads_first, weight, ends, 16, torch.randn_like)
    check(
        torch.randn(150, 4, 64).to(dtype)[..., 32:],
        weight,
        ends,
        16,
        lambda out: out.new_ones(()).expand(out.shape),
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_not_a_number_stays_in_its_windows(dtype, bad):
    input, weight = draw(96, 2, 32, 32, dtype)
    weight[5] = 0
    input[40, 1, 3] = bad
    out = npu_nsa_compress(input, weight, 32, 16, actual_seq_len=[96])
    hit = torch.zeros(out.shape, dtype=torch.bool)
    hit[1:3, 1, 3] = True  # tokens 16..47 and 32..63
    assert not out[hit].isfinite().any() and out[~hit].isfinite().all()
    _, grad_weight = npu_nsa_compress_grad(torch.ones_like(out), input, weight, 32, 16, actual_seq_len=[96])
    touched = torch.zeros(32, 2, dtype=torch.bool)
    touched[[24, 8], 1] = True
    assert not grad_weight[touched].isfinite().any() and grad_weight[~touched].isfinite().all()


def test_overflow_is_infinite():
    input = torch.full((32, 1, 16), 60000.0, dtype=torch.float16)
    weight = torch.ones(32, 1, dtype=torch.float16)
    assert (npu_nsa_compress(input, weight, 32, 16, actual_seq_len=[32]) == float("inf")).all()
    assert (npu_nsa_compress(-input, weight, 32, 16, actual_seq_len=[32]) == float("-inf")).all()


def test_gradients_are_finite_differences():
    """The gradients of a loss, against central differences of the formula in float64."""
    ends, stride = [11, 40], 3
    input, weight = draw(40, 2, 5, 7, torch.float32)
    direction = [torch.randn_like(input), torch.randn_like(weight)]
    loss = torch.randn(len(windows_of(ends, 7, stride)), 2, 5).double()
    leaves = [t.clone().requires_grad_() for t in (input, weight)]
    out = fusedattn.nsa_compress(*leaves, ends, 7, stride)
    grads = torch.autograd.grad(out, leaves, loss.float())
    for index, step in itertools.product(range(2), [1e-4]):
        moved = [[t.double() for t in (input, weight)] for _ in range(2)]
        for sign, tensors in zip((1, -1), moved):
            tensors[index] = tensors[index] + sign * step * direction[index].double()
        plus, minus = ((golden(*tensors, ends, stride) * loss).sum() for tensors in moved)
        want = (plus - minus) / (2 * step)
        got = (grads[index].double() * direction[index].double()).sum()
        assert abs(got - want) <= 2e-5 * max(1, abs(want))


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_one_gradient_alone(needs):
    input, weight = draw(60, 2, 16, 32, torch.float32)
    both = [t.clone().requires_grad_() for t in (input, weight)]
    npu_nsa_compress(*both, 32, 16, actual_seq_len=[60]).sum().backward()
    leaves = [t.clone().requires_grad_(need) for t, need in zip((input, weight), needs)]
    npu_nsa_compress(*leaves, 32, 16, actual_seq_len=[60]).sum().backward()
    for leaf, whole, need in zip(leaves, both, needs):
        assert torch.equal(leaf.grad, whole.grad) if need else leaf.grad is None


def test_linear_in_both_and_the_inner_product():
    ends, stride = [50, 120], 16
    input, weight = draw(120, 2, 16, 32, torch.float32)
    other = torch.randn_like(input)

    def compressed(a, b):
        return fusedattn.nsa_compress(a, b, ends, 32, stride)

    torch.testing.assert_close(
        compressed(input + 2 * other, weight),
        compressed(input, weight) + 2 * compressed(other, weight),
        atol=1e-4,
        rtol=1e-5,
    )
    torch.testing.assert_close(
        compressed(input, -3 * weight), -3 * compressed(input, weight), atol=1e-4, rtol=1e-5
    )
    out = compressed(input, weight)
    grad = torch.randn_like(out)
    grad_input, grad_weight = npu_nsa_compress_grad(grad, input, weight, 32, stride, actual_seq_len=ends)
    inner = [
        (a.double() * b.double()).sum() for a, b in ((out, grad), (input, grad_input), (weight, grad_weight))
    ]
    torch.testing.assert_close(inner[1], inner[0], atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(inner[2], inner[0], atol=1e-3, rtol=1e-5)


def test_any_number_of_threads():
    input, weight = draw(3000, 4, 64, 32, torch.bfloat16)
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        out = npu_nsa_compress(input, weight, 32, 16, actual_seq_len=[1700, 3000])
        results.append((out, *npu_nsa_compress_grad(out, input, weight, 32, 16, actual_seq_len=[1700, 3000])))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_compiled_and_meta():
    ends = [80, 176, 256]
    input, weight = draw(256, 4, 32, 64, torch.float16)

    def step(input, weight):
        return npu_nsa_compress(input, weight, 64, 16, actual_seq_len=ends) * 2

    leaves = [[t.clone().requires_grad_() for t in (input, weight)] for _ in range(2)]
    for function, tensors in zip((step, torch.compile(step, fullgraph=True)), leaves):
        function(*tensors).float().sum().backward()
    for eager, compiled in zip(*leaves):
        assert torch.equal(eager.grad, compiled.grad)
    meta = [t.to("meta") for t in (input, weight)]
    out = npu_nsa_compress(*meta, 64, 16, actual_seq_len=ends)
    assert out.is_meta and out.shape == (7, 4, 32) and out.dtype == torch.float16
    grads = npu_nsa_compress_grad(out, *meta, 64, 16, actual_seq_len=ends)
    assert [g.shape for g in grads] == [t.shape for t in meta]


def test_operators_are_well_made():
    leaves = [torch.randn(20, 2, 3, requires_grad=True), torch.randn(4, 2, requires_grad=True)]
    torch.library.opcheck(torch.ops.fusedattn.nsa_compress.default, (*leaves, [7, 20], 4, 3))
    plain = [torch.randn(6, 2, 3), *(t.detach() for t in leaves)]
    torch.library.opcheck(
        torch.ops.fusedattn.nsa_compress_backward.default, (*plain, [7, 20], 4, 3, [True, True])
    )


def test_derivatives_that_are_not_computed():
    input, weight = draw(40, 1, 16, 32, torch.float32)

    def compressed(input):
        return fusedattn.nsa_compress(input, weight, None, 32, 16)

    with pytest.raises(NotImplementedError, match="forward-mode"):
        torch.func.jvp(compressed, (input,), (input,))
    with pytest.raises(NotImplementedError, match=r"torch\.func\.grad"):
        torch.func.grad(lambda x: compressed(x).sum())(input)
    leaf = input.clone().requires_grad_()
    (first,) = torch.autograd.grad(compressed(leaf).square().sum(), leaf, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivatives"):
        first.sum().backward()


@pytest.mark.parametrize("dtype", [np.float32, np.float16, "bfloat16"], ids=str)
def test_arrays(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    generator = np.random.default_rng(3)
    input = generator.standard_normal((5, 60, 2)).astype(dtype).transpose(1, 2, 0)
    weight = generator.standard_normal((9, 2)).astype(dtype)
    ends = np.array([0, 31, 60])
    out = fusedattn.nsa_compress(input, weight, ends, 9, 4)
    tensors = [torch.from_numpy(a.astype(np.float64)) for a in (input, weight)]
    want = golden(*tensors, ends.tolist(), 4).numpy()
    assert out.dtype == dtype and out.shape == want.shape
    np.testing.assert_allclose(
        out.astype(np.float64), want, rtol=2**-8 if dtype != np.float32 else 1e-5, atol=1e-5
    )
    assert np.array_equal(
        fusedattn.nsa_compress(input, weight, None, 9, 4), fusedattn.nsa_compress(input, weight, [60], 9, 4)
    )


@pytest.mark.parametrize(
    "change, error, match",
    [
        ({"input": 3}, TypeError, "input is a int"),
        ({"weight": np.ones((4, 2), np.float32)}, TypeError, "weight is a ndarray"),
        ({"input": torch.ones(20, 6)}, ValueError, "input has shape"),
        ({"input": torch.ones(20, 2, 3, dtype=torch.float64)}, ValueError, "input has dtype float64"),
        ({"weight": torch.ones(4, 2).half()}, ValueError, "weight has dtype float16"),
        ({"weight": torch.ones(5, 2)}, ValueError, "weight has shape"),
        ({"ends": 20}, TypeError, "ends is 20"),
        ({"ends": [10, 5]}, ValueError, r"ends\[1\] is 5"),
        ({"ends": [21]}, ValueError, r"ends\[-1\] is 21"),
        ({"ends": [1.5]}, TypeError, r"ends\[0\] is 1.5"),
        ({"block": 4.0}, TypeError, "block is 4.0"),
        ({"stride": 5}, ValueError, "stride is 5"),
        ({"stride": 0}, ValueError, "stride is 0"),
        ({"input": torch.ones(20, 2, 3).to_sparse()}, ValueError, "input has layout torch.sparse_coo"),
        ({"weight": torch.ones(4, 2).to_sparse()}, ValueError, "weight has layout torch.sparse_coo"),
        ({"input": torch.ones(20, 2, 3).to_mkldnn()}, ValueError, "input has layout torch._mkldnn"),
        ({"weight": torch.ones(4, 2, device="meta")}, ValueError, "weight is on device meta"),
        ({"ends": torch.empty(2, device="meta")}, TypeError, "ends is a Tensor whose numbers cannot be read"),
    ],
)
def test_refusals(change, error, match):
    arguments = {
        "input": torch.ones(20, 2, 3),
        "weight": torch.ones(4, 2),
        "ends": [20],
        "block": 4,
        "stride": 2,
    }
    assert len(fusedattn.nsa_compress(**arguments)) == 9
    with pytest.raises(error, match=match):
        fusedattn.nsa_compress(**arguments | change)
