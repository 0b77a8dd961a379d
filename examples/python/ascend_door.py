"""npu_fusion_attention on the CPU, called as on an Ascend device, against the formula in float64.

Run: .venv/bin/python examples/python/ascend_door.py
"""

import math

import torch
from fusedattn.like import torch_npu  # on a device: import torch_npu

B, N, S, D = 1, 8, 1024, 128
torch.manual_seed(0)
query, key, value = (torch.randn(B, N, S, D, dtype=torch.float16, requires_grad=True) for _ in range(3))
d_out = torch.randn(B, N, S, D, dtype=torch.float16)

# Causal: the compressed mask, in which True hides, and sparse mode 3 (the diagonal ends at the bottom right).
atten_mask = torch.triu(torch.ones(2048, 2048, dtype=torch.bool), diagonal=1)
attention_out, softmax_max, softmax_sum, *_ = torch_npu.npu_fusion_attention(
    query,
    key,
    value,
    head_num=N,
    input_layout="BNSD",
    atten_mask=atten_mask,
    scale=1.0 / math.sqrt(D),
    sparse_mode=3,
)
attention_out.backward(d_out)

exact = [t.detach().double().requires_grad_() for t in (query, key, value)]
scores = exact[0] @ exact[1].transpose(-1, -2) / math.sqrt(D)
scores = scores.masked_fill(atten_mask[:S, :S], -math.inf)
wanted = scores.softmax(-1) @ exact[2]
wanted.backward(d_out.double())

print(f"attention_out {list(attention_out.shape)}, softmax_max {list(softmax_max.shape)} {softmax_max.dtype}")
pairs = {"attention_out": (attention_out, wanted)}
for name, tensor, leaf in zip(("query", "key", "value"), (query, key, value), exact):
    pairs[f"d_{name}"] = tensor.grad, leaf.grad
for name, (got, want) in pairs.items():
    error = float((got.detach() - want.detach()).abs().max() / want.detach().abs().max())
    print(f"{name}: off by {error:.1e} of its largest value (half a unit of float16 is 4.9e-04)")
    assert error < 2**-10
lse = (softmax_max + softmax_sum.log())[..., 0]
assert (lse - scores.detach().logsumexp(-1)).abs().max() < 1e-4
