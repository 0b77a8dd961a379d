#include "operators/nsa/compress.h"

#include "operators/library.h"

namespace fusedattn::cann::nsa {
namespace {

class CompressCall final : public Call {
 public:
  explicit CompressCall(const Request& r) : function_(r.function), backward_(r.backward), ends_(r.ends()) {
    problem_.struct_size = sizeof problem_;
    problem_.dtype = library_dtype(r[kInput]->dtype);
    problem_.sequences = static_cast<std::int64_t>(ends_.size()), problem_.ends = ends_.data();
    problem_.tokens = r.tokens(), problem_.heads = r.heads(), problem_.dim = r.dim();
    problem_.block = r.block, problem_.stride = r.stride;
    bind(r[kInput], problem_.input);
    bind(r[kWeight], problem_.weight);
    bind(r[kOutput], backward_ ? problem_.d_output : problem_.output);
    if (!backward_) return;
    bind(r[kGradInput], problem_.d_input);
    bind(r[kGradWeight], problem_.d_weight);
  }

  std::uint64_t workspace_bytes() const override {
    return static_cast<std::uint64_t>(staging_.bytes() > 0 ? staging_.bytes() + kAlignment : 0);
  }

  Outcome run(void* workspace, const Addresses& at) override {
    std::byte* staged = aligned(workspace);
    staging_.gather(staged, at);
    for (const Binding& one : bindings_)
      one.view->data = (one.staged ? staged : static_cast<std::byte*>(one.source.block(at))) + one.offset;
    const fusedattn_status status =
        backward_ ? fusedattn_nsa_compress_backward(&problem_, nullptr) : fusedattn_nsa_compress_forward(&problem_, nullptr);
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
  bool backward_;
  std::vector<std::int64_t> ends_;
  fusedattn_nsa_compress_problem problem_{};
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

std::unique_ptr<Call> make_call(const Request& request) { return std::make_unique<CompressCall>(request); }

}  // namespace fusedattn::cann::nsa
