"""mindspore.ops.speed_fusion_attention: all seven results, and dropout from MindSpore's generator."""

import mindspore
from mindspore import Tensor
from mindspore.common.generator import default_generator

from ..ascend import Output
from .attention import attend
from .rules_arguments import Arguments
from .tensors import fresh

_STEP = 12  # by which a call advances the generator, as on the device


def speed_fusion_attention(
    query,
    key,
    value,
    head_num,
    input_layout,
    *,
    pse=None,
    padding_mask=None,
    atten_mask=None,
    scale=1.0,
    keep_prob=1.0,
    pre_tokens=2147483647,
    next_tokens=2147483647,
    inner_precise=0,
    prefix=None,
    actual_seq_qlen=None,
    actual_seq_kvlen=None,
    sparse_mode=0,
    gen_mask_parallel=True,
    sync=False,
    pse_type=1,
    q_start_idx=None,
    kv_start_idx=None,
):
    """Attention as `mindspore.ops.speed_fusion_attention` computes it, on CPU tensors.

    query, key, value: float16, bfloat16 or float32, of shapes by input_layout as for flash_attention_score;
    the head size of value may be less. pse by pse_type: 0 scale * scores + pse, 1 scale * (scores + pse), 2
    and 3 float32 slopes [N] or [B, N] of an ALiBi made here. sparse_mode 0 to 8; without atten_mask nothing
    is hidden. Weights are kept with probability keep_prob and divided by it.
    Returns (attention_out, softmax_max, softmax_sum, softmax_out, seed, offset, numels): statistics float32
    [B, N, S, 8], with TND [T, N, 8]; softmax_out empty; seed and offset, int64 [1], are those of MindSpore's
    default generator at the call, which then advances by 12; numels, int64 [1], is the number of scores.
    Differentiable in query, key and value. TypeError, ValueError, RuntimeError: docs/operators/mindspore.md.
    """
    arguments = Arguments(
        "mindspore_speed",
        query=query,
        key=key,
        value=value,
        head_num=head_num,
        input_layout=input_layout,
        real_shift=pse,
        padding_mask=padding_mask,
        atten_mask=atten_mask,
        scale_value=scale,
        keep_prob=keep_prob,
        pre_tockens=pre_tokens,
        next_tockens=next_tokens,
        inner_precise=inner_precise,
        prefix=prefix,
        actual_seq_qlen=actual_seq_qlen,
        actual_seq_kvlen=actual_seq_kvlen,
        sparse_mode=sparse_mode,
        gen_mask_parallel=gen_mask_parallel,
        sync=sync,
        pse_type=pse_type,
        q_start_idx=q_start_idx,
        kv_start_idx=kv_start_idx,
    )
    seed, offset = _next_of_the_stream()
    result = attend(arguments, seed, offset, generate=True)
    softmax_out = fresh(Output((0,), str(query.dtype).lower()))
    numbers = (Tensor([number], mindspore.int64) for number in (seed, offset, result.numels))
    return result.attention_out, result.softmax_max, result.softmax_sum, softmax_out, *numbers


def _next_of_the_stream() -> tuple[int, int]:
    """(seed, offset) of the default generator, which advances."""
    state = default_generator._step(Tensor(_STEP, mindspore.int64))
    return tuple(int(number.asnumpy()) for number in state)
