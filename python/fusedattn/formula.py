"""formula.py: attention and its gradients for one head, in float64 and in full: what results are held to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOWEST = float(np.finfo(np.float32).min)
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Terms:
    """What one head has besides its tensors.

    visible: bool [rows, columns], or None for all. softcap: what bounds the scaled scores, 0 for nothing.
    added: to the scores then, [rows, columns]; -inf hides. sink: one more score of every row, without a value. kept: what each probability is multiplied with,
    [rows, columns]: 0 where it is dropped, else 1 / keep_prob.
    """

    visible: np.ndarray | None = None
    added: np.ndarray | None = None
    sink: float | None = None
    kept: np.ndarray | float = 1.0
    softcap: float = 0.0


def of(terms: Terms | np.ndarray | None) -> Terms:
    """Terms, also of what is visible alone."""
    return terms if isinstance(terms, Terms) else Terms(visible=terms)


def alibi(slope: float, rows: int, columns: int, top_left: bool = False, square_root: bool = False):
    """-slope * |d| or -slope * sqrt|d| for every pair, d = column - row from the diagonal."""
    shift = 0 if top_left else columns - rows
    distance = np.abs(np.arange(columns)[None, :] - np.arange(rows)[:, None] - shift).astype(np.float64)
    return -slope * (np.sqrt(distance) if square_root else distance)


def scores(q, k, scale: float, terms: Terms):
    """scale q k^T, capped, and what is added, -inf where hidden; the sink, if any, is the last column."""
    x = scale * (q.astype(np.float64) @ k.astype(np.float64).T)
    if terms.softcap:
        x = terms.softcap * np.tanh(x / terms.softcap)
    if terms.added is not None:
        with np.errstate(invalid="ignore"):  # what is hidden may be anything
            x = x + terms.added
    if terms.visible is not None:
        x = np.where(terms.visible, x, -np.inf)
    return x if terms.sink is None else np.append(x, np.full((len(x), 1), float(terms.sink)), axis=1)


def probabilities(q, k, scale: float, terms: Terms | np.ndarray | None = None):
    """Softmax of the scores over the columns, with its row maxima and row sums; the sink has the last one.

    q [rows, dim], k [columns, dim]; terms, or visible [rows, columns] of bool, or None. A row that sees no
    column has zero probabilities, max = lowest and sum = largest float32 (with a sink: max = sink, sum = 1);
    without any columns max = sum = 0.
    """
    x = scores(q, k, scale, of(terms))
    empty = ~(x > -np.inf).any(axis=1) & ~np.isnan(x).any(axis=1)
    row_max = np.where(empty, 0.0, x.max(axis=1, initial=-np.inf))
    weights = np.exp(x - row_max[:, None])
    row_sum = np.where(empty, 1.0, weights.sum(axis=1))
    p = weights / row_sum[:, None]
    if len(k) == 0:
        return p, np.zeros(len(q)), np.zeros(len(q))
    return p, np.where(empty, LOWEST, row_max), np.where(empty, LARGEST, row_sum)


def forward(q, k, v, scale: float, terms: Terms | np.ndarray | None = None):
    """out [rows, dim_v], max [rows] and sum [rows] of one head."""
    p, row_max, row_sum = probabilities(q, k, scale, terms)
    return (p[:, : len(k)] * of(terms).kept) @ v.astype(np.float64), row_max, row_sum


def score_gradients(q, k, v, d_out, scale: float, terms: Terms | np.ndarray | None = None):
    """The gradient of every score, [rows, columns]: that of a bias; with a sink one column more, its own."""
    p, _, _ = probabilities(q, k, scale, terms)
    dp = np.zeros(p.shape)
    dp[:, : len(k)] = of(terms).kept * (d_out.astype(np.float64) @ v.astype(np.float64).T)
    return p * (dp - (p * dp).sum(axis=1, keepdims=True))


def backward(q, k, v, d_out, scale: float, terms: Terms | np.ndarray | None = None):
    """dq, dk, dv of sum(out * d_out). For some rows only, dk and dv are those rows' contributions."""
    p = probabilities(q, k, scale, terms)[0][:, : len(k)] * of(terms).kept
    ds = score_gradients(q, k, v, d_out, scale, terms)[:, : len(k)]
    q, k, d_out = (x.astype(np.float64) for x in (q, k, d_out))
    if softcap := of(terms).softcap:
        ds = ds / np.cosh(scale * (q @ k.T) / softcap) ** 2
    return scale * (ds @ k), scale * (ds.T @ q), p.T @ d_out
