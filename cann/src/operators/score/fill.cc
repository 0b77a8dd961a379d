// Fills the problem of a checked request, tensor by tensor: as each lies if the library reads it so, else through the staging area.
#include "operators/score/plan.h"
#include "operators/score/pse.h"

namespace fusedattn::cann::score {
namespace {

class Filler {
 public:
  Filler(const Facts& f, ScoreCall& call) : f_(f), call_(call), p_(call.problem) {}

  void everything() {
    sizes();
    inputs();
    mask();
    shift();
    one_number_per_head(Role::sink, &p_.sink);
    statistics();
    dropout();
    p_.foreign_stats = f_.backward;  // the contract has the formula as it stands, whatever is in softmaxMax and softmaxSum
    if (f_.backward)
      gradients();
    else
      lay(Role::attention_out, p_.out, f_.N1());
  }

  void clear(Role role) {
    if (const Slot& slot = f_[role]) call_.staging.clear(whole(slot.source, *slot, 0));
  }

 private:
  enum Way { in, out };

  void sizes() {
    p_.dtype = library_dtype(f_.dtype());
    p_.scale = f_.r.given.scale_value;
    p_.batch = f_.B(), p_.q_heads = f_.N1(), p_.kv_heads = f_.N2();
    p_.q_len = f_.Sq(), p_.kv_len = f_.Skv();
    p_.dim = f_.D() + f_.Dr(), p_.dim_v = f_.Dv();
    if (!f_.packed) return;
    call_.q_ends = f_.q_ends(), call_.kv_ends = f_.kv_ends();
    p_.q_ends = call_.q_ends.data(), p_.kv_ends = call_.kv_ends.data();
  }

  void inputs() {
    if (f_.Dr() > 0) {
      join(Role::query, Role::query_rope, p_.q, f_.N1(), in);
      join(Role::key, Role::key_rope, p_.k, f_.N2(), in);
    } else {
      lay(Role::query, p_.q, f_.N1());
      lay(Role::key, p_.k, f_.N2());
    }
    lay(Role::value, p_.v, f_.N2());
  }

  // A tensor in the layout of the call.
  void lay(Role role, fusedattn_view& view, std::int64_t heads) {
    const Slot& slot = f_[role];
    const bool as_it_lies = rows_are_contiguous(*slot);
    const Steps steps = f_.laid(slot->shape, as_it_lies ? slot->strides : contiguous_strides(slot->shape), heads);
    view.batch_stride = steps.batch, view.head_stride = steps.head, view.row_stride = steps.row;
    if (as_it_lies)
      call_.bind(&view.data, slot);
    else
      stage(slot, &view.data);
  }

  // A contiguous copy in the staging area; for outputs, from there.
  void stage(const Slot& slot, void* field) {
    const std::int64_t staged = call_.staging.reserve(slot->elements() * bytes_of(slot->dtype));
    Move move = whole(slot.source, *slot, staged);
    if (slot.source.output)
      call_.staging.after(std::move(move));
    else
      call_.staging.before(std::move(move));
    call_.bind_staged(field, staged);
  }

  // Features and rotary features side by side, in one array [batch, row, head, D + Dr].
  void join(Role role, Role rope, fusedattn_view& view, std::int64_t heads, Way way) {
    const Tensor& tensor = *f_[role];
    const Sizes size = role == Role::query || role == Role::dq ? f_.queries() : f_.keys();
    const std::int64_t width = f_.D() + f_.Dr(), rows = size.rows;
    const Dims strides = {rows * heads * width, heads * width, width, 1};
    const std::int64_t staged = call_.staging.reserve(size.batch * rows * heads * width * bytes_of(tensor.dtype));
    part(role, heads, f_.D(), staged, strides, {size.batch, rows}, way);
    part(rope, heads, f_.Dr(), staged + f_.D() * bytes_of(tensor.dtype), strides, {size.batch, rows}, way);
    view.batch_stride = strides[0], view.row_stride = strides[1], view.head_stride = strides[2];
    call_.bind_staged(&view.data, staged);
  }

  struct Extent {
    std::int64_t batch, rows;
  };
  void part(Role role, std::int64_t heads, std::int64_t dim, std::int64_t staged, const Dims& strides, const Extent& extent, Way way) {
    const Slot& slot = f_[role];
    const std::int64_t width = bytes_of(slot->dtype);
    const Steps steps = f_.laid(slot->shape, slot->strides, heads);
    Move move{slot.source, slot->offset * width, {extent.batch, extent.rows, heads, dim},
              {steps.batch, steps.row, steps.head, slot->strides.back()}, width, staged, strides};
    way == in ? call_.staging.before(std::move(move)) : call_.staging.after(std::move(move));
  }

  void mask() {
    fill_mask(f_, p_.mask, call_.mask_arrays);
    const Slot& slot = f_[Role::atten_mask];
    if (!slot || !compressed_mask(f_.mode()).empty()) return;
    const bool as_it_lies = rows_are_contiguous(*slot);
    lay_mask(f_, as_it_lies ? slot->strides : contiguous_strides(slot->shape), p_.mask);
    as_it_lies ? call_.bind(&p_.mask.bytes, slot) : stage(slot, &p_.mask.bytes);
  }

  void shift() {
    const Slot& slot = f_[Role::real_shift];
    if (!slot) return;
    void* field = f_.inner_pse ? static_cast<void*>(&p_.alibi.slopes) : static_cast<void*>(&p_.bias.data);
    if (pse_as_it_lies(f_)) {
      const std::int64_t past = fill_pse(f_, slot->strides, p_) * bytes_of(slot->dtype);
      return call_.bind(field, slot, past);
    }
    const std::int64_t past = fill_pse(f_, contiguous_strides(slot->shape), p_) * bytes_of(slot->dtype);
    const std::int64_t staged = call_.staging.reserve(slot->elements() * bytes_of(slot->dtype));
    call_.staging.before(whole(slot.source, *slot, staged));
    call_.bind_staged(field, staged + past);
  }

  template <class Number>
  void one_number_per_head(Role role, Number** field) {
    if (const Slot& slot = f_[role]) is_contiguous(*slot) ? call_.bind(field, slot) : stage(slot, field);
  }

  void statistics() {
    fusedattn_stats& stats = p_.stats;
    stats.lanes = kLanes;
    const bool by_rows = f_.r.softmax_layout && *f_.r.softmax_layout == "same_as_input";
    stats.blocks = f_.packed && !by_rows;
    const Slot &max = f_[Role::softmax_max], &sum = f_[Role::softmax_sum];
    const bool as_they_lie = max->strides == sum->strides && max->shape == sum->shape && rows_are_contiguous(*max) &&
                             (!stats.blocks || (is_contiguous(*max) && is_contiguous(*sum)));
    const Dims strides = as_they_lie ? max->strides : contiguous_strides(max->shape);
    if (!f_.packed)
      stats.batch_stride = strides[0], stats.head_stride = strides[1], stats.row_stride = strides[2];
    else if (by_rows)
      stats.row_stride = strides[0], stats.head_stride = strides[1];
    as_they_lie ? call_.bind(&stats.max, max) : stage(max, &stats.max);
    as_they_lie ? call_.bind(&stats.sum, sum) : stage(sum, &stats.sum);
  }

  // The forward applies bits whenever there are any, the gradient where something is dropped.
  void dropout() {
    p_.dropout.keep_prob = f_.r.given.keep_prob;
    p_.dropout.seed = static_cast<std::uint64_t>(f_.r.given.seed), p_.dropout.offset = static_cast<std::uint64_t>(f_.r.given.offset);
    const Slot& bits = f_[Role::drop_mask];
    if (bits && (!f_.backward || f_.keep_prob() < 1.0f))
      is_contiguous(*bits) ? call_.bind(&p_.dropout.bits, bits) : stage(bits, &p_.dropout.bits);
    else if (!f_.generates())
      p_.dropout.keep_prob = 1.0;
  }

  void gradients() {
    lay(Role::attention_out, p_.out, f_.N1());
    lay(Role::dy, p_.d_out, f_.N1());
    if (f_.Dr() > 0) {
      join(Role::dq, Role::dq_rope, p_.dq, f_.N1(), out);
      join(Role::dk, Role::dk_rope, p_.dk, f_.N2(), out);
    } else {
      lay(Role::dq, p_.dq, f_.N1());
      lay(Role::dk, p_.dk, f_.N2());
    }
    lay(Role::dv, p_.dv, f_.N2());
    if (f_[Role::sink]) one_number_per_head(Role::dsink, &p_.d_sink);
    clear(Role::dpse);
  }

  const Facts& f_;
  ScoreCall& call_;
  fusedattn_problem& p_;
};

constexpr Role kForwardOutputs[] = {Role::attention_out, Role::softmax_max, Role::softmax_sum};
constexpr Role kBackwardOutputs[] = {Role::dq, Role::dk, Role::dv, Role::dq_rope, Role::dk_rope, Role::dpse, Role::dsink};

}  // namespace

Outcome make_call(const Facts& f, std::unique_ptr<Call>& call) {
  auto made = std::make_unique<ScoreCall>(f);
  Filler filler(f, *made);
  if (f.sees_nothing()) {
    if (f.backward)
      for (const Role role : kBackwardOutputs) filler.clear(role);
    else
      for (const Role role : kForwardOutputs) filler.clear(role);
  } else {
    filler.everything();
    if (Outcome outcome = made->plan(); !outcome.ok()) return outcome;
  }
  call = std::move(made);
  return {};
}

}  // namespace fusedattn::cann::score
