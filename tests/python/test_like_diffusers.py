"""The diffusers door: its function by the formula, its registration with a stand-in, models of diffusers."""

import enum
import importlib.util
import inspect
import re
import sys
import types
from pathlib import Path

import pytest
from golden import LOWEST, assert_close, attention, draw, gradients

torch = pytest.importorskip("torch")

import fusedattn  # noqa: E402
from fusedattn.like import diffusers as door  # noqa: E402
from fusedattn.like import sdpa  # noqa: E402

needs_diffusers = pytest.mark.skipif(
    importlib.util.find_spec("diffusers") is None, reason="diffusers is not installed"
)
PAGE = (Path(__file__).parents[2] / "docs" / "diffusers.md").read_text()
B, N, SQ, SKV, D = 2, 4, 9, 13, 8


def tensors(heads=N, dtype=torch.float32):
    torch.manual_seed(3)
    shapes = (B, SQ, N, D), (B, SKV, heads, D), (B, SKV, heads, D)
    return [draw(*shape, dtype=dtype).requires_grad_() for shape in shapes]


def heads_first(*given):
    return [t.transpose(1, 2) for t in given]


KEYS = torch.arange(SKV) < torch.tensor([SKV, 5])[:, None]  # of each sequence
FLOATS = torch.linspace(-1, 1, SKV).expand(1, N, 1, SKV) * torch.arange(N).view(1, N, 1, 1)
MASKS = {
    "none": (None, {}),
    "keys": (KEYS, {"seen": KEYS[:, None, None]}),
    "keys, added": (torch.where(KEYS, 0.25, -torch.inf), {"seen": KEYS[:, None, None]}),
    "rows and keys": (torch.ones(SQ, SKV).tril(3) > 0, {"seen": torch.ones(SQ, SKV).tril(3) > 0}),
    "a bias": (FLOATS, {"bias": FLOATS}),
}


@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask):
    given, meaning = MASKS[mask]
    q, k, v = tensors()
    out = door.attention(q, k, v, given)
    d_out = draw(*out.shape)
    want = attention(*heads_first(q, k, v), **meaning)[0]
    assert_close(out.transpose(1, 2), want)
    wanted = gradients(*heads_first(q, k, v, d_out), **meaning)
    for got, golden in zip(heads_first(*torch.autograd.grad(out, (q, k, v), d_out)), wanted):
        assert_close(got, golden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_causal_from_the_top_left_with_fewer_key_heads_and_a_scale(dtype):
    q, k, v = tensors(heads=2, dtype=dtype)
    out = door.attention(q, k, v, is_causal=True, scale=0.5, enable_gqa=True)
    assert out.dtype == dtype and out.shape == (B, SQ, N, D)
    seen = torch.ones(SQ, SKV).tril() > 0
    assert_close(out.transpose(1, 2), attention(*heads_first(q, k, v), seen, 0.5)[0])


def test_dropout_is_that_of_sdpa():
    q, k, v = tensors()
    torch.manual_seed(5)
    out = door.attention(q, k, v, dropout_p=0.5)
    torch.manual_seed(5)
    want = sdpa.scaled_dot_product_attention(*heads_first(q, k, v), dropout_p=0.5)
    assert torch.equal(out, want.transpose(1, 2)) and not torch.equal(out, door.attention(q, k, v))


def test_log_sum_exp():
    q, k, v = tensors()
    seen = KEYS & torch.tensor([True, False])[:, None]
    out, lse = door.attention(q, k, v, seen, return_lse=True)
    want, row_max, row_sum = attention(*heads_first(q, k, v), seen[:, None, None])
    assert_close(out.transpose(1, 2), want)
    assert lse.shape == (B, N, SQ) and lse.dtype == torch.float32 and not lse.requires_grad
    assert (lse[row_max == LOWEST] == -torch.inf).all()
    torch.testing.assert_close(lse[0].double(), (row_max + row_sum.log())[0].detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "error", "sentence"),
    [
        ({"_parallel_config": object()}, NotImplementedError, "_parallel_config is a object.*accepted is None"),
        ({"return_lse": 1}, TypeError, "return_lse is 1; accepted are True and False"),
        ({"attn_mask": torch.ones(SQ, SKV) > 0, "is_causal": True}, RuntimeError, "is_causal"),
        ({"dropout_p": 2.0}, RuntimeError, "dropout_p"),
        ({"scale": "x"}, TypeError, "scale"),
        ({"attn_mask": torch.ones(3, SKV) > 0}, RuntimeError, "attn_mask"),
    ],
)
def test_refusals(words, error, sentence):
    with pytest.raises(error, match=sentence):
        door.attention(*tensors(), **words)
    with pytest.raises(NotImplementedError, match="float64"):
        door.attention(*(t.double() for t in tensors()))


def stand_in(monkeypatch, active="native"):
    """As much of diffusers as the door touches, the refusal of an active backend it does not know included."""

    def attention_dispatch():
        class AttentionBackendName(str, enum.Enum):
            NATIVE = "native"
            OTHER = "other"

        class _AttentionBackendRegistry:
            _backends, _constraints, _supported_arg_names = {}, {}, {}
            _active_backend = AttentionBackendName(constants.DIFFUSERS_ATTN_BACKEND)

            @classmethod
            def register(cls, backend):
                def keep(function):
                    cls._backends[backend], cls._constraints[backend] = function, []
                    cls._supported_arg_names[backend] = set(inspect.signature(function).parameters)
                    return function

                return keep

            @classmethod
            def set_active_backend(cls, backend):
                cls._active_backend = backend

        return dict(AttentionBackendName=AttentionBackendName, _AttentionBackendRegistry=_AttentionBackendRegistry)

    class Models(types.ModuleType):
        def __getattr__(self, name):
            if name != "attention_dispatch":
                raise AttributeError(name)
            self.attention_dispatch = types.SimpleNamespace(**attention_dispatch())
            return self.attention_dispatch

    constants = types.SimpleNamespace(DIFFUSERS_ATTN_BACKEND=active)
    root, utils = types.ModuleType("diffusers"), types.ModuleType("diffusers.utils")
    models = Models("diffusers.models")
    root.__version__, utils.constants = "0", constants
    for module in (root, utils, models):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return models, constants


def test_registration_and_its_end(monkeypatch):
    models, _ = stand_in(monkeypatch)
    dispatch = models.attention_dispatch
    registry, names = dispatch._AttentionBackendRegistry, dispatch.AttentionBackendName
    before = list(names), dict(names.__members__), set(dir(names))
    first, second = door.register(), door.register()
    member = names("fusedattn")
    assert member is names["FUSEDATTN"] is names.FUSEDATTN and list(names)[-1] is member
    assert isinstance(member, names) and member.value == "fusedattn"
    assert registry._backends["fusedattn"] is door.attention
    assert {"attn_mask", "enable_gqa", "_parallel_config"} < registry._supported_arg_names[member]
    registry.set_active_backend(member)
    first.undo()
    first.undo()
    assert names("fusedattn") is member and "registered" in repr(second)
    second.undo()
    assert (list(names), dict(names.__members__), set(dir(names))) == before and "undone" in repr(second)
    assert registry._active_backend is names.NATIVE and not registry._backends and not registry._supported_arg_names
    with pytest.raises(ValueError, match="fusedattn"):
        names("fusedattn")
    with door.register():
        assert names("fusedattn") == member
    assert list(names) == before[0]


def test_the_environment_may_ask_for_it(monkeypatch):
    models, constants = stand_in(monkeypatch, active="fusedattn")
    with door.register():
        assert models.attention_dispatch._AttentionBackendRegistry._active_backend == "fusedattn"
        assert constants.DIFFUSERS_ATTN_BACKEND == "fusedattn"
    assert models.attention_dispatch._AttentionBackendRegistry._active_backend == "native"


def test_a_registry_of_another_kind_is_refused(monkeypatch):
    models, _ = stand_in(monkeypatch)
    del models.attention_dispatch._AttentionBackendRegistry.register
    with pytest.raises(RuntimeError, match="diffusers 0 has no register in its registry.*accepted are"):
        door.register()


def flux():
    import diffusers

    model = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    return model, dict(
        hidden_states=draw(2, 16, 4), encoder_hidden_states=draw(2, 7, 32), pooled_projections=draw(2, 32),
        timestep=torch.tensor([1.0, 2.0]), img_ids=torch.zeros(16, 3), txt_ids=torch.zeros(7, 3),
    )  # fmt: skip


def wan():
    import diffusers

    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=32, ffn_dim=32, num_layers=2, cross_attn_norm=True, rope_max_seq_len=32,
    )  # fmt: skip
    return model, dict(hidden_states=draw(1, 4, 2, 8, 8), encoder_hidden_states=draw(1, 9, 16), timestep=torch.tensor([3]))


def stable_diffusion_3():
    import diffusers

    model = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=4,
    )  # fmt: skip
    return model, dict(
        hidden_states=draw(2, 4, 8, 8), encoder_hidden_states=draw(2, 5, 32), pooled_projections=draw(2, 64),
        timestep=torch.tensor([1, 2]),
    )  # fmt: skip


def unet():
    import diffusers

    model = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4,
    )  # fmt: skip
    return model, dict(sample=draw(2, 4, 8, 8), timestep=3, encoder_hidden_states=draw(2, 6, 16))


def step(model, given):
    """The output and all gradients of a random model, which is the same each time."""
    model.zero_grad()
    out = model(**given, return_dict=False)[0]
    out.square().mean().backward()
    return out.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def counted(monkeypatch):
    """A list that gets an entry for each call that is computed here."""
    calls, compute = [], sdpa.compute
    monkeypatch.setattr(sdpa, "compute", lambda call: calls.append(call) or compute(call))
    return calls


def assert_same(got, want):
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


@needs_diffusers
@pytest.mark.parametrize(("make", "attentions"), [(flux, 2), (wan, 4)])
def test_models_that_dispatch(make, attentions, monkeypatch):
    from diffusers.models.attention_dispatch import attention_backend

    torch.manual_seed(5)
    model, given = make()
    want = step(model, given)
    calls = counted(monkeypatch)
    with door.register():
        with attention_backend("fusedattn"):
            assert_same(step(model, given), want)
        assert len(calls) == attentions
        step(model, given)
        assert len(calls) == attentions
        model.set_attention_backend("fusedattn")
        assert_same(step(model, given), want)
        assert len(calls) == 2 * attentions
        model.set_attention_backend("native")
    with pytest.raises(ValueError, match="fusedattn"):
        model.set_attention_backend("fusedattn")


@needs_diffusers
@pytest.mark.parametrize("make", [stable_diffusion_3, unet])
def test_models_that_call_torch_are_reached_by_accelerate_torch(make, monkeypatch):
    torch.manual_seed(5)
    model, given = make()
    want = step(model, given)
    calls = counted(monkeypatch)
    with door.register():
        model.set_attention_backend("fusedattn")
        step(model, given)
        assert not calls  # their processors do not ask diffusers for a backend
        model.set_attention_backend("native")
    with fusedattn.accelerated():
        assert_same(step(model, given), want)
    assert calls


def test_the_page_has_every_argument():
    arguments = PAGE[PAGE.index("## Arguments of") : PAGE.index("## Tried with")]
    for parameter in [*inspect.signature(door.attention).parameters][3:]:
        assert f"| `{parameter}` |" in arguments, parameter


@needs_diffusers
def test_the_page_runs():
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "diffusers.md", "exec"), {})
