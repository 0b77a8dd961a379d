#include "operators/ring/update.h"

#include <algorithm>

#include "operators/library.h"

namespace fusedattn::cann::ring {
namespace {

constexpr std::int32_t kLanes = 8;

class UpdateCall final : public Call {
 public:
  explicit UpdateCall(const Request& r) : function_(r.function), packed_(r.packed()), in_blocks_(r.in_blocks()) {
    const Dims &out = r.out_shape(), &stats = r.stats_shape();
    problem_.struct_size = sizeof problem_;
    problem_.dtype = library_dtype(r[kPrevOut]->dtype);
    problem_.count = 2;
    problem_.batch = packed_ ? 1 : out[1], problem_.rows = out[0], problem_.heads = stats[1];
    problem_.dim_v = packed_ ? out[2] : out[2] / stats[1];
    problem_.parts = parts_;
    problem_.special = FUSEDATTN_MERGE_FORMULA;
    bind(r, {kPrevOut, kPrevMax, kPrevSum}, parts_[0]);
    bind(r, {kCurOut, kCurMax, kCurSum}, parts_[1]);
    bind(r, {kOut, kMax, kSum}, problem_.result);
    if (in_blocks_) lengths_ = *r[kLengths].tensor;
  }

  std::uint64_t workspace_bytes() const override {
    return static_cast<std::uint64_t>(staging_.bytes() > 0 ? staging_.bytes() + kAlignment : 0);
  }

  Outcome run(void* workspace, const Addresses& at) override {
    if (in_blocks_)
      if (Outcome outcome = read_lengths(at.input(kLengths)); !outcome.ok()) return outcome;
    std::byte* staged = aligned(workspace);
    staging_.gather(staged, at);
    for (const Binding& one : bindings_) {
      void* address = (one.staged ? staged : static_cast<std::byte*>(one.source.block(at))) + one.offset;
      if (one.out != nullptr) *one.out = address;
      if (one.statistic != nullptr) *one.statistic = static_cast<float*>(address);
    }
    if (const fusedattn_status status = fusedattn_merge(&problem_, nullptr); status != FUSEDATTN_OK)
      return library_outcome(function_, status);
    staging_.scatter(staged, at);
    return {};
  }

 private:
  struct Three {
    Tensors out, max, sum;
  };
  struct Binding {
    void** out;
    float** statistic;
    Source source;
    std::int64_t offset;
    bool staged;
  };

  void bind(const Request& r, const Three& three, fusedattn_partial& part) {
    const Slot &out = r[three.out], &max = r[three.max], &sum = r[three.sum];
    const bool as_it_lies = rows_are_contiguous(*out);
    const Dims steps = as_it_lies ? out->strides : contiguous_strides(out->shape);
    part.out.row_stride = steps[0];
    part.out.head_stride = packed_ ? steps[1] : problem_.dim_v;
    part.out.batch_stride = packed_ ? 0 : steps[1];
    place(out, as_it_lies, &part.out.data, nullptr);

    const bool as_they_lie = max->strides == sum->strides && rows_are_contiguous(*max) &&
                             (!in_blocks_ || (is_contiguous(*max) && is_contiguous(*sum)));
    const Dims strides = as_they_lie ? max->strides : contiguous_strides(max->shape);
    fusedattn_stats& stats = part.stats;
    stats.lanes = kLanes, stats.blocks = in_blocks_;
    stats.batch_stride = packed_ ? 0 : strides[0];
    stats.head_stride = strides[1];
    stats.row_stride = packed_ ? strides[0] : strides[2];
    place(max, as_they_lie, nullptr, &stats.max);
    place(sum, as_they_lie, nullptr, &stats.sum);
  }

  void place(const Slot& slot, bool as_it_lies, void** out, float** statistic) {
    const std::int64_t width = bytes_of(slot->dtype);
    if (as_it_lies) return bindings_.push_back({out, statistic, slot.source, slot->offset * width, false});
    const std::int64_t staged = staging_.reserve(slot->elements() * width);
    slot.source.output ? staging_.after(whole(slot.source, *slot, staged)) : staging_.before(whole(slot.source, *slot, staged));
    bindings_.push_back({out, statistic, {}, staged, true});
  }

  // The cumulative ends behind the leading 0.
  Outcome read_lengths(void* block) {
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(lengths_.elements()));
    const Dims own = contiguous_strides(lengths_.shape);
    if (!numbers.empty())
      copy_elements(lengths_.shape, sizeof(std::int64_t), {static_cast<std::byte*>(first_element(lengths_, block)), &lengths_.strides},
                    {reinterpret_cast<std::byte*>(numbers.data()), &own});
    if (numbers.empty() || numbers.front() != 0 || numbers.back() != problem_.rows || !std::is_sorted(numbers.begin(), numbers.end()))
      return {ACLNN_ERR_PARAM_INVALID,
              std::string(function_) + ": actualSeqQlenOptional holds " + text(numbers) + "; accepted: numbers from 0 to T = " +
                  std::to_string(problem_.rows) + " that never decrease [lengths]"};
    ends_.assign(numbers.begin() + 1, numbers.end());
    problem_.batch = static_cast<std::int64_t>(ends_.size());
    problem_.q_ends = ends_.data();
    return {};
  }

  const char* function_;
  bool packed_, in_blocks_;
  Tensor lengths_;
  std::vector<std::int64_t> ends_;
  fusedattn_partial parts_[2]{};
  fusedattn_merge_problem problem_{};
  Staging staging_;
  std::vector<Binding> bindings_;
};

}  // namespace

std::unique_ptr<Call> make_call(const Request& request) { return std::make_unique<UpdateCall>(request); }

}  // namespace fusedattn::cann::ring
