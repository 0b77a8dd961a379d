"""register() and its handle; models that ask for flash_attention_2 run on the CPU while it is asked for."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    modeling_flash_attention_utils,
)  # noqa: E402
from transformers_models import DECODER, PADDED, assert_same, token_ids, two_models  # noqa: E402

from fusedattn.like import transformers as door  # noqa: E402

FLASH = "flash_attention_2"


def tables():
    """All that registration changes in transformers."""
    return (
        dict(AttentionInterface._global_mapping),
        dict(AttentionMaskInterface._global_mapping),
        dict(modeling_flash_attention_utils.FLASH_ATTENTION_COMPATIBILITY_MATRIX),
        transformers.PreTrainedModel._flash_attn_can_dispatch,
        transformers.PreTrainedModel.get_correct_attn_implementation,
        modeling_flash_attention_utils._lazy_imports,
    )


def eager_and_flash(name, **more):
    """Two models of the same weights, the second by flash_attention_2."""
    models = two_models(name, **more)
    models[1].set_attn_implementation(FLASH)
    assert models[1].config._attn_implementation == FLASH
    return models


def test_undo_restores_every_table_in_any_order():
    before = tables()
    handles = [
        door.register("another"),
        door.register("another", flash_attention_2=True),
        door.register("sdpa"),
    ]
    assert AttentionInterface._global_mapping["sdpa"] is door.attention_forward
    for handle in (handles[0], handles[2], handles[1]):
        assert "another" in AttentionInterface._global_mapping
        handle.undo()
    handles[1].undo()
    assert tables() == before
    with door.register("another") as name:
        assert name == "another" and name in AttentionMaskInterface._global_mapping
    assert tables() == before


@pytest.mark.parametrize("name", ["flash_attention_2", "", 5, "my-flash"])
def test_names_that_mean_something_else_are_refused(name):
    with pytest.raises(ValueError, match="accepted are strings without"):
        door.register(name)


@pytest.mark.parametrize("name", ["Mistral", "Gemma 2"])
def test_flash_attention_2_agrees_with_eager(name):
    with door.register(flash_attention_2=True):
        models, ids = eager_and_flash(name), token_ids(2, 9)
        assert_same(models, {"input_ids": ids})
        for mask in (PADDED, PADDED.flip(1)):
            assert_same(models, {"input_ids": ids, "attention_mask": mask}, mask)
        options = {"max_new_tokens": 5, "do_sample": False, "attention_mask": PADDED}
        eager, ours = (model.generate(ids, **options).tolist() for model in models)
        assert ours == eager


def test_packed_sequences_by_positions_and_by_lengths():
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 0, 1, 2]])
    ends = torch.tensor([0, 4, 6, 9], dtype=torch.int32)
    lengths = {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": 4, "max_length_k": 4}
    ids = token_ids(1, 9)
    with door.register(flash_attention_2=True):
        models = eager_and_flash("Mistral")
        assert_same(models, {"input_ids": ids, "position_ids": positions, "use_cache": False})
        with torch.no_grad():
            expected = models[0](input_ids=ids, position_ids=positions, use_cache=False).logits
            by_lengths = {"input_ids": ids, "position_ids": positions, "use_cache": False, **lengths}
            torch.testing.assert_close(models[1](**by_lengths).logits, expected, atol=2e-5, rtol=1e-4)
            models[1].set_attn_implementation("fusedattn")
            torch.testing.assert_close(models[1](**by_lengths).logits, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("model", "config"), [("BloomModel", "BloomConfig"), ("GPTJModel", "GPTJConfig")])
def test_models_without_the_interface_refuse_the_name(model, config):
    """BLOOM adds what mask functions give to its scores, whatever it is: numbers are right, bools are not."""
    door.register()
    config = getattr(transformers, config)(attn_implementation="fusedattn", n_layer=1, n_embd=32, n_head=4)
    with pytest.raises(ValueError, match=f"{model} does not ask .* accepted is what the model names itself"):
        getattr(transformers, model)(config)


def test_models_with_attention_classes_of_their_own_run_as_flash_attention_2():
    """GPT-J has a class for each implementation that it knows, and none for others."""
    sizes = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4}
    no_dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    models = []
    with door.register(flash_attention_2=True):
        for attention in ("eager", FLASH):
            torch.manual_seed(5)
            config = transformers.GPTJConfig(**sizes, **no_dropout, attn_implementation=attention)
            models.append(transformers.GPTJForCausalLM(config).eval())
        inputs = {"input_ids": token_ids(2, 9), "attention_mask": PADDED}
        assert_same(models, inputs, PADDED)


def test_flash_attention_2_passes_sinks_on():
    query, key, value = (torch.randn(1, heads, 6, 8) for heads in (4, 2, 2))
    layer = torch.nn.Linear(1, 1)
    layer.config, layer.is_causal = transformers.LlamaConfig(**DECODER), True
    layer.config._attn_implementation = FLASH
    sink = torch.randn(4)
    with door.register(flash_attention_2=True):
        forward = AttentionInterface._global_mapping[FLASH]
        out, _ = forward(layer, query, key, value, None, s_aux=sink)
        ours, _ = door.attention_forward(layer, query, key, value, None, s_aux=sink)
    torch.testing.assert_close(out, ours, atol=1e-6, rtol=1e-5)


def test_without_it_transformers_refuses_as_before():
    model = two_models("Llama")[0]
    with pytest.raises((ImportError, ValueError)):
        model.set_attn_implementation(FLASH)
