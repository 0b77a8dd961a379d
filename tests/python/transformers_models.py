"""Small random models of transformers, the same weights with eager attention and with fusedattn."""

import torch
import transformers
from transformers import PreTrainedConfig

import fusedattn.like.transformers as door

DECODER = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}
ENCODER_DECODER = {
    "vocab_size": 97, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
    "dropout": 0.0, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None, "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}  # fmt: skip
MOE = {"num_local_experts": 2, "num_experts_per_tok": 1}
IMAGE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "image_size": 12,
    "patch_size": 4,
}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}

# name: (class of the model, class of its configuration, options)
DECODERS = {
    "Llama": ("LlamaForCausalLM", "LlamaConfig", {}),
    "Mistral": ("MistralForCausalLM", "MistralConfig", {"sliding_window": 5}),
    "Qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {"use_sliding_window": True, **LAYERS}),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {}),
    "Gemma 2": ("Gemma2ForCausalLM", "Gemma2Config", {"attn_logit_softcapping": 2.0, **LAYERS}),
    "Gemma 3": ("Gemma3ForCausalLM", "Gemma3TextConfig", LAYERS),
    "GPT-OSS": ("GptOssForCausalLM", "GptOssConfig", {**MOE, **LAYERS}),
    "Phi": ("PhiForCausalLM", "PhiConfig", {}),
    "Llama 4": (
        "Llama4ForCausalLM", "Llama4TextConfig",
        {"attention_chunk_size": 4, "intermediate_size_mlp": 32, "use_qk_norm": False, "no_rope_layers": [1, 0], **MOE},
    ),
}  # fmt: skip
OTHERS = {
    "BERT": ("BertModel", "BertConfig", {**NO_DROPOUT, "is_decoder": False}),
    "ModernBERT": ("ModernBertModel", "ModernBertConfig", {"local_attention": 6, "global_attn_every_n_layers": 2}),
    "ViT": ("ViTModel", "ViTConfig", {**IMAGE, **NO_DROPOUT}),
    "CLIP": (
        "CLIPModel", "CLIPConfig",
        {"text_config": {**DECODER, "eos_token_id": 96}, "vision_config": IMAGE, "projection_dim": 16},
    ),
    "T5": (
        "T5ForConditionalGeneration", "T5Config",
        {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0, "decoder_start_token_id": 2},
    ),
    "BART": ("BartForConditionalGeneration", "BartConfig", ENCODER_DECODER),
    "Whisper": (
        "WhisperForConditionalGeneration", "WhisperConfig",
        {**ENCODER_DECODER, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 32,
         "suppress_tokens": None, "begin_suppress_tokens": None},
    ),
}  # fmt: skip


PADDED = torch.ones(2, 9, dtype=torch.long)
PADDED[1, :4] = 0  # on the left


def two_models(name: str, **more):
    """(eager, fusedattn): the same random weights, in eval mode."""
    door.register()
    torch.set_num_threads(1)  # a team would mostly wait for itself
    model_class, config_class, options = {**DECODERS, **OTHERS}[name]
    if name in DECODERS or name in ("BERT", "ModernBERT"):
        options = {**DECODER, **options}
    models = []
    for attention in ("eager", "fusedattn"):
        config: PreTrainedConfig = getattr(transformers, config_class)(**{**options, **more})
        config._attn_implementation = attention
        models.append(getattr(transformers, model_class)(config).eval())
    generator = torch.Generator().manual_seed(3)
    for parameter in models[0].parameters():  # biases of positions and sinks would be 0 or 1
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    models[1].load_state_dict(models[0].state_dict())
    assert models[1].config._attn_implementation == "fusedattn"
    return models


def token_ids(*shape):
    return torch.randint(3, 97, shape, generator=torch.Generator().manual_seed(7))


def assert_same(models, inputs, weight=None, output=0, atol=2e-5):
    """Both models' first output and all gradients agree; `weight` [B, S] leaves rows out."""
    outputs = []
    for model in models:
        model.zero_grad()
        found = model(**inputs)[output]
        found = found if weight is None else found * weight[..., None]
        found.square().mean().backward()
        outputs.append(found.detach())
    torch.testing.assert_close(outputs[1], outputs[0], atol=atol, rtol=1e-4)
    pairs = list(zip(*(model.named_parameters() for model in models), strict=True))
    scale = max(float(one.grad.abs().max()) for (_, one), _ in pairs if one.grad is not None)
    for (name, one), (_, other) in pairs:
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:  # that of a key's bias is 0 but for rounding
            torch.testing.assert_close(other.grad, one.grad, atol=1e-5 * scale, rtol=1e-3, msg=name)
