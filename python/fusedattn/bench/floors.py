"""floors.py: the share of the limit, in %, that the large cells must reach, and what follows for others."""

from __future__ import annotations

# Uncut, one thread: (length, dim, dtype, direction). Prototypes of a hundred lines reached 88 to 95.
_UNCUT = {
    (4096, 128, "fp32", "forward"): 85,
    (4096, 128, "fp32", "backward"): 85,
    (4096, 128, "bf16", "forward"): 75,
    (4096, 128, "bf16", "backward"): 75,
    (2048, 64, "fp32", "forward"): 80,
    (2048, 64, "fp32", "backward"): 82,
    (2048, 64, "bf16", "forward"): 68,
    (2048, 64, "bf16", "backward"): 70,
}
_FP16_BELOW_FP32 = 5  # points
_CAUSAL_BELOW_UNCUT = 8  # points of useful work, at length 4096
_OF_ONE_THREAD = 0.95  # the share with several threads over the share with one


def add(results: list[dict], ours: str) -> None:
    """Sets "floor_percent" of every row; None where none applies or the row it follows from is missing."""
    shares = {_key(row): row["peers"][ours]["share_percent"] for row in results}
    for row in results:
        row["floor_percent"] = _floor(row, shares)


def missed(results: list[dict], ours: str) -> list[dict]:
    """The rows below their floor."""
    return [
        r for r in results if r["floor_percent"] and r["peers"][ours]["share_percent"] < r["floor_percent"]
    ]


def _key(row: dict, **changes) -> tuple:
    row = row | changes
    return (*row["shape"][2:], row["dtype"], row["direction"], row["mask"], row["threads"])


def _floor(row: dict, shares: dict[tuple, float]) -> float | None:
    if not row["square"] or (*row["shape"][2:], "fp32", row["direction"]) not in _UNCUT:
        return None
    if row["threads"] > 1:
        return _scaled(shares.get(_key(row, threads=1)), _OF_ONE_THREAD)
    if row["mask"] == "causal":
        return (
            _minus(shares.get(_key(row, mask="none")), _CAUSAL_BELOW_UNCUT)
            if row["shape"][2] == 4096
            else None
        )
    if row["mask"] != "none":
        return None
    if row["dtype"] == "fp16":
        return _minus(shares.get(_key(row, dtype="fp32")), _FP16_BELOW_FP32)
    return _UNCUT[(*row["shape"][2:], row["dtype"], row["direction"])]


def _scaled(share: float | None, factor: float) -> float | None:
    return None if share is None else share * factor


def _minus(share: float | None, points: float) -> float | None:
    return None if share is None else share - points
