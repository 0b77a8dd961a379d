"""The SDPA door against torch's own function: its math backend, in float64."""

import inspect
import itertools

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.attention.bias import causal_lower_right, causal_upper_left  # noqa: E402

import fusedattn  # noqa: E402
from fusedattn import tensors  # noqa: E402
from fusedattn.like import sdpa, sdpa_arguments, sdpa_shapes  # noqa: E402

ours = sdpa.scaled_dot_product_attention
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors here are small: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def theirs(*given, **words):
    """torch's math backend, in float64."""
    with sdpa_kernel(SDPBackend.MATH):
        return torch.nn.functional.scaled_dot_product_attention(
            *(_double(value) for value in given), **{name: _double(value) for name, value in words.items()}
        )


def _double(value):
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().double().requires_grad_(value.requires_grad)
    return value


def agree(query, key, value, attn_mask=None, **words):
    """Output and every gradient are torch's."""
    given = [query, key, value, attn_mask]
    out = ours(*given, **words)
    reference = [_double(value) for value in given]
    with sdpa_kernel(SDPBackend.MATH):
        expected = torch.nn.functional.scaled_dot_product_attention(*reference, **words)
    assert out.shape == expected.shape and out.dtype == query.dtype
    pairs = [(out, expected)]
    leaves = [i for i, tensor in enumerate(given) if tensor is not None and tensor.requires_grad]
    if leaves and out.numel():
        d_out = torch.randn(out.shape, dtype=out.dtype)
        found = torch.autograd.grad(out, [given[i] for i in leaves], d_out)
        wanted = torch.autograd.grad(expected, [reference[i] for i in leaves], d_out.double())
        assert [t.dtype for t in found] == [given[i].dtype for i in leaves]
        pairs += zip(found, wanted)
    for a, b in pairs:
        allowed = TOLERANCE[query.dtype] * max(1.0, b.abs().max().item() if b.numel() else 0.0)
        torch.testing.assert_close(a.double(), b, atol=allowed, rtol=0)


@st.composite
def calls(draw):
    """Tensors of 2 to 6 dimensions that broadcast, and a mask of any shape that does."""
    batch = draw(st.lists(st.integers(1, 3), max_size=3))
    rows, columns, features, features_v = (draw(st.integers(1, 9)) for _ in range(4))
    enable_gqa = draw(st.booleans())
    heads = draw(st.sampled_from((1, 2, 4)))
    flat = not batch and not enable_gqa and draw(st.booleans())
    shapes = []
    for tail in ((rows, features), (columns, features), (columns, features_v)):
        lead = [size if draw(st.booleans()) else 1 for size in batch][draw(st.integers(0, len(batch))) :]
        few = draw(st.sampled_from([n for n in (1, 2, 4) if heads % n == 0] if enable_gqa else (1, heads)))
        shapes.append(tail if flat else (*lead, few, *tail))
    if enable_gqa:
        shapes[0] = (*shapes[0][:-3], heads, *shapes[0][-2:])
    dtype = draw(st.sampled_from(list(TOLERANCE)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    query, key, value = (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes
    )
    probe = torch.broadcast_shapes(*(t.shape[: -3 if enable_gqa else -2] for t in (query, key, value)))
    scores = (*probe, *query.shape[-3 if enable_gqa else -2 : -2], rows, columns)
    words = {"enable_gqa": enable_gqa, "scale": draw(st.sampled_from((None, 0.3, -0.7)))}
    kind = draw(st.sampled_from(("none", "causal", "bool", "float", "float32")))
    # the shapes of torch's scores do not know value's leading dimensions
    known = torch.broadcast_shapes(*(t.shape[: -3 if enable_gqa else -2] for t in (query, key)))
    if kind in ("none", "causal") or known != probe:
        return (query, key, value), dict(words, is_causal=kind == "causal")
    first = draw(st.integers(0, len(scores)))
    shape = [size if draw(st.booleans()) else 1 for size in scores[first:]]
    if kind == "bool":
        return (query, key, value, torch.rand(shape, generator=generator) > 0.4), words
    mask = torch.randn(shape, generator=generator).to(torch.float32 if kind == "float32" else dtype)
    return (query, key, value, mask.requires_grad_(draw(st.booleans()))), words


@given(calls())
@settings(max_examples=100, deadline=None)
def test_every_legal_call_gives_torchs_output_and_gradients(call):
    tensors, words = call
    agree(*tensors, **words)


@pytest.mark.parametrize("enable_gqa", [False, True])
def test_a_mask_broadcasts_in_every_way(enable_gqa):
    query, key, value = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    if not enable_gqa:
        key, value = torch.randn(2, 1, 4, 5, 8), torch.randn(2, 4, 5, 8)
    full = (2, 4, 3, 5) if enable_gqa else (2, 2, 4, 3, 5)
    for rank in range(len(full) + 1):
        for ones in itertools.product((False, True), repeat=rank):
            shape = [1 if one else size for one, size in zip(ones, full[len(full) - rank :])]
            agree(query, key, value, torch.randn(shape, requires_grad=True), enable_gqa=enable_gqa)
            agree(query, key, value, torch.rand(shape) > 0.4, enable_gqa=enable_gqa)


@pytest.mark.parametrize("floating", [False, True])
def test_a_query_that_sees_nothing_has_output_and_gradient_zero(floating):
    query, key, value = (torch.randn(1, 2, 4, 8, requires_grad=True) for _ in range(3))
    mask = torch.rand(4, 4) > 0.3
    mask[2] = False
    if floating:
        mask = torch.zeros(4, 4).masked_fill(~mask, float("-inf"))
    out = ours(query, key, value, mask)
    out.sum().backward()
    assert not out[:, :, 2].any() and not query.grad[:, :, 2].any()
    agree(query, key, value, mask)


def test_empty_dimensions_are_torchs():
    for shapes in (((2, 0, 8), (2, 5, 8)), ((2, 3, 8), (2, 0, 8)), ((0, 2, 3, 8), (0, 2, 5, 8))):
        agree(torch.randn(shapes[0]), torch.randn(shapes[1]), torch.randn(shapes[1]))


@pytest.mark.parametrize("make", [causal_upper_left, causal_lower_right])
@pytest.mark.parametrize("sizes", [(3, 5), (4, 4), (5, 3)])
@pytest.mark.filterwarnings("ignore:Lower right causal bias")
def test_torchs_causal_bias_is_a_band(make, sizes):
    query, key, value = (
        torch.randn(2, 2, sizes[0], 8),
        torch.randn(2, 2, sizes[1], 8),
        torch.randn(2, 2, sizes[1], 8),
    )
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, make(*sizes))
    torch.testing.assert_close(ours(query, key, value, make(*sizes)), expected)


def test_torchs_seed_governs_dropout():
    query, key, value = (torch.randn(2, 3, 8, 8, requires_grad=True) for _ in range(3))
    torch.manual_seed(4)
    one, two = ours(query, key, value, dropout_p=0.4), ours(query, key, value, dropout_p=0.4)
    torch.manual_seed(4)
    torch.testing.assert_close(ours(query, key, value, dropout_p=0.4), one, atol=0, rtol=0)
    assert not torch.equal(one, two)
    torch.manual_seed(4)
    seed = torch.randint(0, 2**63 - 1, (1,)).item()
    kept = torch.from_numpy(fusedattn.dropout_mask((2, 3, 8, 8), 0.4, seed)) / 0.6
    weights = torch.softmax(query @ key.transpose(-1, -2) / 8**0.5, -1) * kept
    torch.testing.assert_close(one, weights @ value, atol=1e-5, rtol=0)


def test_all_weights_may_be_dropped():
    query, key, value = (torch.randn(2, 3, 4, 8, requires_grad=True) for _ in range(3))
    bias = torch.randn(4, 4, requires_grad=True)
    out = ours(query, key, value, bias, dropout_p=1)
    out.sum().backward()
    assert not any(tensor.any() for tensor in (out, query.grad, key.grad, value.grad, bias.grad))
    assert ours(query, key, value, dropout_p=False).any()


def test_the_output_lies_in_memory_as_query_does():
    for order in ((0, 1, 2, 3), (0, 2, 1, 3)):
        query, key, value = (torch.randn(2, 3, 3, 8).permute(order) for _ in range(3))
        assert ours(query, key, value).stride() == torch.empty_like(query).stride()
        assert torch.nn.functional.scaled_dot_product_attention(query, key, value).stride() == query.stride()


@pytest.fixture
def copies(monkeypatch):
    """The names of tensors that were copied."""
    names = []
    for module in (tensors, sdpa_shapes):
        monkeypatch.setattr(module, "announce_copy", lambda name, *_: names.append(name))
    return names


VIEWS = {  # query's shape, mask's shape
    "one row of columns per sequence": ((2, 4, 6, 8), (2, 1, 1, 6)),
    "all sequences and heads": ((2, 4, 6, 8), (6, 6)),
    "one number per column": ((2, 4, 6, 8), (6,)),
    "heads": ((2, 4, 6, 8), (4, 6, 6)),
    "5-D: rows of an alignment": ((2, 5, 4, 6, 8), (2, 5, 1, 1, 6)),
    "5-D: pairs, one sequence": ((1, 5, 4, 6, 8), (1, 1, 4, 6, 6)),
    "5-D: repeats over the middle": ((2, 5, 4, 6, 8), (2, 1, 1, 6, 6)),
    "6-D": ((2, 3, 5, 4, 6, 8), (2, 3, 1, 1, 1, 6)),
}


@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize("shapes", VIEWS.values(), ids=VIEWS.keys())
def test_nothing_is_copied_where_strides_say_it(shapes, floating, copies):
    query, key, value = (torch.randn(shapes[0]) for _ in range(3))
    mask = torch.randn(shapes[1])
    mask = mask if floating else mask > 0
    torch.testing.assert_close(
        ours(query, key, value, mask).double(), theirs(query, key, value, mask), atol=1e-5, rtol=0
    )
    assert copies == []


def test_what_no_strides_say_is_copied_and_said(copies):
    query, key, value = (torch.randn(2, 5, 4, 6, 8) for _ in range(3))
    agree(query, key, value, torch.randn(2, 1, 4, 6, 6))
    assert copies == ["attn_mask"]


Q = torch.zeros(2, 3, 4, 8)
REFUSED = {
    "query is a list; accepted is a tensor": (TypeError, dict(query=[1])),
    "attn_mask is a list; accepted are None and a tensor": (TypeError, dict(attn_mask=[1])),
    "is_causal is 1; accepted are True and False": (TypeError, dict(is_causal=1)),
    "enable_gqa is None; accepted are True": (TypeError, dict(enable_gqa=None)),
    "scale is 'a'; accepted is a number": (TypeError, dict(scale="a")),
    "dropout_p is None; accepted are": (TypeError, dict(dropout_p=None)),
    "dropout_p is 1.5; accepted are numbers from 0": (RuntimeError, dict(dropout_p=1.5)),
    "dropout_p is -0.5; accepted are": (RuntimeError, dict(dropout_p=-0.5)),
    "dropout_p is nan; accepted are": (RuntimeError, dict(dropout_p=float("nan"))),
    "scale is inf; accepted are finite": (NotImplementedError, dict(scale=float("inf"))),
    "key is on device meta; accepted is the CPU": (NotImplementedError, dict(key=Q.to("meta"))),
    "value has layout torch.sparse_coo": (NotImplementedError, dict(value=Q.to_sparse())),
    "key has shape (8,); accepted are 2 dimensions": (RuntimeError, dict(key=Q[0, 0, 0])),
    "query has shape (4, 8); accepted are 3 dimensions": (RuntimeError, dict(query=Q[0, 0], enable_gqa=True)),
    "value has dtype torch.float16; accepted is query's": (RuntimeError, dict(value=Q.half())),
    "query has dtype torch.float64; accepted are torch.float32": (
        NotImplementedError,
        dict(query=Q.double(), key=Q.double(), value=Q.double()),
    ),
    "key has 4 features; accepted is query's number, 8": (RuntimeError, dict(key=Q[..., :4])),
    "value has 2 rows; accepted is key's number, 4": (RuntimeError, dict(value=Q[:, :, :2])),
    "key has 2 heads; accepted with enable_gqa=True": (RuntimeError, dict(key=Q[:, :2], enable_gqa=True)),
    "(2, 3), (2, 2), (2, 3); accepted are such that broadcast": (RuntimeError, dict(key=Q[:, :2])),
    "query has 0 heads": (NotImplementedError, dict(query=Q[:, :0], key=Q[:, :0], value=Q[:, :0])),
    "value has 769 features; accepted are 1 to 768": (
        NotImplementedError,
        dict(value=torch.zeros(2, 3, 4, 769)),
    ),
    "attn_mask is given with is_causal=True": (RuntimeError, dict(attn_mask=Q[..., :4] > 0, is_causal=True)),
    "attn_mask has dtype torch.int32": (RuntimeError, dict(attn_mask=Q[..., :4].int())),
    "attn_mask has shape (5, 4); accepted is what broadcasts to (2, 3, 4, 4)": (
        RuntimeError,
        dict(attn_mask=torch.zeros(5, 4)),
    ),
    "attn_mask has shape (1, 2, 3, 4, 4); accepted": (RuntimeError, dict(attn_mask=Q[None, ..., :4])),
    "attn_mask is a CausalBias of 4 queries and 5 keys": (
        RuntimeError,
        dict(attn_mask=causal_lower_right(4, 5)),
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_refusal_names_the_argument_and_what_is_accepted(sentence):
    error, changed = REFUSED[sentence]
    with pytest.raises(error) as refused:
        ours(**(dict(query=Q, key=Q, value=Q) | changed))
    assert type(refused.value) is error and sentence in str(refused.value)


def test_a_call_that_passed_does_not_let_others_pass():
    ours(Q, Q, Q, is_causal=True)
    for changed in (
        dict(is_causal=1),
        dict(value=Q.double()),
        dict(attn_mask=Q[0, 0, :, :4] > 0, is_causal=True),
    ):
        with pytest.raises((TypeError, RuntimeError)):
            ours(**(dict(query=Q, key=Q, value=Q, is_causal=True) | changed))


def test_the_limits_are_the_librarys():
    for query, value in ((1537, 8), (8, 769)):
        shapes = ((1, 1, 2, query), (1, 1, 2, query), (1, 1, 2, value))
        with pytest.raises(ValueError):
            fusedattn.attention(*(torch.zeros(shape) for shape in shapes))
    assert sdpa_arguments.MOST_FEATURES == {"query": 1536, "value": 768}
    agree(torch.randn(1, 1, 2, 1536), torch.randn(1, 1, 2, 1536), torch.randn(1, 1, 2, 768))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_casts_as_torchs_function_does(dtype):
    query, key, value = (torch.randn(1, 2, 9, 8, requires_grad=True) for _ in range(3))
    for mask in (None, torch.rand(9, 9) > 0.3, torch.randn(9, 9, requires_grad=True)):
        with torch.autocast("cpu", dtype):
            out = ours(query, key, value, mask)
        out.float().sum().backward()
        assert out.dtype == dtype and query.grad.dtype == torch.float32
        torch.testing.assert_close(
            out.double(), theirs(query, key, value, mask), atol=TOLERANCE[dtype], rtol=0
        )


class Watcher(torch.Tensor):
    calls: list = []

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.calls.append(func)
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_subclass_takes_the_call_by_torchs_protocol():
    watched = ours(Q.as_subclass(Watcher), Q, Q)
    assert ours in Watcher.calls and type(watched) is Watcher


def test_the_signature_is_torchs():
    names = inspect.signature(ours).parameters
    assert list(names) == [
        "query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa",
    ]  # fmt: skip
    assert [names[name].kind for name in ("scale", "enable_gqa")] == [inspect.Parameter.KEYWORD_ONLY] * 2
