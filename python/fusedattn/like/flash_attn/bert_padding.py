"""flash_attn.bert_padding: padded batches to packed sequences and back, all differentiable."""

from __future__ import annotations

import torch


def index_first_axis(input, indices):
    """input[indices] along the first axis of what has two or more. Its gradient is summed where indices repeat."""
    return input.index_select(0, indices)


def index_put_first_axis(values, indices, first_axis_dim):
    """Zeros of first_axis_dim rows, with values in the rows `indices`."""
    return values.new_zeros(first_axis_dim, *values.shape[1:]).index_copy(0, indices.long(), values)


def index_first_axis_residual(input, indices):
    """(input[indices], input)."""
    return index_first_axis(input, indices), input


def unpad_input(hidden_states, attention_mask, unused_mask=None):
    """(packed, indices, cu_seqlens, max_seqlen_in_batch, seqused) of hidden_states (batch, seqlen, ...).

    attention_mask: (batch, seqlen), bool or int, 1 for valid tokens. unused_mask: the same, 1 for tokens that
    are packed too but not counted in seqused.
    """
    taken = attention_mask if unused_mask is None else attention_mask + unused_mask
    lengths = taken.sum(dim=-1, dtype=torch.int32)
    used = attention_mask.sum(dim=-1, dtype=torch.int32)
    return *_packed(hidden_states, taken, lengths), used


def unpad_input_for_concatenated_sequences(hidden_states, attention_mask_in_length):
    """(packed, indices, cu_seqlens, max_seqlen_in_batch) where a row of the batch holds several sequences.

    attention_mask_in_length: (batch, seqlen), int: the lengths of a row's sequences, then zeros.
    """
    lengths = attention_mask_in_length[attention_mask_in_length != 0]
    columns = torch.arange(attention_mask_in_length.shape[-1], device=attention_mask_in_length.device)
    taken = columns < attention_mask_in_length.sum(dim=-1, keepdim=True)
    return _packed(hidden_states, taken, lengths)


def pad_input(hidden_states, indices, batch, seqlen):
    """(batch, seqlen, ...) of packed hidden_states (total, ...), zeros where nothing was."""
    padded = index_put_first_axis(hidden_states, indices, batch * seqlen)
    return padded.view(batch, seqlen, *hidden_states.shape[1:])


def _packed(hidden_states, taken, lengths):
    indices = taken.flatten().nonzero().flatten()
    ends = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    longest = int(lengths.max()) if lengths.numel() else 0
    return index_first_axis(hidden_states.flatten(0, 1), indices), indices, ends, longest
