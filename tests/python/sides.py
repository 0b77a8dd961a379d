"""One list of score terms, as fusedattn.attention takes them and as the formula does; results compared."""

import fusedattn
import golden
import torch


def draw_qkv(shape, dtype=torch.float32):
    """q, k, v, d_out of B, N, Nk, Sq, Skv, D, Dv."""
    B, N, Nk, Sq, Skv, D, Dv = shape
    shapes = (B, N, Sq, D), (B, Nk, Skv, D), (B, Nk, Skv, Dv), (B, N, Sq, Dv)
    return [golden.draw(*one, dtype=dtype) for one in shapes]


def kept(shape, dropout_p, seed):
    """What dropout multiplies the probabilities of BNSD scores of this shape with."""
    keep = torch.from_numpy(fusedattn.dropout_mask(shape, dropout_p, seed))
    return keep.double() / torch.tensor(1 - dropout_p, dtype=torch.float32).double()


def both(scores, softcap=0.0, bias=None, slopes=None, align="bottom-right", square_root=False, sink=None, dropout=None):
    """(keywords of attention, keywords of golden); scores is [B,N,Sq,Skv], dropout (probability, seed)."""
    ours, formula = {}, {}
    if softcap:
        ours["softcap"] = formula["softcap"] = softcap
    if bias is not None:
        ours["bias"] = formula["bias"] = bias
    if slopes is not None:
        ours["alibi"] = fusedattn.Alibi(slopes, align, square_root)
        formula |= dict(slopes=slopes, top_left=align == "top-left", square_root=square_root)
    if sink is not None:
        ours["sink"] = formula["sink"] = sink
    if dropout is not None:
        ours |= dict(dropout_p=dropout[0], dropout_seed=dropout[1])
        formula["keep"] = kept(scores, *dropout)
    return ours, formula


def run(q, k, v, d_out, **arguments):
    """(out, max, sum, dq, dk, dv) and, for those given, d_bias, d_sink."""
    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
    for name in ("bias", "sink"):
        if arguments.get(name) is not None:
            arguments[name] = arguments[name].detach().requires_grad_()
            leaves.append(arguments[name])
    results = fusedattn.attention(*leaves[:3], return_stats=True, **arguments)
    return *(r.detach() for r in results), *torch.autograd.grad(results[0], leaves, d_out)


def names(arguments):
    return ["dq", "dk", "dv", *(f"d_{name}" for name in ("bias", "sink") if arguments.get(name) is not None)]


def check(q, k, v, d_out, seen=None, mask=None, scale=None, slack=2, **terms):
    """Forward, statistics and gradients of BNSD tensors against the formula."""
    ours, formula = both((*q.shape[:3], k.shape[2]), **terms)
    out, row_max, row_sum, *gradients = run(q, k, v, d_out, mask=mask, scale=scale, **ours)
    wanted = golden.attention(q, k, v, seen, scale, **formula)
    golden.assert_close(out, wanted[0], "out", slack=slack)
    golden.assert_statistics(row_max, row_sum, *wanted[1:])
    formula_gradients = golden.gradients(q, k, v, d_out, seen, scale, **formula)
    for name, got, want in zip(names(ours), gradients, formula_gradients, strict=True):
        coarse = got.dtype == torch.float32 and q.dtype != torch.float32  # float32 of 16-bit outputs
        golden.assert_close(got.to(q.dtype) if coarse else got, want, name, slack=2 * slack)
