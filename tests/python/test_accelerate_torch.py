"""accelerate_torch(): who calls torch's attention runs on fusedattn, and gets torch's own back on undo."""

import copy
import subprocess
import sys
import threading
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import fusedattn  # noqa: E402
from fusedattn import tensors  # noqa: E402
from fusedattn.like import sdpa_entry, sdpa_kernels  # noqa: E402

TORCHS_OWN = F.scaled_dot_product_attention  # ends in the dispatcher, as C++ callers do
OPERATORS = (sdpa_kernels.FORWARD, sdpa_kernels.BACKWARD, "aten::scaled_dot_product_attention")
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 4e-2, torch.float16: 5e-3}


@pytest.fixture(autouse=True)
def torch_is_left_as_it_was():
    before = state()
    yield
    assert state() == before


def state() -> list:
    """All that an acceleration changes in torch."""
    kernels = [torch._C._dispatch_dump(name) + torch._C._dispatch_dump_table(name) for name in OPERATORS]
    impls = [key for key in torch.library._impls if "scaled_dot" in key]
    return [*kernels, F.scaled_dot_product_attention, impls, torch.is_warn_always_enabled()]


@pytest.fixture
def runs(monkeypatch):
    """How often the library has run: {"forward": n, "backward": n}."""
    counts = {"forward": 0, "backward": 0}

    def counting(name, function):
        def counted(*given, **words):
            counts[name] += 1
            return function(*given, **words)

        return counted

    for name in counts:
        monkeypatch.setattr(tensors, name, counting(name, getattr(tensors, name)))
    return counts


def tensor(*shape, order="BNSD", dtype=torch.float32):
    """Random, [B,N,S,D], as it lies in memory when it was made in this order."""
    axes = ["BNSD".index(letter) for letter in order]
    back = [axes.index(axis) for axis in range(4)]
    made = torch.randn([shape[axis] for axis in axes]).to(dtype)
    return made.permute(back).requires_grad_()


def results(attend, given, *words, **more):
    """The output and gradients of all that requires them."""
    out = attend(*given, *words, **more)
    leaves = [value for value in given if isinstance(value, torch.Tensor) and value.requires_grad]
    torch.manual_seed(3)
    d_out = torch.randn(out.shape, dtype=torch.float64)
    return [out, *torch.autograd.grad(out, leaves, d_out.to(out.dtype))]


def exactly(given, **more):
    """The same by torch's math, in float64."""
    doubled = [
        v.detach().double().requires_grad_(v.requires_grad) if v is not None and v.is_floating_point() else v
        for v in given
    ]
    with sdpa_kernel(SDPBackend.MATH):
        return results(TORCHS_OWN, doubled, **more)


def close(found, wanted, tolerance):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(
            a.double(), b.double(), atol=tolerance * max(1, b.abs().max().item()), rtol=0
        )


MASKS = {
    "none": (lambda: None, {}),
    "causal": (lambda: None, {"is_causal": True}),
    "bool": (lambda: (torch.rand(2, 1, 7, 9) > 0.3) & (torch.arange(7) != 2)[:, None], {}),
    "padding": (lambda: torch.rand(2, 1, 1, 9) > 0.3, {}),
    "float": (lambda: torch.randn(7, 9), {}),
    "one number a row": (lambda: torch.randn(7, 1), {}),
}


@pytest.mark.parametrize("attend", ["torch.nn.functional", "dispatcher"])
@pytest.mark.parametrize("order", ["BNSD", "BSND", "NSDB"])
@pytest.mark.parametrize("mask", MASKS)
def test_both_ways_in_run_on_us_and_agree_with_float64(attend, order, mask, runs):
    make, more = MASKS[mask]
    for dtype, tolerance in TOLERANCE.items():
        sizes = ((2, 4, 7, 16), (2, 2, 9, 16), (2, 2, 9, 16))
        given = [tensor(*size, order=order, dtype=dtype) for size in sizes] + [make()]
        with fusedattn.accelerated():
            function = TORCHS_OWN if attend == "dispatcher" else F.scaled_dot_product_attention
            found = results(function, given, enable_gqa=True, **more)
        close(found, exactly(given, enable_gqa=True, **more), tolerance)
    left = attend == "dispatcher" and order == "NSDB"  # torch's flash wants features contiguous
    assert runs["forward"] == runs["backward"] and (runs["forward"] >= 3 or left)


def test_what_torch_sends_to_its_math_runs_on_us(runs):
    query, key, value = (tensor(2, 3, 6, 8) for _ in range(3))
    mask = torch.randn(6, 6, requires_grad=True)
    five = [torch.randn(2, 3, 2, 5, 8, requires_grad=True) for _ in range(3)]
    features = tensor(2, 3, 6, 5)
    with fusedattn.accelerated():
        for given in ((query, key, value, mask), five, (query, key, features)):
            close(results(F.scaled_dot_product_attention, given), exactly(given), 1e-5)
        torch.manual_seed(1)
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3)
    torch.manual_seed(1)
    seed = torch.randint(0, 2**63 - 1, (1,)).item()
    kept = torch.from_numpy(fusedattn.dropout_mask((2, 3, 6, 6), 0.3, seed)) / 0.7
    weights = torch.softmax(query @ key.transpose(-1, -2) / 8**0.5, -1)
    torch.testing.assert_close(out, (weights * kept) @ value, atol=1e-5, rtol=0)
    assert runs == {"forward": 4, "backward": 3}


@pytest.mark.parametrize("order", ["BNSD", "BSND", "SBND", "NSDB", "qkv"])
def test_strides_are_those_that_compiled_graphs_expect(order):
    from torch._subclasses.fake_tensor import FakeTensorMode

    query, key, value = (tensor(2, 3, 5, 8, order=order) for _ in range(3)) if order != "qkv" else (
        torch.randn(2, 5, 3, 3, 8).unbind(2)[i].transpose(1, 2) for i in range(3)
    )  # fmt: skip
    query, key, value = query.detach(), key.detach(), value.detach()
    forward, backward = (getattr(torch.ops.aten, name.removeprefix("aten::")) for name in OPERATORS[:2])
    with fusedattn.accelerated():
        out, lse = forward(query, key, value)
        found = (out, lse, *backward(torch.randn_like(out), query, key, value, out, lse, 0.0, False))
    with FakeTensorMode() as mode:
        query, key, value, out = (mode.from_tensor(t) for t in (query, key, value, out))
        lse = mode.from_tensor(lse)
        expected = (*forward(query, key, value), *backward(out, query, key, value, out, lse, 0.0, False))
    assert [(t.shape, t.stride(), t.dtype) for t in found] == [
        (t.shape, t.stride(), t.dtype) for t in expected
    ]
    assert lse.dtype == torch.float32


def test_the_log_sum_exp_is_that_of_the_scores():
    query, key, value = (tensor(1, 2, 5, 8).detach() for _ in range(3))
    with fusedattn.accelerated():
        lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)[1]
    torch.testing.assert_close(lse, torch.logsumexp(query @ key.transpose(-1, -2) / 8**0.5, -1))


TOKENS = torch.randn(3, 10, 32, generator=torch.Generator().manual_seed(1))
PADDING = torch.arange(10) >= torch.tensor([10, 7, 4])[:, None]
CAUSAL = torch.nn.Transformer.generate_square_subsequent_mask(10)
encoder = lambda: torch.nn.TransformerEncoder(  # noqa: E731
    torch.nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True), 2, enable_nested_tensor=False
)
MODELS = {
    "MultiheadAttention": (
        lambda: torch.nn.MultiheadAttention(32, 4, batch_first=True),
        lambda model, x: model(x, x, x, need_weights=False)[0],
    ),
    "MultiheadAttention, padded": (
        lambda: torch.nn.MultiheadAttention(32, 4, batch_first=True),
        lambda model, x: model(x, x, x, key_padding_mask=PADDING, need_weights=False)[0],
    ),
    "TransformerEncoder, padded": (encoder, lambda model, x: model(x, src_key_padding_mask=PADDING)),
    "TransformerEncoder, causal": (
        encoder,
        lambda model, x: model(x, mask=CAUSAL.to(x.dtype), is_causal=True),
    ),
    "Transformer": (
        lambda: torch.nn.Transformer(32, 4, 1, 1, 64, 0.0, batch_first=True),
        lambda model, x: model(x, x[:, :6]),
    ),
}


def trained(model, call, x):
    out = call(model, x)
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    return [out, *(p.grad for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", MODELS)
def test_torchs_modules_train_on_us(name, runs):
    make, call = MODELS[name]
    model = make()
    wanted = trained(copy.deepcopy(model).double(), call, TOKENS.double())
    with fusedattn.accelerated():
        found = trained(model, call, TOKENS)
    assert runs["forward"] == runs["backward"] >= 1
    close(found, wanted, 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_as_exact_as_torchs(dtype, runs):
    def call(model, x):
        with torch.autocast("cpu", dtype):
            return model(x, src_key_padding_mask=PADDING).float()

    model = encoder()
    wanted = trained(copy.deepcopy(model).double(), MODELS["TransformerEncoder, padded"][1], TOKENS.double())
    torchs = trained(copy.deepcopy(model), call, TOKENS)
    with fusedattn.accelerated():
        found = trained(model, call, TOKENS)
    assert runs["forward"] == runs["backward"] == 2
    for a, b, c in zip(found, torchs, wanted, strict=True):
        assert (a - c).norm() <= 1.5 * (b - c).norm() + 2e-3 * c.norm()


@pytest.mark.parametrize("padded", [False, True])
def test_a_hugging_face_decoder_trains_on_us(padded, runs):
    transformers = pytest.importorskip("transformers")
    shape = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    config = transformers.LlamaConfig(
        vocab_size=97, intermediate_size=64, attn_implementation="sdpa", **shape
    )
    model = transformers.LlamaForCausalLM(config)
    ids = torch.randint(1, 97, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0 if padded else 1

    def call(model, _):
        out = model(input_ids=ids, attention_mask=mask).logits
        return out[mask.bool()]

    wanted = trained(copy.deepcopy(model).double(), call, None)
    with fusedattn.accelerated():
        found = trained(model, call, None)
    assert runs == {"forward": 2, "backward": 2}
    close(found, wanted, 1e-5)


def test_a_hugging_face_encoder_trains_with_dropout(runs):
    transformers = pytest.importorskip("transformers")
    shape = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32)
    config = transformers.BertConfig(vocab_size=97, attn_implementation="sdpa", **shape)
    model = transformers.BertModel(config).train()
    with fusedattn.accelerated():
        model(input_ids=torch.randint(1, 97, (2, 9))).last_hidden_state.sum().backward()
    assert runs == {"forward": 2, "backward": 2}


COMPILED = {
    "plain": ((2, 4, 6, 8), None),
    "bool mask": ((2, 4, 6, 8), lambda: torch.rand(2, 1, 6, 6) > 0.3),
    "mask with gradient": ((2, 4, 6, 8), lambda: torch.randn(6, 6, requires_grad=True)),
    "5-D": ((1, 2, 4, 6, 8), None),
}


@pytest.mark.parametrize("case, backend", [("plain", "eager"), *((case, "aot_eager") for case in COMPILED)])
def test_compiled_graphs_run_on_us(case, backend, runs):
    torch._dynamo.reset()
    shape, mask = COMPILED[case]
    given = [torch.randn(shape, requires_grad=True) for _ in range(3)] + [mask and mask()]
    compiled = torch.compile(
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, m),
        backend=backend,
        fullgraph=True,
        dynamic=case != "plain",
    )
    with fusedattn.accelerated():
        close(results(compiled, given), exactly(given), 1e-5)
    assert runs == {"forward": 1, "backward": 1}
    if case == "plain":  # compiled anew: torch's function is another
        close(results(compiled, given), exactly(given), 1e-5)
        assert runs == {"forward": 1, "backward": 1}


def test_a_graph_compiled_before_runs_on_us(runs):
    torch._dynamo.reset()
    given = [torch.randn(2, 4, 6, 8, requires_grad=True) for _ in range(3)]
    compiled = torch.compile(lambda q, k, v: TORCHS_OWN(q, k, v), backend="aot_eager", fullgraph=True)
    results(compiled, given)
    assert runs == {"forward": 0, "backward": 0}
    with fusedattn.accelerated():
        close(results(compiled, given), exactly(given), 1e-5)
    assert runs == {"forward": 1, "backward": 1}


def test_scripts_and_traces_run_on_us(runs):
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor):
        return F.scaled_dot_product_attention(query, key, value)

    given = [torch.randn(2, 4, 6, 8) for _ in range(3)]
    with fusedattn.accelerated(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted, traced = torch.jit.script(attend), torch.jit.trace(attend, given, check_trace=False)
        before = runs["forward"]
        for function in (scripted, traced):
            torch.testing.assert_close(function(*given), TORCHS_OWN(*given))
        assert runs["forward"] == before + 4


def test_handles_nest_and_undo_once_each():
    scripted = dict(torch.jit._builtins._get_builtin_table())
    one, two = fusedattn.accelerate_torch(), fusedattn.accelerate_torch()
    entry = F.scaled_dot_product_attention
    assert entry is not TORCHS_OWN and "runs on fusedattn" in repr(one)
    one.undo()
    one.undo()
    assert F.scaled_dot_product_attention is entry and "as before" in repr(one)
    with fusedattn.accelerated() as three:
        two.undo()
        assert F.scaled_dot_product_attention is entry and "runs" in repr(three)
    assert F.scaled_dot_product_attention is TORCHS_OWN
    assert torch.jit._builtins._get_builtin_table() == scripted

    @fusedattn.accelerated()
    def decorated():
        return F.scaled_dot_product_attention

    assert decorated() is not TORCHS_OWN and decorated() is not TORCHS_OWN


def test_an_error_inside_a_block_undoes_it():
    with pytest.raises(ZeroDivisionError), fusedattn.accelerated():
        raise ZeroDivisionError
    assert F.scaled_dot_product_attention is TORCHS_OWN


def test_an_entry_that_was_kept_is_torchs_function_after_undo(runs):
    with fusedattn.accelerated():
        kept = F.scaled_dot_product_attention
    given = [torch.randn(2, 3, 4, 8) for _ in range(3)]
    assert torch.equal(kept(*given), TORCHS_OWN(*given)) and runs["forward"] == 0


def test_a_wrapper_put_around_ours_stays_and_works(runs):
    handle = fusedattn.accelerate_torch()
    inner = F.scaled_dot_product_attention
    wrapper = F.scaled_dot_product_attention = lambda *given, **words: inner(*given, **words) + 0
    try:
        handle.undo()
        assert F.scaled_dot_product_attention is wrapper
        given = [torch.randn(2, 3, 4, 8) for _ in range(3)]
        torch.testing.assert_close(F.scaled_dot_product_attention(*given), TORCHS_OWN(*given), atol=0, rtol=0)
        with fusedattn.accelerated():
            assert F.scaled_dot_product_attention(*given).shape == given[0].shape
        assert F.scaled_dot_product_attention is wrapper and runs["forward"] == 1
    finally:
        F.scaled_dot_product_attention = TORCHS_OWN


def test_threads_accelerate_and_undo_at_once():
    given = [torch.randn(1, 2, 4, 8) for _ in range(3)]
    expected, wrong = TORCHS_OWN(*given), []

    def work():
        for _ in range(10):
            with fusedattn.accelerated():
                found = F.scaled_dot_product_attention(*given)
            if not torch.allclose(found, expected, atol=1e-5):
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def nested():
    return torch.nested.nested_tensor([torch.randn(2, 4, 8), torch.randn(2, 3, 8)])


def jagged():
    parts = [torch.randn(4, 2, 8), torch.randn(3, 2, 8)]
    return torch.nested.nested_tensor(parts, layout=torch.jagged).transpose(1, 2)


def dense(*shape, **more):
    return lambda: torch.randn(shape or (2, 2, 4, 8), **more)


LEFT = {  # how a call is made, and why torch's own function answers it
    "float64": (dense(dtype=torch.float64), {}, "query has dtype torch.float64; accepted are torch.float32"),
    "features": (dense(1, 1, 2, 1600), {}, "query has 1600 features; accepted are 1 to 1536"),
    "meta": (dense(device="meta"), {}, "a device, mode, tracer or transform"),
    "nested": (nested, {}, "query is a nested tensor; accepted is torch.strided"),
    "jagged": (jagged, {}, "a subclass of Tensor or a TorchFunctionMode"),
    "infinite scale": (dense(), {"scale": float("inf")}, "scale is inf; accepted are finite"),
}


@pytest.mark.parametrize("case", LEFT)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_is_not_covered_is_torchs_and_verbose_says_why(case, runs, monkeypatch, capsys):
    make, more, reason = LEFT[case]
    monkeypatch.setattr(sdpa_entry, "verbose", lambda: True)
    given = [make() for _ in range(3)]
    expected = TORCHS_OWN(*given, **more)
    with fusedattn.accelerated():
        found = F.scaled_dot_product_attention(*given, **more)
    said = capsys.readouterr().err
    assert "fusedattn,torch,scaled_dot_product_attention," in said and reason in said
    if case not in ("meta", "jagged", "nested"):
        torch.testing.assert_close(found, expected, atol=0, rtol=0, equal_nan=True)
        assert runs["forward"] == 0
    assert type(found) is type(expected)


class Recording(TorchDispatchMode):
    """The names of the operators that run inside."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


class Watching(TorchFunctionMode):
    """What function was called inside."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen = func
        return func(*args, **(kwargs or {}))


def test_onlookers_see_torchs_own_function(monkeypatch, capsys):
    monkeypatch.setattr(sdpa_entry, "verbose", lambda: True)
    given = [torch.randn(2, 4, 6, 8) for _ in range(3)]
    expected = TORCHS_OWN(*given)
    with fusedattn.accelerated():
        with Recording() as recording:
            F.scaled_dot_product_attention(*given)
        assert recording.names == ["aten::_scaled_dot_product_flash_attention_for_cpu"]
        torch.testing.assert_close(torch.vmap(F.scaled_dot_product_attention)(*given), expected)
        gradient = torch.func.grad(lambda q: F.scaled_dot_product_attention(q, *given[1:]).sum())(given[0])
        capsys.readouterr()
        with torch.device("cpu"):
            torch.testing.assert_close(F.scaled_dot_product_attention(*given), expected)
        assert capsys.readouterr().err == ""
        with Watching() as mode:
            F.scaled_dot_product_attention(*given)
        assert mode.seen is TORCHS_OWN
        with sdpa_kernel(SDPBackend.MATH):
            assert torch.equal(F.scaled_dot_product_attention(*given), TORCHS_OWN(*given))
        assert "flash attention is switched off" in capsys.readouterr().err
    torch.testing.assert_close(gradient, torch.func.grad(lambda q: TORCHS_OWN(q, *given[1:]).sum())(given[0]))


def test_errors_are_torchs():
    query = torch.randn(2, 2, 4, 8)
    with fusedattn.accelerated():
        for given, words in (((query, query), {}), ((query, query, [1]), {}), ((query,) * 3, {"other": 1})):
            with pytest.raises(TypeError):
                F.scaled_dot_product_attention(*given, **words)
        with pytest.raises(RuntimeError, match="dropout probability"):
            F.scaled_dot_product_attention(query, query, query, dropout_p=1.5)
        with pytest.raises(RuntimeError, match="attn_mask should not be set"):
            F.scaled_dot_product_attention(query, query, query, query[0, ..., :4] > 0, is_causal=True)


def test_a_mask_with_is_causal_is_both_as_in_torchs_kernel(runs):
    given = [tensor(2, 2, 4, 8) for _ in range(3)] + [torch.randn(4, 4)]
    expected = results(TORCHS_OWN, given, is_causal=True)
    with fusedattn.accelerated():
        close(results(F.scaled_dot_product_attention, given, is_causal=True), expected, 1e-5)
    assert runs == {"forward": 1, "backward": 1}


@pytest.mark.filterwarnings("ignore:Lower right causal bias")
def test_torchs_causal_bias_keeps_its_meaning(runs):
    from torch.nn.attention.bias import causal_lower_right

    for dtype in (torch.float32, torch.float64):
        given = [tensor(2, 2, rows, 8, dtype=dtype) for rows in (3, 5, 5)] + [causal_lower_right(3, 5)]
        expected = results(F.scaled_dot_product_attention, given)
        with fusedattn.accelerated():
            close(results(F.scaled_dot_product_attention, given), expected, 1e-5)
            with pytest.raises(ValueError, match="CausalBias should not be used with causal=True"):
                F.scaled_dot_product_attention(*given, is_causal=True)
    assert runs == {"forward": 1, "backward": 1}


def test_float64_is_torchs_on_the_dispatcher_too(runs):
    given = [tensor(2, 2, 4, 8, dtype=torch.float64) for _ in range(3)]
    expected = results(TORCHS_OWN, given)
    with fusedattn.accelerated():
        found = results(TORCHS_OWN, given)
    assert all(torch.equal(a, b) for a, b in zip(found, expected)) and runs["forward"] == 0


def test_nothing_is_warned_of_unless_another_package_was_there_first():
    name = sdpa_kernels.FORWARD.removeprefix("aten::")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fusedattn.accelerate_torch().undo()
    other = torch.library.Library("aten", "IMPL")
    try:
        with warnings.catch_warnings(record=True) as theirs:
            warnings.simplefilter("always")
            other.impl(name, lambda query, *_, **__: (query + 1, query[..., 0]), "CPU", allow_override=True)
        assert len(theirs) <= 1  # torch's own, once a process
        with pytest.warns(UserWarning, match="has been replaced before"):
            handle = fusedattn.accelerate_torch()
        query = torch.zeros(1, 1, 2, 4)
        assert not TORCHS_OWN(query, query, query).any()
        assert (TORCHS_OWN(*(query.double(),) * 3) == 1).all()  # what we leave is theirs
        handle.undo()
        assert (TORCHS_OWN(query, query, query) == 1).all()
    finally:
        other._destroy()


def test_a_torch_with_other_operators_is_refused(monkeypatch):
    monkeypatch.setitem(sdpa_kernels.SCHEMAS, sdpa_kernels.FORWARD, "something else")
    with pytest.raises(RuntimeError, match="accepted is torch 2.13's something else"):
        fusedattn.accelerate_torch()


def test_importing_stays_cheap():
    program = (
        "import sys, fusedattn; assert 'torch' not in sys.modules and fusedattn.accelerate_torch;"
        "import torch; before = set(sys.modules); import fusedattn.like.sdpa; fusedattn.accelerate_torch();"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "assert new <= {'fusedattn', 'ctypes', '_ctypes'} | set(sys.stdlib_module_names), new"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
