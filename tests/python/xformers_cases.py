"""Cases of xFormers' attention: every class of attn_bias as its module makes it, and its formula in float64."""

import golden
import torch

QUERIES, KEYS = [5, 0, 9, 1], [11, 4, 9, 6]  # of packed sequences
PADDING, PAGE = 12, 4
TABLE = torch.tensor([[7, 2, 9], [0, 1, 4], [11, 3, 5], [6, 10, 8]], dtype=torch.int32)
STARTS = [2, 30, 14, 9]  # of gappy keys: neither in order nor apart
IN_PAGES = [1, 0, 3, 5]


def biases(module):
    """{class name: (attn_bias, queries, keys)} by the constructors of a module attn_bias."""
    blocks = module.BlockDiagonalMask.from_seqlens(QUERIES, KEYS)
    padded = module.BlockDiagonalPaddedKeysMask.from_seqlens(QUERIES, PADDING, KEYS)
    total = 4 * PADDING
    shapes = {"blocks": (15, sum(KEYS)), "padded": (15, total), "dense": (9, 13)}

    def paged(kind):
        return padded.make_paged(TABLE, PAGE, kind)

    def paged_gappy(kind):
        starts = [start + PADDING * b for b, start in enumerate(IN_PAGES)]
        gappy = module.BlockDiagonalGappyKeysMask.from_seqlens(QUERIES, [*starts, total], [7, 4, 9, 6])
        return gappy.make_paged(TABLE, PAGE, notional_padding=PADDING, paged_type=kind)

    made = {
        "LowerTriangularMask": ("dense", lambda kind: kind()),
        "LowerTriangularMaskWithTensorBias": ("dense", lambda kind: kind(golden.draw(2, 3, 9, 13))),
        "LowerTriangularFromBottomRightMask": ("dense", lambda kind: kind()),
        "LowerTriangularFromBottomRightLocalAttentionMask": ("dense", lambda kind: kind(4)),
        "LocalAttentionFromBottomRightMask": ("dense", lambda kind: kind(3, 2)),
        "BlockDiagonalMask": ("blocks", lambda kind: blocks),
        "BlockDiagonalCausalMask": ("blocks", lambda kind: blocks.make_causal()),
        "BlockDiagonalCausalFromBottomRightMask": ("blocks", lambda kind: blocks.make_causal_from_bottomright()),
        "BlockDiagonalCausalLocalAttentionMask": ("blocks", lambda kind: blocks.make_local_attention(3)),
        "BlockDiagonalCausalLocalAttentionFromBottomRightMask": (
            "blocks", lambda kind: blocks.make_local_attention_from_bottomright(3)),
        "BlockDiagonalPaddedKeysMask": ("padded", lambda kind: padded),
        "BlockDiagonalCausalWithOffsetPaddedKeysMask": (
            "padded", lambda kind: kind.from_seqlens(q_seqlen=QUERIES, kv_seqlen=KEYS, kv_padding=PADDING)),
        "BlockDiagonalLocalAttentionPaddedKeysMask": ("padded", lambda kind: padded.make_local_attention(3, 1)),
        "BlockDiagonalCausalLocalAttentionPaddedKeysMask": (
            "padded", lambda kind: kind.from_seqlens_local(QUERIES, PADDING, KEYS, window_size=3)),
        "BlockDiagonalGappyKeysMask": ("padded", lambda kind: kind.from_seqlens(QUERIES, [*STARTS, total], KEYS)),
        "BlockDiagonalCausalWithOffsetGappyKeysMask": (
            "padded", lambda kind: kind.from_seqlens(QUERIES, [*STARTS, total], KEYS)),
        "PagedBlockDiagonalPaddedKeysMask": ("padded", paged),
        "PagedBlockDiagonalCausalWithOffsetPaddedKeysMask": ("padded", paged),
        "PagedBlockDiagonalGappyKeysMask": ("padded", paged_gappy),
        "PagedBlockDiagonalCausalWithOffsetGappyKeysMask": ("padded", paged_gappy),
    }  # fmt: skip
    return {name: (make(getattr(module, name)), *shapes[form]) for name, (form, make) in made.items()}


# Of each class: where the keys of a sequence are, and which (row, column, rows, columns) of a block are seen.
SEES = {
    "": lambda i, j, m, n: True,
    "top left": lambda i, j, m, n: j <= i,
    "bottom right": lambda i, j, m, n: j <= i + n - m,
    "local, top left": lambda i, j, m, n: i - 3 < j <= i,
    "local 3": lambda i, j, m, n: i + n - m - 3 < j <= i + n - m,
    "local 4": lambda i, j, m, n: i + n - m - 4 < j <= i + n - m,
    "3 to 2": lambda i, j, m, n: i + n - m - 3 <= j <= i + n - m + 2,
    "3 to 1": lambda i, j, m, n: i + n - m - 3 <= j <= i + n - m + 1,
}
FORMULAS = {
    "LowerTriangularMask": "top left",
    "LowerTriangularMaskWithTensorBias": "top left",
    "LowerTriangularFromBottomRightMask": "bottom right",
    "LowerTriangularFromBottomRightLocalAttentionMask": "local 4",
    "LocalAttentionFromBottomRightMask": "3 to 2",
    "BlockDiagonalMask": "",
    "BlockDiagonalCausalMask": "top left",
    "BlockDiagonalCausalFromBottomRightMask": "bottom right",
    "BlockDiagonalCausalLocalAttentionMask": "local, top left",
    "BlockDiagonalCausalLocalAttentionFromBottomRightMask": "local 3",
    "BlockDiagonalPaddedKeysMask": "",
    "BlockDiagonalCausalWithOffsetPaddedKeysMask": "bottom right",
    "BlockDiagonalLocalAttentionPaddedKeysMask": "3 to 1",
    "BlockDiagonalCausalLocalAttentionPaddedKeysMask": "local 3",
    "BlockDiagonalGappyKeysMask": "",
    "BlockDiagonalCausalWithOffsetGappyKeysMask": "bottom right",
    "PagedBlockDiagonalPaddedKeysMask": "",
    "PagedBlockDiagonalCausalWithOffsetPaddedKeysMask": "bottom right",
    "PagedBlockDiagonalGappyKeysMask": "",
    "PagedBlockDiagonalCausalWithOffsetGappyKeysMask": "bottom right",
}


def keys_of(name: str, b: int) -> list[int]:
    """The columns of sequence b, in their order."""
    if "Paged" in name:
        first, count = (IN_PAGES[b], [7, 4, 9, 6][b]) if "Gappy" in name else (0, KEYS[b])
        return [int(TABLE[b, n // PAGE]) * PAGE + n % PAGE for n in range(first, first + count)]
    first = STARTS[b] if "Gappy" in name else PADDING * b if "Padded" in name else sum(KEYS[:b])
    return list(range(first, first + KEYS[b]))


def seen(name: str, rows: int, columns: int) -> torch.Tensor:
    """bool [rows, columns] of a class, pair by pair."""
    sees, shown = SEES[FORMULAS[name]], torch.zeros(rows, columns, dtype=torch.bool)
    if "Block" not in name:
        blocks = [(range(rows), range(columns))]
    else:
        blocks = [(range(sum(QUERIES[:b]), sum(QUERIES[: b + 1])), keys_of(name, b)) for b in range(4)]
    for queries, keys in blocks:
        for i, row in enumerate(queries):
            for j, column in enumerate(keys):
                shown[row, column] = sees(i, j, len(queries), len(keys))
    return shown
