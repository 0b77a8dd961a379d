"""flash_attn_with_kvcache and paged keys: against attention to the same keys laid out whole."""

import fusedattn
import golden
import pytest
import torch
from fusedattn.like import flash_attn
from fusedattn.like.flash_attn.layers.rotary import apply_rotary_emb
from hypothesis import given, settings
from hypothesis import strategies as st

N, NK, D = 4, 2, 32
FORM = dict(softcap=2.0, alibi_slopes=torch.tensor([0.3, 0.1, 0.02, 0.5]))
CAPACITY = 48


def draw(batch=3, rows=2, dtype=torch.float32, sequences=None):
    """q, k_cache, v_cache, k, v."""
    held = (sequences or batch, CAPACITY, NK, D)
    shapes = (batch, rows, N, D), held, held, (batch, rows, NK, D), (batch, rows, NK, D)
    return [golden.draw(*shape, dtype=dtype) for shape in shapes]


def paged(caches, size, shuffled):
    """The caches as blocks (twice as many as needed, NaN between), and the table that finds them."""
    batch, blocks = len(caches[0]), CAPACITY // size
    table = torch.tensor(shuffled[: batch * blocks], dtype=torch.int32).view(batch, blocks)
    pages = []
    for cache in caches:
        page = torch.full((2 * batch * blocks, size, NK, D), float("nan"), dtype=cache.dtype)
        page[table.flatten().long()] = cache.reshape(batch * blocks, size, NK, D)
        pages.append(page)
    return pages, table


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cache_is_attention_to_its_keys(data):
    batch, rows = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 7]))
    lengths = data.draw(st.lists(st.integers(0, CAPACITY - rows), min_size=batch, max_size=batch))
    new = data.draw(st.booleans())
    form = dict(
        FORM if data.draw(st.booleans()) else {},
        causal=data.draw(st.booleans()),
        window_size=data.draw(st.tuples(st.integers(-1, 30), st.integers(-1, 30))),
        return_softmax_lse=True,
    )
    q, k_cache, v_cache, k, v = draw(batch, rows, sequences=4)
    places = data.draw(st.permutations(range(4)))[:batch]
    pads = [data.draw(st.integers(0, length)) for length in lengths]
    before = k_cache.clone()
    out, lse = flash_attn.flash_attn_with_kvcache(
        q, k_cache, v_cache, *((k, v) if new else ()), **form, cache_seqlens=torch.tensor(lengths).int(),
        cache_batch_idx=torch.tensor(places), cache_leftpad=torch.tensor(pads),
    )  # fmt: skip
    for b, (place, pad, length) in enumerate(zip(places, pads, lengths)):
        end = length + rows * new
        if new:
            assert torch.equal(k_cache[place, length:end], k[b]) and torch.equal(v_cache[place, length:end], v[b])
        before[place, length:end] = k_cache[place, length:end]
        keys, values = (t[place : place + 1, pad:end] for t in (k_cache, v_cache))
        alone = {name: form[name] for name in form if name != "return_softmax_lse"}
        wanted, row_lse, _ = flash_attn.flash_attn_func(q[b : b + 1], keys, values, **alone, return_attn_probs=True)
        assert torch.equal(out[b], wanted[0]) and torch.equal(lse[b], row_lse[0])
    assert torch.equal(k_cache, before)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pages_are_the_bits_of_a_whole_cache(data):
    batch, rows = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 5]))
    size = data.draw(st.sampled_from([1, 3, 16, 48]))
    lengths = data.draw(st.lists(st.integers(0, CAPACITY - rows), min_size=batch, max_size=batch))
    shuffled = data.draw(st.permutations(range(2 * batch * (CAPACITY // size))))
    q, *caches, k, v = draw(batch, rows)
    pages, table = paged(caches, size, shuffled)
    form = dict(FORM, causal=True, cache_seqlens=torch.tensor(lengths), return_softmax_lse=True)
    wanted = flash_attn.flash_attn_with_kvcache(q, *caches, k, v, **form)
    got = flash_attn.flash_attn_with_kvcache(q, *pages, k, v, **form, block_table=table)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted))
    for cache, page in zip(caches, pages):
        assert torch.equal(page[table.long()].flatten(1, 2), cache)
        assert torch.isnan(page).sum() == page.numel() - cache.numel()


def test_one_call_serves_what_lies_in_one_tensor(monkeypatch):
    calls, attention = [], fusedattn.attention
    monkeypatch.setattr(fusedattn, "attention", lambda *given, **named: calls.append(1) or attention(*given, **named))
    q, k_cache, v_cache, *_ = draw()
    together = flash_attn.flash_attn_with_kvcache(q, k_cache, v_cache, cache_seqlens=40)
    assert len(calls) == 1
    apart = flash_attn.flash_attn_with_kvcache(q, k_cache, v_cache, cache_seqlens=torch.tensor([40, 40, 39]))
    assert len(calls) == 2 and torch.equal(together[:2], apart[:2])
    shared = flash_attn.flash_attn_with_kvcache(q, k_cache, v_cache, cache_batch_idx=torch.tensor([2, 0, 2]))
    assert len(calls) == 5  # a sequence that two share: one by one
    turned = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (k_cache, v_cache)]
    again = flash_attn.flash_attn_with_kvcache(q, *turned, cache_seqlens=torch.tensor([40, 40, 39]))
    assert len(calls) == 8 and torch.equal(again, apart)
    whole = flash_attn.flash_attn_with_kvcache(q, k_cache, v_cache)
    assert torch.equal(whole, flash_attn.flash_attn_func(q, k_cache, v_cache))
    assert torch.equal(shared[1], flash_attn.flash_attn_func(q[1:2], k_cache[:1], v_cache[:1])[0])


def test_rows_that_no_sequence_has_may_hold_anything():
    q, k_cache, v_cache, k, v = draw()
    lengths, pads = torch.tensor([30, 0, 44]), torch.tensor([2, 0, 9])
    form = dict(cache_seqlens=lengths, cache_leftpad=pads, causal=True)
    dirty = k_cache.clone(), v_cache.clone()
    rows = torch.arange(CAPACITY)
    unused = (rows < pads[:, None]) | (rows >= lengths[:, None])
    for cache in dirty:
        cache[unused] = float("nan")
    wanted = flash_attn.flash_attn_with_kvcache(q, k_cache, v_cache, k, v, **form)
    assert torch.equal(flash_attn.flash_attn_with_kvcache(q, *dirty, k, v, **form), wanted)


def turned(x, angles, interleaved):
    """x (B, S, H, D) rotated as complex numbers, float64; angles (B, S, half)."""
    half, x = angles.shape[-1], x.double()
    parts = (x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]) if interleaved else x[..., : 2 * half].chunk(2, -1)
    rotated = torch.complex(*parts) * torch.exp(1j * angles.double()).unsqueeze(2)
    if interleaved:
        return torch.cat((torch.view_as_real(rotated).flatten(-2), x[..., 2 * half :]), -1)
    return torch.cat((rotated.real, rotated.imag, x[..., 2 * half :]), -1)


@pytest.mark.parametrize("interleaved", [True, False])
@pytest.mark.parametrize("half", [4, 16])
def test_rotary_embeddings(interleaved, half):
    x, angles = golden.draw(2, 9, N, D), torch.rand(50, half) * 6
    cos, sin, at = angles.cos(), angles.sin(), torch.arange(9)
    got = apply_rotary_emb(x, cos, sin, interleaved=interleaved)
    torch.testing.assert_close(got.double(), turned(x, angles[at].expand(2, -1, -1), interleaved), atol=1e-6, rtol=0)
    offsets = torch.tensor([3, 41])
    own = turned(x, angles[offsets[:, None] + at], interleaved)
    leaf = x.clone().requires_grad_()
    got = apply_rotary_emb(leaf, cos, sin, interleaved=interleaved, seqlen_offsets=offsets)
    torch.testing.assert_close(got.double(), own, atol=1e-6, rtol=0)
    weight = golden.draw(2, 9, N, D)
    back = turned(weight, -angles[offsets[:, None] + at], interleaved)
    gradient = torch.autograd.grad(got, leaf, weight)[0]
    torch.testing.assert_close(gradient.double(), back, atol=1e-6, rtol=0)
    ends = torch.tensor([0, 2, 9])
    packed = apply_rotary_emb(x[0], cos, sin, interleaved=interleaved, seqlen_offsets=offsets, cu_seqlens=ends)
    places = torch.cat((3 + torch.arange(2), 41 + torch.arange(7)))
    torch.testing.assert_close(packed.double(), turned(x[:1], angles[places][None], interleaved)[0], atol=1e-6, rtol=0)
    kept = x.clone()
    assert apply_rotary_emb(kept, cos, sin, interleaved=interleaved, inplace=True) is kept
    assert torch.equal(kept, apply_rotary_emb(x, cos, sin, interleaved=interleaved))


@pytest.mark.parametrize("form", [{}, dict(causal=True), dict(window_size=(5, 0))], ids=str)
@pytest.mark.parametrize("interleaved", [True, False])
def test_a_cache_with_rotary_embeddings(interleaved, form):
    q, k_cache, v_cache, k, v = draw(rows=3)
    lengths, angles = torch.tensor([0, 17, 40]), torch.rand(CAPACITY, 8) * 6
    tables = angles.cos(), angles.sin()
    given = k_cache.clone(), v_cache.clone(), k, v
    out = flash_attn.flash_attn_with_kvcache(
        q, *given, *tables, cache_seqlens=lengths, rotary_interleaved=interleaved, **form
    )
    rotated = apply_rotary_emb(k, *tables, interleaved=interleaved, seqlen_offsets=lengths)
    steps = torch.arange(3) if form else torch.zeros(3, dtype=torch.int64)  # all at cache_seqlens
    queries = torch.cat([
        apply_rotary_emb(q[:, i : i + 1], *tables, interleaved=interleaved, seqlen_offsets=lengths + steps[i])
        for i in range(3)
    ], dim=1)  # fmt: skip
    wanted = flash_attn.flash_attn_with_kvcache(
        queries, k_cache, v_cache, rotated, v, cache_seqlens=lengths, **form
    )
    assert torch.equal(out, wanted) and torch.equal(given[0], k_cache)


def test_decoding_step_by_step_is_attention_at_once():
    q, k, v = (golden.draw(2, 20, heads, D) for heads in (N, NK, NK))
    whole = flash_attn.flash_attn_func(q, k, v, causal=True)
    caches = torch.zeros(2, CAPACITY, NK, D), torch.zeros(2, CAPACITY, NK, D)
    steps = [
        flash_attn.flash_attn_with_kvcache(
            *(t[:, i : i + 1] if t is q else t for t in (q, *caches)), k[:, i : i + 1], v[:, i : i + 1],
            cache_seqlens=i, causal=True,
        )
        for i in range(20)
    ]  # fmt: skip
    torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_packed_queries_and_pages(dtype):
    caches = [golden.draw(2, CAPACITY, NK, D, dtype=dtype) for _ in range(2)]
    q, q_ends, k_lengths = golden.draw(9, N, D, dtype=dtype), torch.tensor([0, 2, 9]), torch.tensor([37, 48])
    k_ends = torch.nn.functional.pad(k_lengths.cumsum(0), (1, 0))
    flat = [torch.cat([t[b, :n] for b, n in enumerate(k_lengths)]).requires_grad_() for t in caches]
    wanted = flash_attn.flash_attn_varlen_func(q, *flat, q_ends, k_ends, 7, 48, causal=True)
    pages, table = paged(caches, 16, [3, 0, 7, 5, 9, 2])
    pages = [page.nan_to_num().requires_grad_() for page in pages]
    got = flash_attn.flash_attn_varlen_func(q, *pages, q_ends, k_ends, 7, 48, causal=True, block_table=table)
    assert torch.equal(got, wanted)
    for of_pages, of_flat in zip(
        torch.autograd.grad(got, pages, got.detach()), torch.autograd.grad(wanted, flat, got.detach())
    ):
        laid = of_pages[table.long()].flatten(1, 2)
        assert torch.equal(torch.cat([laid[b, :n] for b, n in enumerate(k_lengths)]), of_flat)
        assert (laid[0, 37:] == 0).all()


def test_refusals():
    q, k_cache, v_cache, k, v = draw()
    cos = torch.rand(CAPACITY, 8)
    table = torch.zeros(3, 1, dtype=torch.int32)
    for changed, sentence in (
        (dict(k=k), "v is None; accepted is both k and v"),
        (dict(k=k, v=v), "cache_seqlens is None; accepted is an integer"),
        (dict(k=k, v=v, cache_seqlens=47), "cache_seqlens holds 47; accepted is 0 to 48, .* less the 2 new"),
        (dict(cache_seqlens=torch.tensor([1, 2])), r"cache_seqlens is torch.int64 \(2,\) on cpu; accepted is \(3,\)"),
        (dict(cache_seqlens=1.5), "cache_seqlens is 1.5; accepted is None, an integer"),
        (dict(k=k[:2], v=v, cache_seqlens=3), "k is .*2, 2, 2, 32.* accepted is .3, 2, 2, 32."),
        (dict(rotary_cos=cos, rotary_sin=cos), "rotary_cos is .* accepted is None where k and v are None"),
        (dict(rotary_cos=cos, k=k, v=v, cache_seqlens=3), "rotary_sin is None; accepted is both"),
        (dict(rotary_cos=cos[:9], rotary_sin=cos[:9], k=k, v=v, cache_seqlens=8), "embedding reach from 8 to 9"),
        (dict(cache_batch_idx=torch.tensor([0, 1, 3])), "cache_batch_idx holds 3; accepted is sequences"),
        (dict(cache_batch_idx=torch.tensor([0, 1, 2]), block_table=table), "accepted is None beside a block_table"),
        (dict(block_table=table + 3), "block_table holds 3; accepted is numbers of blocks, 0 to 2"),
        (dict(block_table=table[:2]), "block_table is .* accepted is .batch_size, ...."),
        (dict(cache_leftpad=torch.tensor([0, -1, 0])), "cache_leftpad holds -1; accepted is 0 to 48"),
        (dict(cache_leftpad=torch.tensor([0, 99, 0])), "cache_leftpad holds 99; accepted is 0 to 48"),
        (dict(v_cache=v_cache[:, :9]), "v_cache is .* accepted is k_cache's shape but for the last"),
        (dict(cache_seqlens=True), "cache_seqlens is True"),
        (dict(k=k, v=v, cache_seqlens=1, k_cache=k_cache[:1].expand(3, -1, -1, -1)), "k_cache is .* memory of its own"),
        (dict(k=k, v=v, cache_seqlens=1, rotary_cos="a", rotary_sin="b"), "rotary_cos is 'a'; accepted is None, or"),
        (dict(alibi_slopes=torch.ones(2, 4)), "alibi_slopes is .*accepted is .4,. or .3, 4."),
        (dict(k_cache=k_cache[:2], v_cache=v_cache[:2]), "k_cache is .* at least q's 3 sequences"),
    ):  # fmt: skip
        arguments = dict(q=q, k_cache=k_cache, v_cache=v_cache) | changed
        with pytest.raises(RuntimeError, match="^flash_attn_with_kvcache: .*" + sentence):
            flash_attn.flash_attn_with_kvcache(**arguments)
    with pytest.raises(RuntimeError, match="^apply_rotary_emb: cos is .* rotary_dim at most headdim, 32"):
        apply_rotary_emb(q, torch.rand(9, 17), torch.rand(9, 17))
