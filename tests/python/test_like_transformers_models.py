"""The Hugging Face door: random models give the numbers, gradients and tokens of eager attention."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers_models import DECODERS, PADDED, assert_same, token_ids, two_models  # noqa: E402


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_agree_with_eager(name):
    models, ids = two_models(name), token_ids(2, 9)
    assert_same(models, {"input_ids": ids})
    for mask in (PADDED, PADDED.flip(1)):
        assert_same(models, {"input_ids": ids, "attention_mask": mask}, mask)
    packed = torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4, 5, 6, 7]])
    assert_same(models, {"input_ids": ids, "position_ids": packed, "use_cache": False})
    options = {"max_new_tokens": 4, "do_sample": False, "attention_mask": PADDED}
    static = [{"cache_implementation": "static"}] if name in ("Llama", "Gemma 3") else []
    for more in ({}, *static):
        eager, ours = (model.generate(ids, **options, **more).tolist() for model in models)
        assert ours == eager, more


@pytest.mark.parametrize("name", ["BERT", "ModernBERT"])
def test_encoders_agree_with_eager(name):
    models, ids = two_models(name), token_ids(2, 9)
    assert_same(models, {"input_ids": ids})
    assert_same(models, {"input_ids": ids, "attention_mask": PADDED.flip(1)}, PADDED.flip(1))


def test_image_models_agree_with_eager():
    pixels = torch.randn(2, 3, 12, 12)
    assert_same(two_models("ViT"), {"pixel_values": pixels})
    inputs = {"input_ids": token_ids(2, 9), "attention_mask": PADDED.flip(1), "pixel_values": pixels}
    assert_same(two_models("CLIP"), inputs)


@pytest.mark.parametrize("name", ["T5", "BART"])
def test_models_with_two_stacks_agree_with_eager(name):
    models, mask = two_models(name), PADDED.flip(1)
    inputs = {"input_ids": token_ids(2, 9), "attention_mask": mask, "decoder_input_ids": token_ids(2, 5)}
    assert_same(models, inputs)
    options = {"max_new_tokens": 5, "num_beams": 2, "attention_mask": mask, "eos_token_id": None}
    eager, ours = (model.generate(token_ids(2, 9), **options).tolist() for model in models)
    assert ours == eager


def test_speech_model_agrees_with_eager():
    models, sound = two_models("Whisper"), torch.randn(2, 8, 20)
    assert_same(models, {"input_features": sound, "decoder_input_ids": token_ids(2, 5)})
    eager, ours = (model.generate(sound, max_new_tokens=5).tolist() for model in models)
    assert ours == eager


def test_a_training_step_with_dropout_and_checkpointing_repeats():
    """Recomputed layers draw the dropout they drew before, or gradients would not be those of the loss."""
    _, ours = two_models("Llama", attention_dropout=0.3)
    ours.train()
    ids, losses = token_ids(2, 9), []
    for checkpointing in (False, True):
        if checkpointing:
            ours.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(1)
        ours.zero_grad()
        loss = ours(input_ids=ids, attention_mask=PADDED, labels=ids, use_cache=False).loss
        loss.backward()
        losses.append((float(loss.detach()), ours.model.layers[0].self_attn.q_proj.weight.grad.clone()))
    assert losses[0][0] == losses[1][0]
    torch.testing.assert_close(losses[0][1], losses[1][1], atol=0, rtol=0)


def test_autocast_casts_as_for_torch():
    eager, ours = two_models("Llama")
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        a, b = (model(input_ids=token_ids(2, 9), attention_mask=PADDED).logits for model in (eager, ours))
    torch.testing.assert_close(b[PADDED.bool()], a[PADDED.bool()], atol=0.15, rtol=0.05)


def test_a_compiled_model_agrees_with_itself():
    _, ours = two_models("Mistral", num_hidden_layers=1)
    inputs = {"input_ids": token_ids(2, 9), "attention_mask": PADDED, "use_cache": False}
    with torch.no_grad():
        compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)(**inputs).logits
        torch.testing.assert_close(compiled, ours(**inputs).logits, atol=1e-5, rtol=1e-5)
