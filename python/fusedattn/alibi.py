"""Alibi: a bias that falls with the distance of row and column, one slope per head."""

from dataclasses import dataclass

from .mask import check_alignment


@dataclass(frozen=True, eq=False)
class Alibi:
    """Takes slope * |d| from every score, or slope * sqrt|d|: linear biases of attention, never stored.

    slopes: float32 tensor or array, [N] or [B, N] (packed: [sequences, N]). They are constants.
    align: where d = column - row is 0: "bottom-right" (the last row's own column is the last) or "top-left"
        (row 0's own column is column 0), as for causal().
    square_root: the square root of the distance in place of the distance.
    """

    slopes: object
    align: str = "bottom-right"
    square_root: bool = False

    def __post_init__(self):
        check_alignment(self.align)
        if not isinstance(self.square_root, bool):
            raise TypeError(f"square_root is {self.square_root!r}; accepted are True and False")
