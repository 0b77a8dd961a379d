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


def two_models(make, config_class, **options):
    """The same random weights with eager attention and with fusedattn, in eval mode."""
    door.register()
    models = []
    for attention in ("eager", "fusedattn"):
        torch.manual_seed(5)
        models.append(make(config_class(**options, attn_implementation=attention)).eval())
    assert models[1].config._attn_implementation == "fusedattn"
    return models


def bert():
    return two_models(
        transformers.BertModel,
        transformers.BertConfig,
        vocab_size=97,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def decoder(make, config_class, **options):
    return two_models(
        make,
        config_class,
        vocab_size=97,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        **options,
    )


def token_ids(*shape):
    return torch.randint(1, 97, shape, generator=torch.Generator().manual_seed(7))


def qkv(heads=4, kv_heads=2, q_len=6, kv_len=6):
    generator = torch.Generator().manual_seed(11)
    shapes = ((2, heads, q_len, 8), (2, kv_heads, kv_len, 8), (2, kv_heads, kv_len, 8))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def plain(q, k, v, visible):
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=visible, enable_gqa=True
    ).transpose(1, 2)


def test_encoder_with_padding_agrees_with_eager_and_its_gradients_too():
    eager, ours = bert()
    ids = token_ids(3, 11)
    mask = (torch.arange(11)[None, :] < torch.tensor([11, 4, 7])[:, None]).long()
    outputs = []
    for model in (eager, ours):
        model.train()
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
        hidden.square().mean().backward()
        outputs.append(hidden.detach())
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=0)
    for (name, a), (_, b) in zip(eager.named_parameters(), ours.named_parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-6, rtol=1e-4, msg=name)


def test_grouped_causal_decoder_agrees_with_eager_with_left_padding():
    eager, ours = decoder(transformers.LlamaForCausalLM, transformers.LlamaConfig)
    ids, mask = token_ids(2, 9), torch.ones(2, 9, dtype=torch.long)
    mask[1, :3] = 0
    with torch.no_grad():
        a, b = (model(input_ids=ids, attention_mask=mask).logits for model in (eager, ours))
    torch.testing.assert_close(b[mask.bool()], a[mask.bool()], atol=1e-5, rtol=1e-5)


def test_generation_with_a_cache_gives_the_same_tokens():
    eager, ours = decoder(transformers.LlamaForCausalLM, transformers.LlamaConfig)
    ids = token_ids(1, 5)
    options = {
        "max_new_tokens": 12,
        "do_sample": False,
        "attention_mask": torch.ones_like(ids),
        "pad_token_id": 0,
    }
    assert ours.generate(ids, **options).tolist() == eager.generate(ids, **options).tolist()


def test_sliding_window_decoder_agrees_with_eager():
    eager, ours = decoder(transformers.MistralForCausalLM, transformers.MistralConfig, sliding_window=4)
    ids = token_ids(2, 13)
    with torch.no_grad():
        torch.testing.assert_close(
            ours(input_ids=ids).logits, eager(input_ids=ids).logits, atol=1e-5, rtol=1e-5
        )


def test_packed_sequences_agree_with_eager():
    eager, ours = decoder(transformers.LlamaForCausalLM, transformers.LlamaConfig)
    ids, positions = token_ids(1, 9), torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0, 1]])
    with torch.no_grad():
        a, b = (
            model(input_ids=ids, position_ids=positions, use_cache=False).logits for model in (eager, ours)
        )
    torch.testing.assert_close(b, a, atol=1e-5, rtol=1e-5)


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
    ("arguments", "named"),
    [
        ({"dropout": 0.1}, "dropout=0.1"),
        ({"softcap": 50.0}, "softcap"),
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"position_bias": torch.zeros(1, 4, 6, 6)}, "position_bias"),
        ({"output_attentions": True}, "output_attentions"),
        ({"cu_seq_lens_q": torch.tensor([0, 3, 6])}, "cu_seq_lens_q"),
        ({"sliding_window": 2, "is_causal": False}, "sliding_window=2"),
        ({"attention_mask": torch.full((1, 1, 6, 6), -1.5)}, "attention_mask"),
        ({"attention_mask": torch.ones(1, 1, 6, 6, dtype=torch.int64)}, "attention_mask"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(arguments, named):
    arguments = {"attention_mask": None, **arguments}
    with pytest.raises(NotImplementedError, match=named):
        door.attention_forward(Layer(), *qkv(), **arguments)


def test_arguments_that_are_none_or_without_effect_are_accepted():
    q, k, v = qkv()
    out, _ = door.attention_forward(
        Layer(), q, k, v, None, softcap=None, s_aux=None, use_cache=False, position_ids=None
    )
    torch.testing.assert_close(out, plain(q, k, v, None), atol=1e-6, rtol=1e-5)
