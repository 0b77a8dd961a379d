"""The Hugging Face door: random models give the same numbers with eager attention and with fusedattn."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from fusedattn.like import transformers as door  # noqa: E402


class Layer(torch.nn.Module):
    """What the attention function sees of a model: whether it is causal."""

    def __init__(self, is_causal=False):
        super().__init__()
        self.is_causal = is_causal


def qkv(heads=4, kv_heads=2, q_len=6, kv_len=6):
    generator = torch.Generator().manual_seed(11)
    shapes = ((2, heads, q_len, 8), (2, kv_heads, kv_len, 8), (2, kv_heads, kv_len, 8))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def plain(q, k, v, visible):
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=visible, enable_gqa=True
    ).transpose(1, 2)


def test_a_padding_mask_is_one_row_per_sequence():
    padding = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    mask = door.attention_mask(
        batch_size=2,
        q_length=5,
        kv_length=5,
        mask_function=transformers.masking_utils.bidirectional_mask_function,
        attention_mask=padding,
        allow_is_bidirectional_skip=True,
        allow_is_causal_skip=False,
    )
    assert mask.shape == (2, 1, 5, 5) and mask.stride(2) == 0
    assert mask.untyped_storage().nbytes() == padding.numel()
    assert torch.equal(mask[:, 0, 3], padding)


def test_no_padding_needs_no_mask():
    mask = door.attention_mask(
        batch_size=1,
        q_length=4,
        kv_length=4,
        mask_function=transformers.masking_utils.bidirectional_mask_function,
        attention_mask=torch.ones(1, 4, dtype=torch.bool),
        allow_is_bidirectional_skip=True,
    )
    assert mask is None


def test_the_output_has_rows_before_heads_and_is_contiguous():
    q, k, v = qkv()
    out, weights = door.attention_forward(Layer(), q, k, v, None)
    assert weights is None and out.is_contiguous() and out.shape == (2, 6, 4, 8)
    torch.testing.assert_close(out, plain(q, k, v, None), atol=1e-6, rtol=1e-5)


def test_the_flag_beats_the_module_and_one_query_sees_everything():
    q, k, v = qkv()
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    by_module, _ = door.attention_forward(Layer(is_causal=True), q, k, v, None)
    by_flag, _ = door.attention_forward(Layer(is_causal=True), q, k, v, None, is_causal=False)
    one, _ = door.attention_forward(Layer(is_causal=True), q[:, :, :1], k, v, None)
    torch.testing.assert_close(by_module, plain(q, k, v, causal), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(by_flag, plain(q, k, v, None), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(one, plain(q[:, :, :1], k, v, None), atol=1e-6, rtol=1e-5)


def test_a_causal_call_on_a_longer_cache_starts_at_its_first_key():
    q, k, v = qkv(q_len=3, kv_len=7)
    visible = torch.ones(3, 7, dtype=torch.bool).tril()
    out, _ = door.attention_forward(Layer(is_causal=True), q, k, v, None)
    torch.testing.assert_close(out, plain(q, k, v, visible), atol=1e-6, rtol=1e-5)


def test_a_window_without_a_mask_is_applied():
    q, k, v = qkv()
    visible = torch.ones(6, 6, dtype=torch.bool).tril().triu(-1)
    out, _ = door.attention_forward(Layer(is_causal=True), q, k, v, None, sliding_window=2)
    torch.testing.assert_close(out, plain(q, k, v, visible), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("hidden", [torch.finfo(torch.float32).min, -torch.inf])
def test_a_float_mask_of_two_values_is_a_bool_mask(hidden):
    q, k, v = qkv()
    visible = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
    mask = torch.zeros(1, 1, 6, 6).masked_fill(~visible, hidden)
    out, _ = door.attention_forward(Layer(), q, k, v, mask)
    torch.testing.assert_close(out, plain(q, k, v, visible), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("error", "arguments", "named"),
    [
        (NotImplementedError, {"output_attentions": True}, "output_attentions=True: .* accepted is False"),
        (NotImplementedError, {"cache": object()}, "cache: a paged cache .* only cache=None"),
        (NotImplementedError, {"indices": torch.zeros(2, 6, 3)}, "indices: .* only indices=None"),
        (NotImplementedError, {"head_mask": torch.ones(4)}, "head_mask: .* only head_mask=None"),
        (
            NotImplementedError,
            {"sliding_window": 2, "is_causal": False},
            "sliding_window=2 .* accepted are None",
        ),
        (
            NotImplementedError,
            {"attention_mask": torch.ones(1, 1, 6, 6, dtype=torch.int64)},
            "attention_mask is torch.int64",
        ),
        (ValueError, {"attention_mask": torch.ones(6, dtype=torch.bool)}, "attention_mask has shape .6,."),
        (TypeError, {"attention_mask": [[1, 1]]}, "attention_mask is a list"),
        (
            ValueError,
            {"s_aux": torch.zeros(3)},
            "s_aux has shape .3,.; accepted is one number for each of 4 heads",
        ),
        (ValueError, {"dropout": 1.5}, "dropout_p is 1.5"),
        (ValueError, {"softcap": -1.0}, "softcap is -1.0"),
        (TypeError, {"scaling": "1"}, "scaling is '1'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(error, arguments, named):
    arguments = {"attention_mask": None, **arguments}
    with pytest.raises(error, match=named):
        door.attention_forward(Layer(), *qkv(), **arguments)


def test_packed_lengths_take_no_bias():
    q, k, v = (t[:1] for t in qkv())
    ends = torch.tensor([0, 3, 6])
    with pytest.raises(NotImplementedError, match="position_bias .* beside cu_seq_lens_q"):
        door.attention_forward(
            Layer(), q, k, v, None, cu_seq_lens_q=ends, position_bias=torch.zeros(1, 4, 6, 6)
        )


def test_arguments_that_are_none_or_without_effect_are_accepted():
    q, k, v = qkv()
    out, _ = door.attention_forward(
        Layer(), q, k, v, None, softcap=None, s_aux=None, use_cache=False, position_ids=None
    )
    torch.testing.assert_close(out, plain(q, k, v, None), atol=1e-6, rtol=1e-5)


def test_numbers_in_a_mask_are_added_with_their_gradient():
    q, k, v = qkv()
    mask = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(
        door.attention_forward(Layer(), q, k, v, mask)[0], plain(q, k, v, mask), atol=1e-6, rtol=1e-5
    )
    partly = mask.masked_fill(torch.ones(6, 6, dtype=torch.bool).triu(1), torch.finfo(torch.float32).min)
    torch.testing.assert_close(
        door.attention_forward(Layer(), q, k, v, partly)[0], plain(q, k, v, partly), atol=1e-6, rtol=1e-5
    )
    ours, theirs = mask.clone().requires_grad_(), mask.clone().requires_grad_()
    door.attention_forward(Layer(), q, k, v, ours)[0].square().sum().backward()
    plain(q, k, v, theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


def test_a_position_bias_keeps_the_diagonal_and_the_padding():
    q, k, v = qkv()
    bias, causal = torch.randn(1, 4, 6, 6), torch.ones(6, 6, dtype=torch.bool).tril()
    padding = torch.arange(6) < torch.tensor([6, 4])[:, None]
    for mask, shown in (
        (None, causal),
        (padding[:, None, None, :].expand(2, 1, 6, 6), padding[:, None, None, :]),
    ):
        out, _ = door.attention_forward(Layer(is_causal=True), q, k, v, mask, position_bias=bias)
        expected = plain(q, k, v, bias.masked_fill(~shown, -torch.inf))
        torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)


def test_padding_in_two_dimensions_is_that_of_flash_attn():
    q, k, v = qkv(q_len=3, kv_len=7)
    padding = torch.tensor([[1] * 7, [0, 0, 1, 1, 1, 1, 1]])
    shown = torch.ones(3, 7, dtype=torch.bool).tril(4) & padding[:, None, None, :].bool()
    out, _ = door.attention_forward(Layer(is_causal=True), q, k, v, padding)
    torch.testing.assert_close(out, plain(q, k, v, shown), atol=1e-6, rtol=1e-5)
    cache = [torch.cat((t, torch.full_like(t[:, :, :2], torch.nan)), 2) for t in (k, v)]
    padding = torch.nn.functional.pad(padding, (0, 2))
    longer, _ = door.attention_forward(Layer(is_causal=False), q, *cache, padding)
    torch.testing.assert_close(
        longer, plain(q, k, v, padding[:, None, None, :7].bool()), atol=1e-6, rtol=1e-5
    )


def test_learned_queries_of_one_are_repeated():
    q, k, v = qkv()
    out, _ = door.attention_forward(Layer(), q[:1], k, v, None)
    torch.testing.assert_close(out, plain(q[:1].expand(2, -1, -1, -1), k, v, None), atol=1e-6, rtol=1e-5)


def test_a_step_reads_the_cache_where_it_lies(capfd, monkeypatch):
    """A view of a longer cache, heads before rows: nothing is copied, whatever its strides."""
    monkeypatch.setattr("fusedattn.problem.verbose", lambda: True)
    cache = [torch.randn(2, 2, 64, 8) for _ in range(2)]
    k, v = (t[:, :, :40] for t in cache)
    q = torch.randn(2, 4, 1, 8)
    out, _ = door.attention_forward(Layer(is_causal=True), q, k, v, None)
    assert "fusedattn,copy" not in capfd.readouterr().err and out.is_contiguous()
    torch.testing.assert_close(out, plain(q, k, v, None), atol=1e-6, rtol=1e-5)
