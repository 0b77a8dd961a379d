"""FlashAttentionScore and its gradient as the Ascend contract has them, for tensors of any framework.

A door describes its tensors as Operands, asks for a plan, allocates what the plan names, and runs it:

    request = Request(query=operand, key=operand, value=operand, head_num=8, input_layout="BNSD",
    door="torch_npu") plan = forward_plan(request)                  # every check; raises Refusal
    outputs = {name: empty(*out) for name, out in plan.outputs.items()}     # Output(shape, dtype), contiguous
    plan.run({"query": address, ..., "attention_out": address, ...}, seed, offset)

Plans are kept per thread and found again by their request, which is hashable; one plan serves one thread.
Nothing here imports torch or mindspore, and nothing here reads a tensor but through the library.
"""

from .constraints import check
from .operand import Operand, Output, needs_copy
from .refusal import NULL, STATUS, TILING, VALUE, Refusal
from .request import Request
from .score import BackwardPlan, ForwardPlan, backward_plan, dropout_bits, forward_plan

__all__ = [
    "NULL",
    "STATUS",
    "TILING",
    "VALUE",
    "BackwardPlan",
    "ForwardPlan",
    "Operand",
    "Output",
    "Refusal",
    "Request",
    "backward_plan",
    "check",
    "dropout_bits",
    "forward_plan",
    "needs_copy",
]
