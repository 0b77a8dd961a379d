// cann_ring_test.cc: RingAttentionUpdate and AttentionUpdate: values in every layout, lengths read when they run, aliases, refusals.
#include <cfloat>
#include <functional>
#include <set>

#include "aclnnop/aclnn_attention_update.h"
#include "aclnnop/aclnn_ring_attention_update.h"
#include "array.h"
#include "operators/ring/lists.h"
#include "operators/ring/update.h"

using namespace fusedattn::tests;

namespace {

enum class Order { sbh, blocks, rows };

// Two parts of attention and where their sum goes.
struct Update {
  int version = 2;
  Array tensors[10];  // in the order of the interface
  char layout[8] = "SBH", softmax_layout[8] = "";
  bool no_layout = false;
  Order order = Order::sbh;
  int64_t s = 6, b = 2, n = 3, d = 8;
  std::vector<int64_t> ends = {0, 2, 2, 6};
  uint64_t workspace = 0;
  aclOpExecutor* executor = nullptr;

  explicit Update(Order order, aclDataType dtype = ACL_FLOAT, Lie lie = Lie::contiguous) : order(order) {
    if (order != Order::sbh) std::strcpy(layout, "TND"), b = 1;
    if (order == Order::rows) std::strcpy(softmax_layout, "TND");
    const bool packed = order != Order::sbh;
    for (int i = 0; i < 10; ++i) {
      const bool attention = i == 0 || i == 3 || i == 7;
      if (i == 6) continue;
      tensors[i] = Array(attention ? dtype : ACL_FLOAT,
                         attention ? (packed ? Shape{s, n, d} : Shape{s, b, n * d}) : (packed ? Shape{s, n, 8} : Shape{b, n, s, 8}), lie);
      if (i < 7 && attention) tensors[i].fill(static_cast<uint64_t>(i) + 1);
      if (i < 6 && !attention)
        for (int64_t e = 0; e < tensors[i].size(); ++e)
          tensors[i].set(e, i % 3 == 1 ? 3 * noise(static_cast<uint64_t>(i), e / 8) : 1.5 + noise(static_cast<uint64_t>(i), e / 8));
    }
    if (packed) {
      tensors[6] = Array(ACL_INT64, {static_cast<int64_t>(ends.size())});
      for (std::size_t e = 0; e < ends.size(); ++e) tensors[6].set(static_cast<int64_t>(e), static_cast<double>(ends[e]));
    }
  }

  aclTensor* at(int i) const { return tensors[i].handle(); }
  aclnnStatus plan() {
    char* text = no_layout ? nullptr : layout;
    if (version == 1)
      return aclnnRingAttentionUpdateGetWorkspaceSize(at(0), at(1), at(2), at(3), at(4), at(5), at(6), text, at(7), at(8), at(9),
                                                      &workspace, &executor);
    return aclnnRingAttentionUpdateV2GetWorkspaceSize(at(0), at(1), at(2), at(3), at(4), at(5), at(6), text, softmax_layout, at(7), at(8),
                                                      at(9), &workspace, &executor);
  }
  aclError run() {
    const Stream stream;
    CHECK_THAT(plan() == 0, message());
    const Workspace memory(workspace);
    CHECK_EQ((version == 1 ? aclnnRingAttentionUpdate : aclnnRingAttentionUpdateV2)(memory.data(), workspace, executor, stream.get()), 0);
    return aclrtSynchronizeStream(stream.get());
  }

  // Where row (b, n, s) lies: its attention, and its statistics.
  int64_t attention_at(int64_t bi, int64_t ni, int64_t si) const {
    return order == Order::sbh ? ((si * b + bi) * n + ni) * d : (si * n + ni) * d;
  }
  int64_t statistics_at(int64_t bi, int64_t ni, int64_t si) const {
    if (order == Order::sbh) return ((bi * n + ni) * s + si) * 8;
    if (order == Order::rows) return (si * n + ni) * 8;
    std::size_t q = 1;
    while (ends[q] <= si) ++q;
    return (ends[q - 1] * n + ni * (ends[q] - ends[q - 1]) + si - ends[q - 1]) * 8;
  }

  void compare(const std::vector<std::vector<double>>& before, double allowed) const {
    for (int64_t bi = 0; bi < b; ++bi)
      for (int64_t ni = 0; ni < n; ++ni)
        for (int64_t si = 0; si < s; ++si) {
          const auto at = static_cast<std::size_t>(statistics_at(bi, ni, si));
          const double max = std::max(before[1][at], before[4][at]);
          const double t = before[2][at] * std::exp(before[1][at] - max), u = before[5][at] * std::exp(before[4][at] - max);
          for (int64_t lane = 0; lane < 8; ++lane) {
            CHECK_EQ(tensors[8].get(static_cast<int64_t>(at) + lane), max);
            CHECK_NEAR(tensors[9].get(static_cast<int64_t>(at) + lane), t + u, 1e-6 * (t + u));
          }
          for (int64_t di = 0; di < d; ++di) {
            const auto e = static_cast<std::size_t>(attention_at(bi, ni, si) + di);
            CHECK_NEAR(tensors[7].get(static_cast<int64_t>(e)), (before[0][e] * t + before[3][e] * u) / (t + u), allowed);
          }
        }
  }
  std::vector<std::vector<double>> inputs() const {
    std::vector<std::vector<double>> all;
    for (int i = 0; i < 6; ++i) all.push_back(tensors[i].numbers());
    return all;
  }
};

struct Refused {
  const char* id;
  Order order;
  int code;
  const char* says;
  std::function<void(Update&)> break_it;
};

constexpr int kNull = 161001, kValue = 161002, kTiling = 561002;
const Refused kRefused[] = {
    {"null.tensors", Order::sbh, kNull, "curSoftmaxMax is null", [](auto& u) { u.tensors[4] = {}; }},
    {"null.layout", Order::sbh, kNull, "inputLayoutOptional is null", [](auto& u) { u.no_layout = true; }},
    {"handle.alive", Order::sbh, kValue, "prevAttnOut is no live aclTensor", [](auto& u) { u.tensors[0].kill(); }},
    {"layout.input", Order::sbh, kValue, "inputLayoutOptional is 'BSH'", [](auto& u) { std::strcpy(u.layout, "BSH"); }},
    {"layout.statistics", Order::sbh, kValue, "inputSoftmaxLayoutOptional is 'NTD'", [](auto& u) { std::strcpy(u.softmax_layout, "NTD"); }},
    {"null.lengths", Order::rows, kNull, "actualSeqQlenOptional is null", [](auto& u) { u.tensors[6] = {}; }},
    {"dtype.attention", Order::sbh, kValue, "curAttnOut has dtype ACL_BF16", [](auto& u) { u.tensors[3] = Array(ACL_BF16, {6, 2, 24}); }},
    {"dtype.statistics", Order::sbh, kValue, "softmaxSumOut has dtype ACL_FLOAT16",
     [](auto& u) { u.tensors[9] = Array(ACL_FLOAT16, {2, 3, 6, 8}); }},
    {"dtype.lengths", Order::rows, kValue, "actualSeqQlenOptional has dtype ACL_FLOAT",
     [](auto& u) { u.tensors[6] = Array(ACL_FLOAT, {4}); }},
    {"format", Order::sbh, kValue, "format", nullptr},
    {"shape.rank", Order::sbh, kValue, "prevAttnOut has shape [6, 48]", [](auto& u) { u.tensors[0] = Array(ACL_FLOAT, {6, 48}); }},
    {"shape.lengths", Order::blocks, kValue, "actualSeqQlenOptional has shape [2, 2]",
     [](auto& u) { u.tensors[6] = Array(ACL_INT64, {2, 2}); }},
    {"shape.lanes", Order::sbh, kValue, "prevSoftmaxMax has shape [2, 3, 6, 1]",
     [](auto& u) { u.tensors[1] = Array(ACL_FLOAT, {2, 3, 6, 1}); }},
    {"shape.empty", Order::sbh, kValue, "prevAttnOut has shape [0, 2, 24]", [](auto& u) { u.tensors[0] = Array(ACL_FLOAT, {0, 2, 24}); }},
    {"shape.attention", Order::sbh, kValue, "curAttnOut has shape [7, 2, 24]",
     [](auto& u) { u.tensors[3] = Array(ACL_FLOAT, {7, 2, 24}); }},
    {"shape.statistics", Order::sbh, kValue, "prevSoftmaxSum has shape [2, 3, 7, 8]",
     [](auto& u) { u.tensors[2] = Array(ACL_FLOAT, {2, 3, 7, 8}); }},
    {"shape.agreement", Order::sbh, kValue, "beside prevAttnOut of [5, 2, 24]",
     [](auto& u) {
       for (int i : {0, 3, 7}) u.tensors[i] = Array(ACL_FLOAT, {5, 2, 24});
     }},
    {"shape.heads", Order::sbh, kValue, "multiple of prevSoftmaxMax's 3 heads",
     [](auto& u) {
       for (int i : {0, 3, 7}) u.tensors[i] = Array(ACL_FLOAT, {6, 2, 25});
     }},
    {"strict.features", Order::rows, kTiling, "head size 8", [](auto&) {}},
    {"strict.size", Order::rows, kTiling, "72 heads of 128",
     [](auto& u) {
       for (int i : {0, 3, 7}) u.tensors[i] = Array(ACL_FLOAT16, {6, 72, 128});
       for (int i : {1, 2, 4, 5, 8, 9}) u.tensors[i] = Array(ACL_FLOAT, {6, 72, 8});
     }},
};

aclTensorList* list_of(std::vector<Array>& arrays) {
  std::vector<const aclTensor*> members;
  for (Array& array : arrays) members.push_back(array.make(array.data()));
  return aclCreateTensorList(members.data(), members.size());
}

}  // namespace

TEST(values) {
  if (fusedattn::cann::strict()) return;
  for (const Order order : {Order::sbh, Order::blocks, Order::rows})
    for (const aclDataType dtype : {ACL_FLOAT, ACL_FLOAT16, ACL_BF16})
      for (const Lie lie : {Lie::contiguous, Lie::gaps, Lie::every_second, Lie::reversed_axes}) {
        Update u(order, dtype, lie);
        u.version = order == Order::rows ? 2 : 1 + (lie == Lie::gaps);
        const auto before = u.inputs();
        CHECK_EQ(u.run(), ACL_SUCCESS);
        u.compare(before, dtype == ACL_FLOAT ? 1e-6 : dtype == ACL_FLOAT16 ? 1e-3 : 6e-3);
      }
}

TEST(outputs_may_lie_on_inputs_of_their_kind) {
  if (fusedattn::cann::strict()) return;
  Update u(Order::blocks);
  const auto before = u.inputs();
  const auto on = [&](int i) { return u.tensors[i].make(u.tensors[i].data()); };
  aclTensor *out = on(0), *max = on(1), *sum = on(2);
  CHECK_EQ(aclnnRingAttentionUpdateGetWorkspaceSize(u.at(0), u.at(1), u.at(2), u.at(3), u.at(4), u.at(5), u.at(6), u.layout, out, max, sum,
                                                    &u.workspace, &u.executor),
           0);
  const Stream stream;
  CHECK_EQ(aclnnRingAttentionUpdate(nullptr, 0, u.executor, stream.get()), 0);
  for (aclTensor* tensor : {out, max, sum}) CHECK_EQ(aclDestroyTensor(tensor), 0);
  stream.wait();
  std::swap(u.tensors[7], u.tensors[0]), std::swap(u.tensors[8], u.tensors[1]), std::swap(u.tensors[9], u.tensors[2]);
  u.compare(before, 1e-6);
  Update crossed(Order::blocks);
  aclTensor* wrong = crossed.tensors[1].make(crossed.tensors[1].data());
  CHECK_EQ(aclnnRingAttentionUpdateGetWorkspaceSize(crossed.at(0), crossed.at(1), crossed.at(2), crossed.at(3), crossed.at(4),
                                                    crossed.at(5), crossed.at(6), crossed.layout, crossed.at(7), crossed.at(8), wrong,
                                                    &u.workspace, &u.executor),
           kValue);
  CHECK(message().find("[output.address]") != std::string::npos);
  CHECK_EQ(aclDestroyTensor(wrong), 0);
}

// What the lengths hold is found when they are read; the stream says so, and nothing is written.
TEST(wrong_lengths_are_reported_by_the_stream) {
  if (fusedattn::cann::strict()) return;
  for (const std::vector<int64_t>& ends : {std::vector<int64_t>{1, 2, 2, 6}, {0, 4, 2, 6}, {0, 2, 2, 7}, {0, 0, 0, 0}}) {
    Update u(Order::blocks);
    for (std::size_t e = 0; e < 4; ++e) u.tensors[6].set(static_cast<int64_t>(e), static_cast<double>(ends[e]));
    CHECK(u.run() != ACL_SUCCESS);
    const std::string sentence = message();
    CHECK_THAT(sentence.find("actualSeqQlenOptional holds [" + std::to_string(ends[0])) != std::string::npos, sentence);
    for (const int i : {7, 8, 9}) CHECK(std::isnan(u.tensors[i].get(0)));
  }
  Update by_rows(Order::rows);
  by_rows.tensors[6].fill_with(9);
  CHECK_EQ(by_rows.run(), ACL_SUCCESS);
}

TEST(every_row_refuses) {
  std::set<std::string> tested = {"output.overlap", "output.address", "address.aligned", "format"};
  for (const Refused& one : kRefused) {
    tested.insert(one.id);
    const bool in_strict_mode = std::string(one.id).rfind("strict.", 0) == 0;
    if (!one.break_it || (in_strict_mode && !fusedattn::cann::strict())) continue;
    check::run(std::string("ring/") + one.id, [&] {
      Update u(one.order);
      one.break_it(u);
      u.workspace = 4711;
      message();
      CHECK_EQ(u.plan(), one.code);
      const std::string sentence = message();
      CHECK_THAT(sentence.find(std::string("[") + one.id + "]") != std::string::npos, "not of this row: " + sentence);
      CHECK_THAT(sentence.find(one.says) != std::string::npos, "does not say '" + std::string(one.says) + "': " + sentence);
      CHECK_EQ(u.workspace, 4711u);
      CHECK(u.executor == nullptr);
    });
  }
  for (const auto& row : fusedattn::cann::ring::rows()) CHECK_THAT(tested.count(row.id) == 1, std::string(row.id) + " is not tested");
}

TEST(lists) {
  if (fusedattn::cann::strict()) return;
  const int64_t rows = 5, dim = 12;
  for (const aclDataType dtype : {ACL_FLOAT, ACL_FLOAT16, ACL_BF16})
    for (const bool with_lse : {false, true}) {
      std::vector<Array> lse, outs;
      for (uint64_t p = 0; p < 3; ++p) {
        lse.emplace_back(ACL_FLOAT, Shape{rows}, p == 1 ? Lie::every_second : Lie::contiguous), lse.back().fill(p + 1, 4.0);
        outs.emplace_back(dtype, Shape{rows, dim}, p == 2 ? Lie::reversed_axes : Lie::contiguous), outs.back().fill(p + 11);
      }
      lse[0].set(3, -INFINITY), outs[0].set(3 * dim, NAN);
      for (Array& one : lse) one.set(4, -INFINITY);
      Array out(dtype, {rows, dim}), lse_out(ACL_FLOAT, {rows});
      aclTensorList *first = list_of(lse), *second = list_of(outs);
      uint64_t size = 0;
      aclOpExecutor* executor = nullptr;
      CHECK_THAT(aclnnAttentionUpdateGetWorkspaceSize(first, second, with_lse, out.handle(), with_lse ? lse_out.handle() : nullptr, &size,
                                                      &executor) == 0,
                 message());
      const Stream stream;
      const Workspace memory(size);
      CHECK_EQ(aclnnAttentionUpdate(memory.data(), size, executor, stream.get()), 0);
      aclDestroyTensorList(first), aclDestroyTensorList(second);
      stream.wait();
      for (int64_t r = 0; r < rows; ++r) {
        double sum = 0;
        for (const Array& one : lse) sum += std::exp(one.get(r));
        if (with_lse) r == 4 ? CHECK_EQ(lse_out.get(r), -INFINITY) : CHECK_NEAR(lse_out.get(r), std::log(sum), 2e-6);
        for (int64_t d = 0; d < dim; ++d) {
          double want = 0;
          for (std::size_t p = 0; p < 3; ++p)
            if (lse[p].get(r) > -INFINITY) want += outs[p].get(r * dim + d) * std::exp(lse[p].get(r)) / sum;
          CHECK_NEAR(out.get(r * dim + d), want, dtype == ACL_FLOAT ? 1e-6 : dtype == ACL_FLOAT16 ? 1e-3 : 6e-3);
        }
      }
    }
}

TEST(list_rows_refuse) {
  std::vector<Array> lse, outs, wide;
  for (int p = 0; p < 2; ++p)
    lse.emplace_back(ACL_FLOAT, Shape{5}), outs.emplace_back(ACL_FLOAT, Shape{5, 12}), wide.emplace_back(ACL_FLOAT, Shape{5, 13});
  std::vector<Array> one;
  one.emplace_back(ACL_FLOAT, Shape{5});
  Array out(ACL_FLOAT, {5, 12}), half(ACL_FLOAT16, {5, 12}), lse_out(ACL_FLOAT, {5});
  aclTensorList *l = list_of(lse), *o = list_of(outs), *single = list_of(one), *w = list_of(wide);
  const auto refused = [&](const aclTensorList* first, const aclTensorList* second, int64_t type, aclTensor* to, aclTensor* lse_to,
                           int code, const char* id) {
    uint64_t size = 4711;
    aclOpExecutor* executor = nullptr;
    message();
    CHECK_EQ(aclnnAttentionUpdateGetWorkspaceSize(first, second, type, to, lse_to, &size, &executor), code);
    const std::string sentence = message();
    CHECK_THAT(sentence.find(std::string("[") + id + "]") != std::string::npos, "not of row " + std::string(id) + ": " + sentence);
    CHECK_EQ(size, 4711u);
  };
  refused(nullptr, o, 0, out.handle(), nullptr, kNull, "null.arguments");
  refused(l, o, 0, nullptr, nullptr, kNull, "null.arguments");
  refused(l, o, 2, out.handle(), nullptr, kValue, "type");
  refused(l, o, 0, out.handle(), lse_out.handle(), kValue, "type.lse");
  refused(l, o, 1, out.handle(), nullptr, kValue, "type.lse");
  refused(single, o, 0, out.handle(), nullptr, kValue, "count");
  refused(l, o, 0, half.handle(), nullptr, kValue, "dtype");
  refused(l, w, 0, out.handle(), nullptr, kValue, "shape");
  for (aclTensorList* list : {l, single, w}) aclDestroyTensorList(list);
  refused(l, o, 0, out.handle(), nullptr, kValue, "handle.alive");
  aclDestroyTensorList(o);
}

TEST_MAIN()
