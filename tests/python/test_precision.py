"""test_precision.py: errors against float64, beside those of the plain formula as torch computes it."""

import pytest
import torch

import fusedattn

DROPPED, SEED = 0.25, 9
GRADIENTS = ("dq", "dk", "dv", "d_bias", "d_sink")


def distances(rows, columns):
    return (torch.arange(columns) - torch.arange(rows)[:, None] - (columns - rows)).abs().neg()


def plain(q, k, v, mask, bias, slopes, sink, kept):
    """softmax(q kᵀ / sqrt(D) + bias + ALiBi, a sink beside it) v, every step rounded to the type of q."""
    group = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(group, 1) for t in (k, v))
    scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
    if bias is not None:
        scores = scores + bias
    if slopes is not None:
        scores = scores + (slopes[:, None, None] * distances(q.shape[2], k.shape[2])).to(q.dtype)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    if sink is not None:
        scores = torch.cat([scores, sink.to(q.dtype)[:, None, None].expand(*scores.shape[:3], 1)], 3)
    weights = scores.softmax(3)[..., : k.shape[2]]
    if kept is not None:
        weights = weights * kept / (1 - DROPPED)
    return weights @ v


CASES = {
    "plain": {},
    "causal": {"causal": True},
    "one key head": {"kv_heads": 1, "causal": True},
    "bias": {"bias": True},
    "ALiBi": {"alibi": True, "causal": True},
    "sink": {"sink": True},
    "dropout": {"dropout": True},
    "everything": {"kv_heads": 2, "causal": True, "bias": True, "alibi": True, "sink": True, "dropout": True},
    "long": {"rows": 1100, "columns": 1300, "causal": True, "heads": 1, "kv_heads": 1},
}


class Draw:
    """The tensors of a case, the arguments of attention() on them, and those of the plain formula."""

    def __init__(self, dtype, rows=150, columns=170, heads=4, kv_heads=4, dim=64, dim_v=64, **has):
        random = torch.Generator().manual_seed(5)
        draw = lambda *shape: torch.randn(shape, generator=random).to(dtype)  # noqa: E731
        self.q, self.k = draw(1, heads, rows, dim), draw(1, kv_heads, columns, dim)
        self.v = draw(1, kv_heads, columns, dim_v)
        self.d_out = draw(1, heads, rows, dim_v)
        self.bias = draw(1, heads, rows, columns) if has.get("bias") else None
        self.sink = torch.randn(heads, generator=random) if has.get("sink") else None
        self.slopes = 2.0 ** -torch.arange(1, heads + 1) if has.get("alibi") else None
        self.causal, self.kept = has.get("causal", False), None
        if has.get("dropout"):
            self.kept = torch.from_numpy(fusedattn.dropout_mask((1, heads, rows, columns), DROPPED, SEED))

    def leaves(self, dtype):
        tensors = (self.q, self.k, self.v, self.bias)
        leaves = [None if t is None else t.detach().to(dtype).requires_grad_() for t in tensors]
        if self.sink is None:
            return [*leaves, None]
        return [*leaves, self.sink.to(torch.promote_types(dtype, torch.float32)).requires_grad_()]

    def results(self, attend, dtype):
        q, k, v, bias, sink = leaves = self.leaves(dtype)
        out = attend(q, k, v, bias, sink)
        out.backward(self.d_out.to(dtype))
        results = {"out": out.detach().double()}
        return results | {n: t.grad.double() for n, t in zip(GRADIENTS, leaves, strict=True) if t is not None}

    def ours(self, q, k, v, bias, sink):
        mask = fusedattn.causal() if self.causal else None
        dropped = {"dropout_p": DROPPED, "dropout_seed": SEED} if self.kept is not None else {}
        return fusedattn.attention(q, k, v, mask=mask, bias=bias, sink=sink, alibi=self.slopes, **dropped)

    def formula(self, q, k, v, bias, sink):
        rows, columns = q.shape[2], k.shape[2]
        mask = torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows) if self.causal else None
        kept = None if self.kept is None else self.kept.to(q.dtype)
        return plain(q, k, v, mask, bias, self.slopes, sink, kept)

    def allowed(self):
        """Granted to gradients that vanish in exact arithmetic: 1e-6 |dO| |V| |K| scale, largest rows."""
        longest = lambda t: t.double().norm(dim=3).max().item()  # noqa: E731
        other = max(longest(self.k), longest(self.q))
        return 1e-6 * longest(self.d_out) * longest(self.v) * other * self.q.shape[3] ** -0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_no_further_from_float64_than_the_plain_formula(name, dtype):
    draw = Draw(dtype, **CASES[name])
    exact = draw.results(draw.formula, torch.float64)
    ours, theirs = draw.results(draw.ours, dtype), draw.results(draw.formula, dtype)
    for result, right in exact.items():
        mine, plain_error = ((r[result] - right).abs() for r in (ours, theirs))
        for size in (torch.max, lambda errors: errors.square().mean().sqrt()):
            assert size(mine) <= 1.05 * size(plain_error) + draw.allowed(), result


@pytest.mark.parametrize("dim", [64, 128, 256])
@pytest.mark.parametrize("name", CASES)
def test_float32_to_4e_6_of_the_largest(name, dim):
    draw = Draw(torch.float32, dim=dim, dim_v=dim, **CASES[name])
    exact, ours = draw.results(draw.formula, torch.float64), draw.results(draw.ours, torch.float32)
    for result, right in exact.items():
        assert (ours[result] - right).abs().max() <= 4e-6 * right.abs().max(), result


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_key_alone_has_a_weight_of_1_whose_score_has_no_gradient(dtype):
    for seed in range(50):
        generator = torch.Generator().manual_seed(seed)
        q, k, v = (torch.randn(1, 1, 1, 16, generator=generator).to(dtype).requires_grad_() for _ in range(3))
        fusedattn.attention(q, k, v).sum().backward()
        assert not q.grad.any() and not k.grad.any() and (v.grad == 1).all()


@pytest.mark.parametrize("columns", [300, 362, 430])
def test_the_gradient_of_a_float32_bias_is_a_sum_of_float32(columns):
    random = torch.Generator().manual_seed(6)
    q = torch.zeros(1, 1, 20, 64, dtype=torch.bfloat16)  # equal weights: an error of theirs is one of all gradients
    k, v = (torch.randn(1, 1, columns, 64, generator=random).bfloat16() for _ in range(2))
    d_out = torch.randn(1, 1, 20, 64, generator=random).bfloat16()
    bias = torch.zeros(1, 1, 20, columns, requires_grad=True)
    fusedattn.attention(q, k, v, bias=bias).backward(d_out)
    d_weights = d_out.double() @ v.double().transpose(2, 3)
    expected = (d_weights - d_weights.mean(3, keepdim=True)) / columns
    assert (bias.grad - expected).abs().max() < 2e-6 * expected.abs().max()
