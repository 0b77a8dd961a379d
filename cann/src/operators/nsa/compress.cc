#include "operators/nsa/compress.h"

#include "operators/library.h"

namespace fusedattn::cann::nsa {
namespace {

class CompressCall final : public Call {
 public:
  explicit CompressCall(const Request& r)
      : function_(r.function), direction_(r.backward ? FUSEDATTN_BACKWARD : FUSEDATTN_FORWARD), ends_(r.ends()) {
    problem_.struct_size = sizeof problem_;
    problem_.dtype = library_dtype(r[kInput]->dtype);
    problem_.sequences = static_cast<std::int64_t>(ends_.size()), problem_.ends = ends_.data();
    problem_.tokens = r.tokens(), problem_.heads = r.heads(), problem_.dim = r.dim();
    problem_.block = r.block, problem_.stride = r.stride;
    bind(r[kInput], problem_.input);
    bind(r[kWeight], problem_.weight);
    bind(r[kOutput], r.backward ? problem_.d_output : problem_.output);
    if (!r.backward) return;
    bind(r[kGradInput], problem_.d_input);
    bind(r[kGradWeight], problem_.d_weight);
  }

  // The scratch that the library names for this problem at any addresses.
  Outcome plan() {
    for (std::size_t i = 0; i < bindings_.size(); ++i) bindings_[i].view->data = placeholder(i);
    std::size_t bytes = 0;
    if (const fusedattn_status status = fusedattn_nsa_compress_workspace(&problem_, direction_, nullptr, &bytes); status != FUSEDATTN_OK)
      return library_outcome(function_, status);
    scratch_bytes_ = (static_cast<std::int64_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment;
    return {};
  }

  // The library's scratch, then the staging area; and room to align both.
  std::uint64_t workspace_bytes() const override {
    const std::int64_t bytes = scratch_bytes_ + staging_.bytes();
    return static_cast<std::uint64_t>(bytes > 0 ? bytes + kAlignment : 0);
  }

  Outcome run(void* workspace, const Addresses& at) override {
    std::byte* scratch = aligned(workspace);
    std::byte* staged = scratch + scratch_bytes_;
    staging_.gather(staged, at);
    for (const Binding& one : bindings_)
      one.view->data = (one.staged ? staged : static_cast<std::byte*>(one.source.block(at))) + one.offset;
    const auto bytes = static_cast<std::size_t>(scratch_bytes_);
    const fusedattn_status status = fusedattn_nsa_compress_run(&problem_, direction_, nullptr, scratch, bytes);
    if (status != FUSEDATTN_OK) return library_outcome(function_, status);
    staging_.scatter(staged, at);
    return {};
  }

 private:
  struct Binding {
    fusedattn_view* view;
    Source source;
    std::int64_t offset;
    bool staged;
  };

  // [rows, heads, features]; the weights are [rows, heads] and have no features.
  void bind(const Slot& slot, fusedattn_view& view) {
    const std::int64_t width = bytes_of(slot->dtype);
    const bool as_it_lies = slot->rank() == 2 || rows_are_contiguous(*slot);
    const Dims strides = as_it_lies ? slot->strides : contiguous_strides(slot->shape);
    view.row_stride = strides[0], view.head_stride = strides[1];
    if (as_it_lies) return bindings_.push_back({&view, slot.source, slot->offset * width, false});
    const std::int64_t staged = staging_.reserve(slot->elements() * width);
    slot.source.output ? staging_.after(whole(slot.source, *slot, staged)) : staging_.before(whole(slot.source, *slot, staged));
    bindings_.push_back({&view, {}, staged, true});
  }

  const char* function_;
  std::int32_t direction_;
  std::vector<std::int64_t> ends_;
  fusedattn_nsa_compress_problem problem_{};
  std::int64_t scratch_bytes_ = 0;
  Staging staging_;
  std::vector<Binding> bindings_;
};

}  // namespace

std::vector<std::int64_t> Request::ends() const {
  if (!lengths) return {tokens()};
  std::vector<std::int64_t> all = *lengths;
  if (length_type == 1)
    for (std::size_t b = 1; b < all.size(); ++b) all[b] += all[b - 1];
  return all;
}

Dims Request::output_shape() const {
  std::int64_t begin = 0, windows = 0;
  for (const std::int64_t end : ends()) {
    if (end - begin >= block) windows += (end - begin - block) / stride + 1;
    begin = end;
  }
  return {windows, heads(), dim()};
}

Outcome make_call(const Request& request, std::unique_ptr<Call>& call) {
  auto made = std::make_unique<CompressCall>(request);
  Outcome outcome = made->plan();
  if (outcome.ok()) call = std::move(made);
  return outcome;
}

}  // namespace fusedattn::cann::nsa
