"""Attention and its gradients by their formulas in NumPy's float64: what results are compared with."""

from dataclasses import dataclass

import numpy as np

LOWEST, LARGEST = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)
RELATIVE = {"float32": 2e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


@dataclass
class Case:
    """One call in [B, N, S, D], float64. seen broadcasts to the scores, True is visible; factor is what weights are
    multiplied with by dropout: 0 or 1 / keep_prob."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    scale: float = 1.0
    seen: np.ndarray | None = None
    before_scale: np.ndarray | float = 0.0  # x = scale * (s + before_scale) + after_scale
    after_scale: np.ndarray | float = 0.0
    factor: np.ndarray | float = 1.0

    def heads_repeated(self):
        group = self.q.shape[1] // self.k.shape[1]
        return self.k.repeat(group, axis=1), self.v.repeat(group, axis=1)

    def weights(self):
        """(weights without dropout, max, sum). Rows that see nothing: 0, LOWEST, LARGEST; without columns all 0."""
        k, _ = self.heads_repeated()
        x = self.scale * (self.q @ k.swapaxes(-1, -2) + self.before_scale) + self.after_scale
        if x.shape[-1] == 0:
            return x, np.zeros(x.shape[:-1]), np.zeros(x.shape[:-1])
        seen = np.ones(x.shape, bool) if self.seen is None else np.broadcast_to(self.seen, x.shape)
        some = seen.any(-1)
        row_max = np.where(seen, x, -np.inf).max(-1)
        e = np.where(seen, np.exp(np.where(seen, x, 0) - np.where(some, row_max, 0)[..., None]), 0)
        row_sum = e.sum(-1)
        p = e / np.where(some, row_sum, 1)[..., None]
        return p, np.where(some, row_max, LOWEST), np.where(some, row_sum, LARGEST)

    def forward(self):
        """(out, max, sum)."""
        p, row_max, row_sum = self.weights()
        return (p * self.factor) @ self.heads_repeated()[1], row_max, row_sum

    def backward(self, d_out):
        """(dq, dk, dv) of sum(out * d_out)."""
        k, v = self.heads_repeated()
        p, _, _ = self.weights()
        dp = (d_out @ v.swapaxes(-1, -2)) * self.factor
        ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * self.scale
        dk, dv = ds.swapaxes(-1, -2) @ self.q, (p * self.factor).swapaxes(-1, -2) @ d_out
        return ds @ k, self._group_sums(dk), self._group_sums(dv)

    def _group_sums(self, per_query_head):
        batch, heads, rows, dim = per_query_head.shape
        kv_heads = self.k.shape[1]
        return per_query_head.reshape(batch, kv_heads, heads // kv_heads, rows, dim).sum(2)


def seen_by(mode, q_len, kv_len, pre=None, following=None):
    """Which columns a row sees by the rule of a mode alone, bool [q_len, kv_len]."""
    row, column = np.indices((q_len, kv_len))
    shift = kv_len - q_len
    if mode == 2:
        return column <= row
    if mode == 3:
        return column <= row + shift
    shift = shift if mode == 4 else 0
    return (column >= row + shift - pre) & (column <= row + shift + following)


def philox_keeps(count, keep_prob, seed, offset):
    """Which of `count` elements the generated dropout keeps, by the definition of its stream, bool [count]."""
    low, word = np.uint64(0xFFFFFFFF), np.uint64(32)
    index = np.arange((count + 7) // 8, dtype=np.uint64)
    fixed = [np.full_like(index, part) for part in (offset & 0xFFFFFFFF, offset >> 32)]
    c = [index & low, index >> word, *fixed]
    k = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32)]
    for _ in range(7):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(second >> word) ^ c[1] ^ k[0], second & low, (first >> word) ^ c[3] ^ k[1], first & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    halves = [half for w in c for half in (w & np.uint64(0xFFFF), w >> np.uint64(16))]
    threshold = np.floor(float(np.float32(keep_prob)) * 65536 + 0.5)
    return (np.stack(halves, -1).reshape(-1) < threshold)[:count]


def assert_close(got, dtype, want, what="", slack=1.0):
    """Every element within the storage type's tolerance of max(|element|, root mean square of the tensor)."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, wanted {want.shape}"
    if want.size == 0:
        return
    size = np.maximum(np.abs(want), np.sqrt(np.square(want).mean()))
    rounding = 1e-6  # of gradients that are zero in exact arithmetic
    worst = (np.abs(got - want) / (slack * RELATIVE[dtype] * size + rounding)).max()
    assert worst <= 1, f"{what}: error is {worst:.2f} times what {dtype} is allowed"
