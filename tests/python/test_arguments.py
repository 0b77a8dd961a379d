"""Arguments of the wrong kind: sentences that name the argument and its value; nothing is cut to size."""

import fusedattn
import numpy
import pytest
import torch
from fusedattn import Alibi, Mask, causal, prefix, window

ENDS = torch.tensor([0, 4, 9])


def call(door=torch.from_numpy, **given):
    """A small BNSD call, or a packed or folded one where the layout says so, with some arguments changed."""
    shapes = {"TND": (9, 2, 8), "BSH": (1, 9, 16)}
    array = numpy.ones(shapes.get(str(given.get("layout")), (1, 2, 9, 8)), numpy.float32)
    if given.get("layout") == "TND":
        given = dict(cu_seqlens_q=[0, 4, 9], cu_seqlens_k=[0, 4, 9]) | given
    q, k, v = (given.pop(name, door(array)) for name in "qkv")
    made = [name for name in ("bias", "alibi", "sink") if isinstance(given.get(name), numpy.ndarray)]
    given |= {name: door(given[name]) for name in made}
    q, k, v = (door(value) if type(value) is numpy.ndarray else value for value in (q, k, v))
    return fusedattn.attention(q, k, v, **given)


def ones(*shape, kind="float32"):
    return numpy.ones(shape, kind)


PACKED = dict(layout="TND")
OF_PREFIX = causal() | prefix(2)
BOTH = [
    (PACKED | dict(q=ones()), ValueError, r"q has shape \(\); layout 'TND' needs 3 dimensions"),
    (PACKED | dict(q=ones(), heads=2), ValueError, r"q has shape \(\); layout 'TND' needs 3"),
    (PACKED | dict(q=ones(), bias=ones(9, 9)), ValueError, r"q has shape \(\); layout 'TND'"),
    (PACKED | dict(k=ones()), ValueError, r"k has shape \(\); layout 'TND' needs 3 dimensions"),
    (PACKED | dict(cu_seqlens_q=[], mask=OF_PREFIX), ValueError, "cu_seqlens_q begins with nothing"),
    (dict(q=ones(1, 0, 9, 8)), ValueError, "q has 0 heads of 8 features; accepted is at least 1 of both"),
    (dict(k=ones(1, 2, 9, 0), q=ones(1, 2, 9, 0)), ValueError, "q has 2 heads of 0 features"),
    (dict(k=ones(1, 0, 9, 8), v=ones(1, 0, 9, 8)), ValueError, "k has 0 heads of 8 features"),
    (dict(v=ones(1, 2, 9, 0)), ValueError, "v has 2 heads of 0 features"),
    (dict(layout="BSH", heads=2, q=ones(1, 9, 0)), ValueError, "q has last dimension 0; accepted is heads"),
    (dict(return_stats=ones(2)), TypeError, r"return_stats is .*; accepted are True and False"),
    (dict(return_stats=torch.zeros(2)), TypeError, r"return_stats is tensor.*; accepted are True and False"),
    (dict(return_stats=1), TypeError, "return_stats is 1; accepted are True and False"),
    (PACKED | dict(cu_seqlens_q=9, mask=OF_PREFIX), TypeError, "cu_seqlens_q is 9"),
    (PACKED | dict(heads=2**63), ValueError, "heads is 9223372036854775808; accepted .* within 64"),
    (PACKED | dict(scale=10**5000), ValueError, "scale is an integer of 16610 bits"),
    (dict(scale="0.5"), TypeError, "scale is '0.5'; accepted is a number"),
    (dict(scale=[1]), TypeError, r"scale is \[1\]"),
    (dict(scale=1j), TypeError, "scale is 1j"),
    (dict(scale=True), TypeError, "scale is True"),
    (dict(scale=1e39), ValueError, r"scale is 1e\+39"),
    (dict(scale=float("nan")), ValueError, "scale is nan"),
    (dict(scale=10**400), ValueError, "scale is 1000"),
    (dict(layout=["BNSD"]), ValueError, r"layout is \['BNSD'\]; accepted are BNSD"),
    (dict(layout="BSH", heads="2"), TypeError, "heads is '2'; accepted is the number of query heads"),
    (dict(layout="BSH", heads=2.0), TypeError, "heads is 2.0"),
    (dict(layout="BSH", heads=2, k=None), TypeError, "k is a NoneType"),
    (dict(heads="2"), TypeError, "heads is '2'"),
    (PACKED | dict(cu_seqlens_q=[0, 2.7, 9]), TypeError, r"cu_seqlens_q\[1\] is 2.7; accepted is an integer"),
    (PACKED | dict(cu_seqlens_q=numpy.array([0, 2.7, 9])), TypeError, r"cu_seqlens_q\[0\] is 0.0"),
    (PACKED | dict(cu_seqlens_k=[0, True, 9]), TypeError, r"cu_seqlens_k\[1\] is True"),
    (PACKED | dict(cu_seqlens_k="abc"), TypeError, "cu_seqlens_k is 'abc'; accepted is a list of integers"),
    (PACKED | dict(cu_seqlens_q=9), TypeError, "cu_seqlens_q is 9"),
    (PACKED | dict(cu_seqlens_q=[0, None]), TypeError, r"cu_seqlens_q\[1\] is None"),
    (PACKED | dict(cu_seqlens_q=[0, 2**70]), ValueError, r"cu_seqlens_q\[1\] is 1180591620717411303424"),
    (PACKED | dict(cu_seqlens_q=[0, -3, 9]), ValueError, r"cu_seqlens_q\[1\] is -3"),
    (dict(bias=[[1.0]]), TypeError, "bias is a list"),
    (dict(bias=ones(9, 8)), ValueError, r"bias has shape \(9, 8\); accepted are at least 2 dimensions"),
    (dict(bias=ones(9)), ValueError, r"bias has shape \(9,\)"),
    (dict(bias=ones(9, 9, kind="float64")), ValueError, "bias has dtype .*float64; accepted is float32 or"),
    (dict(bias=ones(9, 9, kind="bool")), ValueError, "bias has dtype .*bool"),
    (dict(alibi=0.5), TypeError, "alibi is a float"),
    (dict(alibi=ones(3)), ValueError, r"alibi has shape \(3,\); accepted is \(2,\) or \(1, 2\)"),
    (dict(alibi=ones(2, kind="float16")), ValueError, "alibi has dtype .*float16; accepted is float32"),
    (dict(alibi=Alibi([1.0, 2.0])), TypeError, "alibi is a list"),
    (dict(sink=1.0), TypeError, "sink is a float"),
    (dict(softcap=-30.0), ValueError, "softcap is -30.0; accepted are 0 .none. and numbers from 1e-18"),
    (dict(softcap=float("nan")), ValueError, "softcap is nan"),
    (dict(softcap=1e19), ValueError, "softcap is 1e.19"),
    (dict(softcap="30"), TypeError, "softcap is '30'"),
    (dict(softcap=30.0, scale=1e20), ValueError, "scale is 1e.20 with a softcap"),
    (dict(sink=ones(1, 2)), ValueError, r"sink has shape \(1, 2\); accepted is \(2,\)"),
    (dict(sink=ones(2, kind="float64")), ValueError, "sink has dtype .*float64; accepted is float32"),
]


@pytest.mark.parametrize("door", [torch.from_numpy, numpy.asarray], ids=["torch", "numpy"])
@pytest.mark.parametrize(("given", "error", "sentence"), BOTH, ids=[sentence for *_, sentence in BOTH])
def test_refused_by_both_doors(door, given, error, sentence):
    with pytest.raises(error, match=sentence):
        call(door, **given)


@pytest.mark.parametrize("door", [torch.from_numpy, numpy.asarray], ids=["torch", "numpy"])
@pytest.mark.parametrize("shape", [(), (9,), (1, 1, 9, 9)], ids=str)
def test_a_packed_mask_of_another_rank(door, shape):
    with pytest.raises(ValueError, match=r"mask has shape .*\[N, longest q, longest k\]"):
        call(door, layout="TND", mask=door(numpy.ones(shape, bool)))


@pytest.mark.parametrize("name", ["q", "k", "v", "mask", "bias"])
@pytest.mark.parametrize("form", ["to_sparse", "to_mkldnn"])
def test_tensors_that_are_not_dense(name, form):
    if (name, form) == ("mask", "to_mkldnn"):
        pytest.skip("no such tensor")
    dense = (
        torch.ones(9, 9, dtype=torch.bool) if name == "mask" else torch.ones(1, 2, 9, 8 + (name == "bias"))
    )
    with pytest.raises(ValueError, match=f"{name} has layout torch.*accepted is torch.strided"):
        call(**{name: getattr(dense, form)()})


FORMS = {
    "layout torch.sparse_csr": torch.Tensor.to_sparse_csr,
    "nested": lambda t: torch.nested.nested_tensor([t, t]),
    "nested jagged": lambda t: torch.nested.nested_tensor([t, t], layout=torch.jagged),
}


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested)")
@pytest.mark.parametrize("name", ["q", "k", "v", "mask", "bias", "alibi", "sink", "cu_seqlens_q"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("given", [{}, dict(heads=2), dict(scale=1.0), dict(mask=OF_PREFIX)], ids=str)
def test_tensors_without_shape_or_strides(name, form, given):
    dense = torch.ones(9, 9, dtype=torch.bool if name == "mask" else torch.float32)
    if name == "cu_seqlens_q":
        given = given | PACKED
    sentence = f"{name} (has|is a) {form.split(' jagged')[0]}.*accepted is torch.strided"
    with pytest.raises(ValueError, match=sentence):
        call(**given | {name: FORMS[form](dense)})


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested)")
@pytest.mark.parametrize("form", FORMS)
def test_folded_tensors_without_shape_or_strides(form):
    for name in "qkv":
        with pytest.raises(ValueError, match=f"{name} (has|is a) .*accepted is torch.strided"):
            call(layout="BSH", heads=2, **{name: FORMS[form](torch.ones(9, 16))})


@pytest.mark.parametrize("ends", [torch.tensor(9), torch.ones(2, 2, dtype=torch.int64)], ids=str)
@pytest.mark.parametrize("mask", [None, OF_PREFIX], ids=str)
def test_ends_of_another_rank(ends, mask):
    with pytest.raises(ValueError, match=r"cu_seqlens_q is torch.int64 of shape .*one dimension"):
        call(layout="TND", mask=mask, cu_seqlens_q=ends)


@pytest.mark.parametrize("place", ["meta", "coo"])
def test_numbers_that_cannot_be_read(place):
    unreadable = torch.empty(2, device="meta") if place == "meta" else torch.eye(2).to_sparse()
    for name, make in (("prefix", prefix), ("shape", lambda value: fusedattn.dropout_mask(value, 0.5, 1))):
        with pytest.raises(TypeError, match=f"{name} is a Tensor whose numbers cannot be read; accepted"):
            make(unreadable)


def test_masked_arrays():
    masked = numpy.ma.masked_array(numpy.ones((1, 2, 9, 8), numpy.float32))
    for name in "qkv":
        with pytest.raises(TypeError, match=f"{name} is a masked array"):
            call(numpy.asarray, **{name: masked})


def test_a_scale_that_wants_a_gradient():
    with pytest.raises(NotImplementedError, match="a gradient of scale is not computed"):
        call(scale=torch.tensor(0.5, requires_grad=True))
    assert torch.equal(call(scale=torch.tensor(0.5)), call(scale=numpy.float32(0.5)))


def test_numbers_of_other_libraries():
    wanted = call(layout="BSH", heads=2)
    for heads in (numpy.int64(2), torch.tensor(2)):
        assert torch.equal(call(layout="BSH", heads=heads), wanted)
    ends = [numpy.int32(0), torch.tensor(4), 9]
    assert torch.equal(call(layout="TND", cu_seqlens_q=ends), call(layout="TND", cu_seqlens_q=ENDS))


@pytest.mark.parametrize(
    ("band", "error", "sentence"),
    [
        ((2**64, 0), ValueError, "left is 18446744073709551616"),
        ((0, -(2**63)), ValueError, "right is -9223372036854775808"),
        ((1.5, 0), TypeError, "left is 1.5"),
        ((1, 2, 3), TypeError, r"top_left is \(1, 2, 3\); accepted is a pair"),
        (None, TypeError, "top_left is None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_edges_of_a_mask(band, error, sentence):
    with pytest.raises(error, match=sentence):
        Mask(top_left=band)


@pytest.mark.parametrize("align", [ones(2), torch.zeros(2), None, ["top-left"]], ids=str)
def test_alignments_that_are_no_name(align):
    for make in (causal, lambda align: window(1, 1, align)):
        with pytest.raises(ValueError, match="align is .*; accepted are 'bottom-right', 'top-left'"):
            make(align=align)


def test_a_mask_of_plain_pairs():
    assert Mask(bottom_right=(None, numpy.int64(0))) == causal()


def test_slopes_that_want_a_gradient():
    slopes = torch.ones(2, requires_grad=True)
    with pytest.raises(NotImplementedError, match="alibi requires grad, but a gradient of its slopes is not"):
        call(alibi=slopes)
    with torch.no_grad():
        wanted = call(alibi=slopes)
    assert torch.equal(call(alibi=slopes.detach()), wanted)


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        (dict(align="centre"), ValueError, "align is 'centre'; accepted are 'bottom-right', 'top-left'"),
        (dict(align=ones(2)), ValueError, r"align is array\(.*\); accepted are 'bottom-right', 'top-left'"),
        (dict(square_root=1), TypeError, "square_root is 1; accepted are True and False"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arguments_of_alibi(given, error, sentence):
    with pytest.raises(error, match=sentence):
        Alibi(torch.ones(2), **given)


def test_arrays_beside_tensors():
    for given in (dict(bias=ones(9, 9)), dict(alibi=ones(2)), dict(sink=ones(2))):
        q, (name, array) = torch.ones(1, 2, 9, 8), *given.items()
        with pytest.raises(TypeError, match=f"{name} is a ndarray; accepted is a torch tensor"):
            fusedattn.attention(q, q, q, **given)
        with pytest.raises(TypeError, match=f"{name} is a Tensor; accepted is a plain NumPy array"):
            fusedattn.attention(*[q.numpy()] * 3, **{name: torch.from_numpy(array)})


def test_extras_of_two_devices_are_refused():
    q = torch.randn(1, 2, 4, 8)
    for name, shape in (("bias", (4, 4)), ("sink", (2,)), ("alibi", (2,))):
        with pytest.raises(ValueError, match=f"{name} is on device meta"):
            fusedattn.attention(q, q, q, **{name: torch.ones(shape, device="meta")})


def test_tensors_of_two_devices_are_refused():
    q = torch.randn(1, 2, 4, 8)
    with pytest.raises(ValueError, match="k is on device meta"):
        fusedattn.attention(q, q.to("meta"), q)
