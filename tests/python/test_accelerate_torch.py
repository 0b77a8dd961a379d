"""accelerate_torch(): who calls torch's attention runs on fusedattn, forward and backward."""

import copy
import warnings

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402
from accelerated_calls import (  # noqa: E402, F401
    OPERATORS,
    TOLERANCE,
    TORCHS_OWN,
    close,
    exactly,
    results,
    counted_runs,
    tensor,
    torch_is_left_as_it_was,
)

import fusedattn  # noqa: E402

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


@pytest.mark.parametrize("order", ["BNSD", "BSND"])
def test_calls_of_the_operator_that_are_shaped_alike_share_nothing(order):
    from fusedattn.like.sdpa import scaled_dot_product_attention as by_name

    with fusedattn.accelerated(), torch.no_grad():
        found = []
        for _ in range(3):
            q, k, v = (tensor(2, 3, 5, 8, order=order) for _ in range(3))
            for mask in (None, torch.randn(1, 3, 5, 1).expand(1, 3, 5, 5), torch.randn(2, 1, 1, 5)):
                out = TORCHS_OWN(q, k, v, mask)
                found.append((out, by_name(q, k, v, mask)))
                assert out.stride() == torch.empty_like(q).stride()
    for out, want in found:  # after all calls: none has written into another's output
        torch.testing.assert_close(out, want, rtol=1e-6, atol=1e-6)
