"""formula.py: attention and its gradients for one head, in float64 and in full: what results are held to."""

from __future__ import annotations

import numpy as np

LOWEST = float(np.finfo(np.float32).min)
LARGEST = float(np.finfo(np.float32).max)


def probabilities(q, k, scale: float, visible):
    """Softmax of scale q k^T over the visible columns, with its row maxima and row sums.

    q [rows, dim], k [columns, dim]; visible [rows, columns] of bool, or None for all. A row that sees no
    column has zero probabilities, max = lowest and sum = largest float32.
    """
    scores = scale * (q.astype(np.float64) @ k.astype(np.float64).T)
    if visible is not None:
        scores = np.where(visible, scores, -np.inf)
    empty = np.full(len(q), scores.shape[1] == 0) if visible is None else ~visible.any(axis=1)
    row_max = np.where(empty, 0.0, scores.max(axis=1, initial=-np.inf))
    weights = np.exp(scores - row_max[:, None])
    row_sum = np.where(empty, 1.0, weights.sum(axis=1))
    return weights / row_sum[:, None], np.where(empty, LOWEST, row_max), np.where(empty, LARGEST, row_sum)


def forward(q, k, v, scale: float, visible=None):
    """out [rows, dim_v], max [rows] and sum [rows] of one head."""
    p, row_max, row_sum = probabilities(q, k, scale, visible)
    return p @ v.astype(np.float64), row_max, row_sum


def backward(q, k, v, d_out, scale: float, visible=None):
    """dq, dk, dv of sum(out * d_out). For some rows only, dk and dv are those rows' contributions."""
    p, _, _ = probabilities(q, k, scale, visible)
    q, k, v, d_out = (x.astype(np.float64) for x in (q, k, v, d_out))
    dp = d_out @ v.T
    ds = p * (dp - (p * dp).sum(axis=1, keepdims=True))
    return scale * (ds @ k), scale * (ds.T @ q), p.T @ d_out
