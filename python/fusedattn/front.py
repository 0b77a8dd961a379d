"""attention(): the door for torch tensors and NumPy arrays."""

import sys

from . import extras
from . import layout as layouts
from .mask import Mask
from .numerals import integer, real
from .problem import Terms, check_dense

_EVERYTHING = Mask()


def _no_tensors_yet(q):
    return False


_is_tensor = _no_tensors_yet  # torch.is_tensor, and
_attend_tensors = (
    None  # ops.attend, once a torch tensor has been seen: importing fusedattn must not import torch
)


def attention(
    q,
    k,
    v,
    *,
    mask=None,
    bias=None,
    alibi=None,
    sink=None,
    softcap=0.0,
    dropout_p=0.0,
    dropout_seed=None,
    scale=None,
    layout="BNSD",
    return_stats=False,
    heads=None,
    cu_seqlens_q=None,
    cu_seqlens_k=None,
):
    """Attention dropout(softmax(cap(scale * q k^T) + bias)) v, on the CPU; differentiable for torch tensors.

    q, k, v: torch tensors or NumPy arrays, all float32, bfloat16 or float16, in the layout named:
        "BNSD" (q [B,N,Sq,D], k [B,Nk,Skv,D], v [B,Nk,Skv,Dv]), "BSND", "SBND", "BSH" and "SBH" (H = heads *
        features; give heads, the number of query heads), "TND" (sequences packed one after another; give
        cu_seqlens_q and cu_seqlens_k). N is a multiple of Nk, D at most 1536, Dv at most 768. Any strides are
        read in place; only a last dimension that is not contiguous is copied, which FUSEDATTN_VERBOSE=1 tells
        on stderr.
    mask: None; a Mask (causal(), window(), prefix(), joined by & and |); or a bool (or uint8) tensor or
        array, True where a row sees a column, that broadcasts to [B,N,Sq,Skv] (TND: to [N, longest q,
        longest k], positions local to each sequence), its last dimension in full.
    bias: added to the scaled scores: float32, bfloat16 or float16, whatever q is, of a shape as a mask's.
        -inf gives a column the weight 0 and does not hide it: its key and value must be finite, which those
        of a column hidden by a mask need not be. A torch bias that requires grad gets its gradient, in its
        dtype and shape.
    alibi: slopes, float32 [N] or [B,N] (TND: [sequences, N]), or an Alibi(slopes, ...): slope * |distance|
        is taken from each score. Constants: slopes that require grad are refused.
    sink: float32 [N], one more score for every row of a head, without a value: it takes its share of the
        softmax. Differentiable.
    softcap: 0.0, or what scaled scores are bounded by before anything is added to them: they become
        softcap * tanh(score / softcap). 1e-18 to 1e18; columns that are hidden stay so.
    dropout_p: which share of the probabilities is dropped, from 0 to below 1; the others are divided by
        1 - dropout_p. It applies whenever it is not 0: pass 0.0 for inference.
    dropout_seed: an integer, or a pair (seed, offset), that fixes what is dropped: dropout_mask() gives it.
        None draws one from torch's default generator, anew for each call; NumPy arrays need a seed.
    scale: of the products of q and k; None is 1/sqrt(D).
    cu_seqlens_q, cu_seqlens_k: cumulative lengths with a leading 0, list or integer tensor, as many for q as
        for k. Rows past the last end belong to no sequence: their outputs are 0.
    return_stats: also return the softmax statistics.

    Returns out, contiguous, in q's layout with v's features and q's dtype; with return_stats (out, max, sum),
    float32 [B,N,Sq] whatever the layout ([N,T] for TND), carrying no gradient: the log-sum-exp of a row is
    max + log(sum), soft cap, bias, alibi and sink included, before dropout. A row that sees no column has out 0, max
    -3.4028235e38 and sum 3.4028235e38 (with a sink: max = sink, sum = 1); one of no sequence, or of a
    sequence without columns, has out, max and sum 0.

    Raises ValueError for arguments that contradict each other or are out of range, TypeError for what is
    no tensor, array or number where one is asked for, NotImplementedError for what this version does not
    compute, forward-mode derivatives and torch.func.grad among it.
    """
    attend = _attend_for(q)
    if not isinstance(layout, str):
        raise ValueError(layouts.unknown(layout))
    if return_stats is not False and return_stats is not True:
        raise TypeError(f"return_stats is {return_stats!r}; accepted are True and False")
    if heads is not None:
        heads = integer("heads", heads, "the number of query heads, an integer")
    folded = layouts.FOLDED.get(layout)
    if folded is not None:
        q, k, v = (t.reshape(shape) for t, shape in zip((q, k, v), _unfolded(layout, heads, q, k, v)))
    elif heads is not None:
        _check_heads(heads, layout, q)
    if scale is None:
        scale = _customary_scale(q)
    else:
        scale = real("scale", scale)
    bands, shown = (mask, None) if isinstance(mask, Mask) else (_EVERYTHING, mask)
    asked = None
    if (
        bias is not None or alibi is not None or sink is not None or bands.prefix is not None
        or type(dropout_p) is not float or dropout_p != 0.0 or dropout_seed is not None
        or type(softcap) is not float or softcap != 0.0
    ):  # fmt: skip
        asked = extras.read(bias, alibi, sink, bands.prefix, dropout_p, dropout_seed, softcap)
    if layout == "TND" or cu_seqlens_q is not None or cu_seqlens_k is not None:
        cu_seqlens_q, cu_seqlens_k = _sequences(layout, cu_seqlens_q, cu_seqlens_k)
    elif folded is None and layout not in layouts.AXES:
        raise ValueError(layouts.unknown(layout))
    terms = Terms(folded or layout, scale, *bands.top_left, *bands.bottom_right, False)
    out, row_max, row_sum = attend(q, k, v, shown, cu_seqlens_q, cu_seqlens_k, terms, return_stats, asked)
    if folded is not None:
        out = out.reshape(*out.shape[:2], -1)
    return (out, row_max, row_sum) if return_stats else out


def _attend_for(q):
    """The attend() of tensors or of arrays, whichever q is."""
    if _is_tensor(q):
        return _attend_tensors
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(q, torch.Tensor):
        return _meet_torch(torch)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(q, numpy.ndarray):
        from . import arrays

        return arrays.forward
    raise TypeError(f"q is a {type(q).__name__}; accepted are torch tensors and NumPy arrays")


def _meet_torch(torch):
    global _is_tensor, _attend_tensors
    from . import ops

    _is_tensor, _attend_tensors = torch.is_tensor, ops.attend
    return _attend_tensors


def _customary_scale(q) -> float:
    try:
        dim = q.shape[-1] if len(q.shape) else 0
    except RuntimeError:  # of torch, for nested tensors
        check_dense(q=q)
        raise
    return dim**-0.5 if dim else 1.0


def _unfolded(layout: str, heads, q, k, v):
    check_dense(q=q, k=k, v=v)
    for name, given in (("k", k), ("v", v)):
        if not hasattr(given, "shape"):
            raise TypeError(
                f"{name} is a {type(given).__name__}; accepted is what q is, a {type(q).__name__}"
            )
    return layouts.unfolded(layout, heads, [t.shape for t in (q, k, v)])


def _check_heads(heads, layout: str, q) -> None:
    """Where q itself says how many heads there are, heads may only repeat it."""
    check_dense(q=q)
    if layout in layouts.AXES and len(q.shape) == layouts.rank(layout):
        found = layouts.sizes(layout, q.shape).heads
        if heads != found:
            raise ValueError(f"heads is {heads}; q in layout {layout!r} has {found} heads")


def _sequences(layout, cu_seqlens_q, cu_seqlens_k):
    """The cumulative lengths, refused unless both are given, and for TND alone."""
    given = {"cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k}
    for name, value in given.items():
        if layout == "TND" and value is None:
            raise ValueError(f"{name} is None; layout 'TND' needs cumulative lengths with a leading 0")
        if layout != "TND" and value is not None:
            raise ValueError(f"{name} is given with layout {layout!r}; accepted with 'TND' alone")
    return cu_seqlens_q, cu_seqlens_k
