"""What a mask function of transformers shows, read from the function itself: a band, chunks, packed sequences.

transformers composes masks of small closures (`masking_utils`). Those whose code is known here are read together
with what they closed over; of any other function nothing is known, and its mask must be made as bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from transformers import masking_utils

from ...mask import Band


class Pattern(NamedTuple):
    """Which keys a query sees, by their places i and j in the whole sequence: all that every part shows.

    band: i - left <= j <= i + right. chunk: (size, start [B]): i and j are in the same chunk, counted from start.
    sequences, positions: [B, tokens], of packed sequences: i and j have the same number in `sequences`, and band
    and chunk are about their positions instead of their places.
    """

    band: Band = Band()
    chunk: tuple[int, torch.Tensor] | None = None
    sequences: torch.Tensor | None = None
    positions: torch.Tensor | None = None


def read(function) -> Pattern | None:
    """The pattern of a mask function; None where it is not known."""
    reader = _READERS.get(getattr(function, "__code__", None))
    if reader is None:
        return None
    cells = (cell.cell_contents for cell in function.__closure__ or ())
    return reader(**dict(zip(function.__code__.co_freevars, cells)))


def _all_of(mask_functions) -> Pattern | None:
    parts = [read(function) for function in mask_functions]
    if None in parts:
        return None
    band = Band()
    for part in parts:
        band = band.meet(part.band)
    found = {}
    for name in ("chunk", "sequences", "positions"):
        given = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        if len(given) > 1:
            return None
        found[name] = given[0] if given else None
    for part in parts:  # places and positions are not mixed
        if (
            found["positions"] is not None
            and part.positions is None
            and (part.band, part.chunk) != (Band(), None)
        ):
            return None
    return Pattern(band, **found)


def _of_positions(mask_function, position_ids) -> Pattern | None:
    inner = read(mask_function)
    if inner is None or inner.sequences is not None or inner.positions is not None:
        return None
    return inner._replace(positions=position_ids)


def _window(sliding_window) -> Pattern:
    return Pattern(Band(left=sliding_window - 1))


def _both_sides(sliding_window) -> Pattern:
    return Pattern(Band(sliding_window, sliding_window))


def _chunks(chunk_size, left_padding) -> Pattern:
    return Pattern(chunk=(chunk_size, left_padding))


def _packed(packed_sequence_mask) -> Pattern:
    return Pattern(sequences=packed_sequence_mask)


def _readers() -> dict:
    """From the code of a mask function to what reads its closure; by names, for versions differ in what they have."""
    functions = {
        "causal_mask_function": lambda: Pattern(Band(right=0)),
        "bidirectional_mask_function": lambda: Pattern(),
    }
    factories = {
        "and_masks": ((masking_utils.causal_mask_function,), _all_of),
        "sliding_window_overlay": ((1,), _window),
        "sliding_window_bidirectional_overlay": ((1,), _both_sides),
        "chunked_overlay": ((1, None), _chunks),
        "packed_sequence_mask_function": ((None,), _packed),
        "remap_positions_for_packed_sequence": ((None, None), _of_positions),
    }
    known = {getattr(masking_utils, name).__code__: reader for name, reader in functions.items()}
    for name, (arguments, reader) in factories.items():
        factory = getattr(masking_utils, name, None)
        if factory is not None:
            known[factory(*arguments).__code__] = reader
    return known


_READERS = _readers()
