"""The Hugging Face door's masks: numbers where the pattern is known, and the bytes of transformers for who looks."""

import copy
import itertools

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers import masking_utils  # noqa: E402

from fusedattn.like import transformers as door  # noqa: E402
from fusedattn.like.transformers.seen import SeenMask  # noqa: E402


class Layer(torch.nn.Module):
    is_causal = True


LENGTH = 12
QKV = [torch.randn(2, heads, 16, 8, generator=torch.Generator().manual_seed(heads)) for heads in (4, 2, 2)]
PADDINGS = {
    "none": None,
    "right": [[1] * 12, [1] * 7 + [0] * 5],
    "left": [[0] * 3 + [1] * 9, [1] * 12],
    "holes": [[1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1], [1] * 12],
    "nothing": [[0] * 12, [1] * 12],
}
PACKED = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 8, 0, 1, 2, 0, 1, 2]])


def padding_of(name):
    rows = PADDINGS[name]
    return None if rows is None else torch.tensor(rows, dtype=torch.bool)


def pattern(name, padding=None):
    left = torch.zeros(2, dtype=torch.int64) if padding is None else (padding.cumsum(-1) == 0).sum(-1)
    return {
        "causal": masking_utils.causal_mask_function,
        "bidirectional": masking_utils.bidirectional_mask_function,
        "window": masking_utils.sliding_window_causal_mask_function(4),
        "both sides": masking_utils.sliding_window_bidirectional_mask_function(3),
        "chunks": masking_utils.chunked_causal_mask_function(4, left),
        "one chunk": masking_utils.chunked_causal_mask_function(20, left),
    }[name]


def packed(name):
    numbers = masking_utils.find_packed_sequence_indices(PACKED)
    return masking_utils.packed_sequence_compatibility_function(pattern(name), PACKED, numbers)


def ask(function, q_length=LENGTH, kv_length=LENGTH, padding=None, **more):
    """(the door's mask, transformers' bytes)."""
    given = dict(
        batch_size=2,
        q_length=q_length,
        kv_length=kv_length,
        mask_function=function,
        attention_mask=padding,
        **more,
    )
    whole = masking_utils.sdpa_mask(
        **{**given, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    )
    return door.attention_mask(**given), whole


def out_of(mask, q_length=LENGTH, kv_length=LENGTH, **arguments):
    q, k, v = QKV[0][:, :, :q_length], QKV[1][:, :, :kv_length], QKV[2][:, :, :kv_length]
    return door.attention_forward(Layer(), q, k, v, mask, **arguments)[0]


def assert_light_and_right(mask, whole, **sizes):
    assert isinstance(mask, SeenMask) and mask._contents.made is None
    torch.testing.assert_close(out_of(mask, **sizes), out_of(whole, **sizes), atol=1e-6, rtol=1e-5)
    assert mask._contents.made is None and torch.equal(mask.bytes(), whole.contiguous())


@pytest.mark.parametrize("name", ["causal", "window", "both sides", "chunks", "one chunk"])
@pytest.mark.parametrize("padded", PADDINGS)
def test_known_patterns_are_numbers_and_show_what_the_bytes_show(name, padded):
    padding = padding_of(padded)
    mask, whole = ask(pattern(name, padding), padding=padding)
    if mask is None:
        assert name in ("causal", "one chunk") and padded == "none"
        torch.testing.assert_close(out_of(None), out_of(whole), atol=1e-6, rtol=1e-5)
    elif (name, padded) == ("chunks", "holes"):
        assert type(mask) is torch.Tensor and torch.equal(mask, whole)
    else:
        assert_light_and_right(mask, whole)


@pytest.mark.parametrize("name", ["causal", "window", "chunks", "both sides", "bidirectional"])
def test_packed_sequences_are_lengths(name):
    assert_light_and_right(*ask(packed(name)))


@pytest.mark.parametrize(
    ("q_offset", "kv_offset", "kv_length"), [(9, 0, 12), (9, 0, 16), (9, 5, 7), (0, 0, 16)]
)
@pytest.mark.parametrize("name", ["causal", "window", "one chunk", "chunks"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_cache_moves_the_band(q_offset, kv_offset, kv_length, name, rows):
    for padded, whole_offset in itertools.product(("none", "left"), (int, torch.tensor)):
        padding = padding_of(padded)
        mask, whole = ask(
            pattern(name, padding),
            rows,
            kv_length,
            padding,
            q_offset=whole_offset(q_offset),
            kv_offset=kv_offset,
        )
        sizes = {"q_length": rows, "kv_length": kv_length}
        torch.testing.assert_close(out_of(mask, **sizes), out_of(whole, **sizes), atol=1e-6, rtol=1e-5)
        assert mask is None or rows > 1 or type(mask) is torch.Tensor


def test_what_is_not_known_is_bytes():
    blocks = torch.tensor([[0, 0, 0, -1, -1, 1, 1, 1, -1, -1, -1, -1]] * 2)
    image = masking_utils.or_masks(pattern("causal"), masking_utils.blockwise_overlay(blocks))
    for function in (image, lambda b, h, q, k: (k <= q) & (k % 2 == 0)):
        mask, whole = ask(function)
        assert type(mask) is torch.Tensor and torch.equal(mask, whole)


def test_masks_of_common_training_take_no_memory_of_pairs():
    """At 4096 tokens the bytes of a pair each would be 16 MiB for a sequence; the largest number here is 32 KiB."""
    length = 4096
    right = torch.arange(length) < torch.tensor([length, 3000])[:, None]
    positions = torch.cat((torch.arange(1000), torch.arange(3096))).expand(2, -1)
    numbers = masking_utils.find_packed_sequence_indices(positions)
    cases = {
        "right padding": (pattern("causal"), right),
        "left padding": (pattern("causal"), right.flip(1)),
        "window": (pattern("window"), None),
        "window, padding": (pattern("window"), right),
        "packed": (
            masking_utils.packed_sequence_compatibility_function(pattern("window"), positions, numbers), None
        ),
    }  # fmt: skip
    q = torch.randn(2, 1, length, 8)
    for name, (function, padding) in cases.items():
        mask, _ = door.attention_mask(2, length, length, mask_function=function, attention_mask=padding), None
        door.attention_forward(Layer(), q, q, q, mask)
        assert isinstance(mask, SeenMask) and mask._contents.made is None, name
        sight = mask.sight
        held = [t for t in (sight.padding, *(sight.ends or ())) if t is not None]
        assert sum(t.untyped_storage().nbytes() for t in held) <= 32 * 1024, name


def test_whoever_looks_finds_a_tensor():
    mask, whole = ask(pattern("window"))
    for passed_on in (mask, mask.to("cpu"), mask.detach(), mask.clone(), copy.deepcopy(mask)):
        assert passed_on.sight is not None and mask._contents.made is None
    for looked in (mask.to(torch.float32), ~mask, torch.cat([mask, mask], -1), mask.sum(-1)):
        assert type(looked) is torch.Tensor and mask.sight is not None
    assert "SeenMask" in repr(mask) and mask.dtype == torch.bool and mask.shape == whole.shape
    assert type(mask[:, :, 2:5, :3]) is torch.Tensor and mask.sight is None  # for it could be written to
    assert torch.equal(mask[:, 0, 3], whole[:, 0, 3])
    assert mask.tolist() == whole.tolist() and (mask.numpy() == whole.numpy()).all()


@pytest.mark.parametrize(
    "write", [lambda m: m.fill_(True), lambda m: m[:, :, :, :3].fill_(True), lambda m: m.logical_not_()]
)
def test_whoever_writes_is_heeded(write):
    mask, whole = ask(pattern("window"))
    whole = whole.clone()
    write(mask), write(whole)
    torch.testing.assert_close(out_of(mask), out_of(whole), atol=1e-6, rtol=1e-5)


def test_a_mask_meets_other_sizes_than_its_own():
    """Some models cut keys or queries after the mask is made; then its bytes are read as any tensor's."""
    mask, whole = ask(pattern("window"))
    sizes = {"kv_length": 7}
    torch.testing.assert_close(out_of(mask, **sizes), out_of(whole[..., :7], **sizes), atol=1e-6, rtol=1e-5)


def test_a_bias_meets_packed_sequences():
    (mask, whole), bias = ask(packed("causal")), torch.randn(1, 4, LENGTH, LENGTH)
    expected = out_of(torch.zeros(2, 1, LENGTH, LENGTH).masked_fill(~whole, -torch.inf) + bias)
    torch.testing.assert_close(out_of(mask, position_bias=bias), expected, atol=1e-6, rtol=1e-5)


def test_a_compiled_function_takes_the_mask_for_its_bytes():
    mask, whole = ask(pattern("window"))
    compiled = torch.compile(out_of, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(mask), out_of(whole), atol=1e-6, rtol=1e-5)


def seen_mask():
    mask = door.attention_mask(1, 4, 4, 0, 0, allow_is_causal_skip=False)
    assert isinstance(mask, SeenMask) and mask.sight is not None
    return mask


def attend(mask, **words):
    q, k, v = (t[:1, :2, :4] for t in QKV)
    return door.attention_forward(Layer(), q, k, v, mask, **words)[0]


@pytest.mark.parametrize("alias", [torch.Tensor.detach, lambda mask: mask.data, torch.from_dlpack], ids=["detach", "data", "dlpack"])
def test_what_is_written_through_an_alias_counts(alias):
    mask = seen_mask()
    alias(mask).fill_(True)
    torch.testing.assert_close(attend(mask), attend(torch.ones(1, 1, 4, 4, dtype=torch.bool)))


def test_a_clone_is_written_to_alone_and_memory_is_shared_as_asked():
    mask = seen_mask()
    mask.clone().fill_(True)
    assert mask.sight is not None
    assert mask.share_memory_() is mask
    torch.testing.assert_close(attend(mask), attend(torch.ones(4, 4, dtype=torch.bool).tril()[None, None]))


@pytest.mark.parametrize("shape", [(7, 1, 4, 4), (1, 3, 4, 4), (1, 1, 9, 4), (1, 1, 4, 2), (0, 1, 4, 4)])
def test_masks_of_another_shape_are_refused_whatever_they_hold(shape):
    with pytest.raises(ValueError, match="attention_mask has shape"):
        attend(torch.zeros(shape))


@pytest.mark.parametrize("window", [0, -1, 2.5, True])
def test_windows_that_are_none_are_refused(window):
    with pytest.raises(ValueError, match="sliding_window is"):
        attend(None, sliding_window=window)


def test_queries_behind_the_last_key_are_not_of_its_chunk():
    function = masking_utils.chunked_causal_mask_function(1, torch.zeros(1, dtype=torch.long))
    found = door.attention_mask(1, 1, 1, 3, 0, mask_function=function)
    assert found is not None and not bool(found.any())


def test_a_copy_of_a_handle_is_the_name_alone():
    with door.register() as handle:
        assert type(copy.deepcopy(handle)) is str and copy.deepcopy(handle) == handle
