// aclnnAttentionUpdate: several partial results joined by their log-sum-exp.
#include <algorithm>

#include "aclnnop/aclnn_attention_update.h"
#include "operators/library.h"
#include "operators/ring/lists.h"

namespace fusedattn::cann::lists {
namespace {

constexpr int kNull = ACLNN_ERR_PARAM_NULLPTR, kValue = ACLNN_ERR_PARAM_INVALID;
constexpr std::size_t kMostParts = 128;

std::string at(const char* list, std::size_t i) { return std::string(list) + "[" + std::to_string(i) + "]"; }
std::string of(const std::shared_ptr<const Tensor>& tensor) { return " has shape " + text(tensor->shape); }

Sentence missing(const Request& r) {
  for (const auto& [name, given] : {std::pair{"lse", r.lse_given}, std::pair{"localOut", r.outs_given}, std::pair{"out", r.out_given}})
    if (!given) return std::string(name) + " is null; accepted: " + (std::string(name) == "out" ? "a tensor" : "a list of tensors");
  return {};
}

Sentence dead(const Request& r) {
  const std::string accepted = "; accepted: what aclCreateTensorList returned and nobody destroyed";
  if (!r.lse || !r.outs) return std::string(r.lse ? "localOut" : "lse") + " is no live aclTensorList" + accepted;
  for (const Slot* slot : {&r.out, &r.lse_out})
    if (slot->dead) return std::string(slot->name) + " is no live aclTensor; accepted: what aclCreateTensor returned and nobody destroyed";
  return {};
}

Sentence members(const Request& r) {
  for (const auto& [name, list] : {std::pair{"lse", &*r.lse}, std::pair{"localOut", &*r.outs}})
    for (std::size_t i = 0; i < list->size(); ++i)
      if ((*list)[i] == nullptr) return at(name, i) + " is null; accepted: a tensor";
  return {};
}

Sentence type(const Request& r) {
  if (r.type == 0 || r.type == 1) return {};
  return "updateType is " + std::to_string(r.type) + "; accepted: 0 (out alone) and 1 (out and lseOut)";
}

Sentence lse_out(const Request& r) {
  if (r.type == 0 && r.lse_out) return "lseOut is given with updateType 0; accepted: null";
  return r.type == 1 && !r.lse_out ? Sentence("lseOut is null with updateType 1; accepted: a tensor") : Sentence();
}

Sentence count(const Request& r) {
  const std::size_t n = r.lse->size();
  if (n < 1 || n > kMostParts) return "lse has " + std::to_string(n) + " entries; accepted: 1 to 128";
  if (r.outs->size() == n) return {};
  return "localOut has " + std::to_string(r.outs->size()) + " entries; accepted: as many as lse has, " + std::to_string(n);
}

Sentence dtype(const Request& r) {
  const aclDataType wanted = r.outs->front()->dtype;
  for (std::size_t i = 0; i < r.lse->size(); ++i)
    if ((*r.lse)[i]->dtype != ACL_FLOAT) return at("lse", i) + " has dtype " + text((*r.lse)[i]->dtype) + "; accepted: ACL_FLOAT";
  for (std::size_t i = 0; i < r.outs->size(); ++i) {
    const aclDataType dtype = (*r.outs)[i]->dtype;
    if (dtype != wanted || (dtype != ACL_FLOAT && dtype != ACL_FLOAT16 && dtype != ACL_BF16))
      return at("localOut", i) + " has dtype " + text(dtype) + "; accepted: one of ACL_FLOAT, ACL_FLOAT16, ACL_BF16 for all";
  }
  if (r.out->dtype != wanted) return dtype_of(r.out) + "; accepted: localOut's, " + text(wanted);
  return r.lse_out && r.lse_out->dtype != ACL_FLOAT ? Sentence(dtype_of(r.lse_out) + "; accepted: ACL_FLOAT") : Sentence();
}

Sentence shape(const Request& r) {
  const Tensor &first = *r.lse->front(), &first_out = *r.outs->front();
  if (first.rank() != 1) return at("lse", 0) + of(r.lse->front()) + "; accepted: [R]";
  if (first_out.rank() != 2 || first_out.shape[1] == 0) return at("localOut", 0) + of(r.outs->front()) + "; accepted: [R, D], D above 0";
  const Dims rows = first.shape, wanted = {first.shape[0], first_out.shape[1]};
  for (std::size_t i = 0; i < r.lse->size(); ++i) {
    if ((*r.lse)[i]->shape != rows) return at("lse", i) + of((*r.lse)[i]) + "; accepted: lse[0]'s, " + text(rows);
    if ((*r.outs)[i]->shape != wanted) return at("localOut", i) + of((*r.outs)[i]) + "; accepted: " + text(wanted) + ", [R, D]";
  }
  if (r.out->shape != wanted) return shape_of(r.out) + "; accepted: localOut's, " + text(wanted);
  return r.lse_out && r.lse_out->shape != rows ? Sentence(shape_of(r.lse_out) + "; accepted: lse's, " + text(rows)) : Sentence();
}

Sentence features(const Request& r) {
  const std::int64_t d = r.out->shape[1];
  if (!strict() || (d % 8 == 0 && d <= 512)) return {};
  return "localOut has " + std::to_string(d) + " features; accepted: multiples of 8 from 8 to 512";
}

Sentence outputs(const Request& r) {
  const Slot slots[] = {r.out, r.lse_out};
  if (Sentence fault = overlapping(slots)) return *fault + "; accepted: strides that give every element an address of its own";
  if (Sentence fault = misaligned(slots)) return *fault + "; accepted: addresses aligned to their dtype";
  return {};
}

const Row kRows[] = {
    {"null.arguments", kNull, missing}, {"handle.alive", kValue, dead}, {"null.members", kNull, members},
    {"type", kValue, type},             {"type.lse", kValue, lse_out},  {"count", kValue, count},
    {"dtype", kValue, dtype},           {"shape", kValue, shape},       {"strict.features", kValue, features},
    {"output", kValue, outputs},
};

class MergeCall final : public Call {
 public:
  explicit MergeCall(const Request& r) : parts_(r.lse->size()) {
    problem_.struct_size = sizeof problem_;
    problem_.dtype = library_dtype(r.out->dtype);
    problem_.count = static_cast<std::int32_t>(parts_.size());
    problem_.batch = problem_.heads = 1;
    problem_.rows = r.out->shape[0], problem_.dim_v = r.out->shape[1];
    problem_.parts = parts_.data();
    problem_.special = FUSEDATTN_MERGE_SAFE;
    problem_.log_sum_exp = 1;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      number(*(*r.lse)[i], {false, 0, i}, parts_[i].stats);
      matrix(*(*r.outs)[i], {false, 1, i}, parts_[i].out);
    }
    matrix(*r.out, r.out.source, problem_.result.out);
    if (r.lse_out) number(*r.lse_out, r.lse_out.source, problem_.result.stats);
  }

  std::uint64_t workspace_bytes() const override {
    return static_cast<std::uint64_t>(staging_.bytes() > 0 ? staging_.bytes() + kAlignment : 0);
  }

  Outcome run(void* workspace, const Addresses& at) override {
    if (problem_.rows == 0) return {};
    std::byte* staged = aligned(workspace);
    staging_.gather(staged, at);
    for (const Binding& one : bindings_) {
      void* address = (one.staged ? staged : static_cast<std::byte*>(one.source.block(at))) + one.offset;
      if (one.out != nullptr) *one.out = address;
      if (one.lse != nullptr) *one.lse = static_cast<float*>(address);
    }
    if (const fusedattn_status status = fusedattn_merge(&problem_, nullptr); status != FUSEDATTN_OK)
      return library_outcome("aclnnAttentionUpdate", status);
    staging_.scatter(staged, at);
    return {};
  }

 private:
  struct Binding {
    void** out;
    float** lse;
    Source source;
    std::int64_t offset;
    bool staged;
  };

  void number(const Tensor& tensor, const Source& source, fusedattn_stats& stats) {
    stats.lanes = 1, stats.row_stride = tensor.strides[0];
    bindings_.push_back({nullptr, &stats.max, source, tensor.offset * bytes_of(tensor.dtype), false});
  }

  void matrix(const Tensor& tensor, const Source& source, fusedattn_view& view) {
    const std::int64_t width = bytes_of(tensor.dtype);
    const bool as_it_lies = rows_are_contiguous(tensor);
    view.row_stride = as_it_lies ? tensor.strides[0] : tensor.shape[1];
    if (as_it_lies) return bindings_.push_back({&view.data, nullptr, source, tensor.offset * width, false});
    const std::int64_t staged = staging_.reserve(tensor.elements() * width);
    source.output ? staging_.after(whole(source, tensor, staged)) : staging_.before(whole(source, tensor, staged));
    bindings_.push_back({&view.data, nullptr, {}, staged, true});
  }

  std::vector<fusedattn_partial> parts_;
  fusedattn_merge_problem problem_{};
  Staging staging_;
  std::vector<Binding> bindings_;
};

}  // namespace

std::span<const Row> rows() { return kRows; }

}  // namespace fusedattn::cann::lists

using namespace fusedattn::cann;

aclnnStatus aclnnAttentionUpdateGetWorkspaceSize(const aclTensorList* lse, const aclTensorList* localOut, int64_t updateType,
                                                 aclTensor* out, aclTensor* lseOut, uint64_t* workspaceSize, aclOpExecutor** executor) {
  const char* function = "aclnnAttentionUpdate";
  return guarded(function, [&]() -> int {
    if (workspaceSize == nullptr || executor == nullptr) return no_results(function, workspaceSize);
    const lists::Request request{lse != nullptr, localOut != nullptr, out != nullptr, tensors_of(lse), tensors_of(localOut), updateType,
                                 read_slot("out", out, {true, 0}), read_slot("lseOut", lseOut, {true, 1})};
    for (const lists::Row& row : lists::rows())
      if (const Sentence sentence = row.violated(request))
        return refuse(row.code, std::string(function) + ": " + *sentence + " [" + row.id + "]");
    Operands operands;
    operands.inputs.emplace_back("lse", *request.lse);
    operands.inputs.emplace_back("localOut", *request.outs);
    operands.outputs.emplace_back("out", request.out.tensor);
    operands.outputs.emplace_back("lseOut", request.lse_out.tensor);
    return finish_phase_one(function, std::make_unique<lists::MergeCall>(request), std::move(operands), workspaceSize, executor);
  });
}

aclnnStatus aclnnAttentionUpdate(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor, aclrtStream stream) {
  return phase_two("aclnnAttentionUpdate", workspace, workspaceSize, executor, stream);
}
