// cann_limits_test.cc: one refusal for every row of the table of constraints, its code and its sentence; nothing is written then.
// FUSEDATTN_ACL_STRICT=1 tests the rows of strict mode instead.
#include <functional>
#include <set>

#include "operators/score/constraints.h"
#include "score_golden.h"

using namespace fusedattn::tests;
using fusedattn::cann::score::whole_table;

namespace {

constexpr int kNull = 161001, kValue = 161002, kTiling = 561002, kKernel = 561003;
enum Direction { kForward, kBackward };

struct Refused {
  const char* id;
  Direction direction;
  int code;
  const char* says;  // a part of the sentence
  Words words;
  std::function<void(ScoreCall&)> break_it;
};

void nothing(ScoreCall&) {}
Array of(aclDataType dtype, const Shape& shape) { return Array(dtype, shape); }

const Words kPlain = {.version = 2}, kFolded = {.version = 2, .layout = "BSH"}, kSink = {.version = 3, .sink = true};
const Words kMask = {.version = 2, .mode = 1}, kBand = {.version = 2, .mode = 4, .pre = 3, .next = 1};
const Words kBits = {.version = 2, .keep = 0.5};
const Words kPse = {.version = 2, .pse = Pse::full}, kSlopes = {.version = 2, .Sq = 7, .Skv = 7, .pse = Pse::slopes, .pse_type = 2};
const Words kTnd = {.version = 2, .layout = "TND", .q_ends = {3, 8}, .kv_ends = {4, 9}};
const Words kRope = {.version = 5, .layout = "TND", .dtype = ACL_BF16, .Dr = 8, .q_ends = {3, 8}, .kv_ends = {4, 9}, .mode = 2};
const Words kUnified = {.version = 4};

Words with_mode(Words w, int64_t mode, std::vector<int64_t> prefix = {}) {
  w.mode = mode, w.prefix = std::move(prefix);
  return w;
}
Words packed(std::vector<int64_t> q, std::vector<int64_t> kv, int64_t mode, int64_t pre = 2147483647, int64_t next = 2147483647) {
  return {.version = 2, .layout = "TND", .q_ends = std::move(q), .kv_ends = std::move(kv), .mode = mode, .pre = pre, .next = next};
}

const Refused kRefused[] = {
    {"null.inputs", kForward, kNull, "key is null", kPlain, [](auto& c) { c.key = {}; }},
    {"null.inputs", kBackward, kNull, "keyIn is null", kPlain, [](auto& c) { c.key = {}; }},
    {"null.gradient", kBackward, kNull, "attentionInOptional is null", kPlain, [](auto& c) { c.attention = {}; }},
    {"null.outputs", kForward, kNull, "softmaxSumOut is null", kPlain, [](auto& c) { c.sum = {}; }},
    {"null.outputs", kBackward, kNull, "dvOut is null", kPlain, [](auto& c) { c.dv = {}; }},
    {"null.layout", kForward, kNull, "inputLayout is null", kPlain, [](auto& c) { c.no_layout = true; }},
    {"handle.alive", kForward, kValue, "value is no live aclTensor", kPlain, [](auto& c) { c.value.kill(); }},
    {"handle.alive", kForward, kValue, "actualSeqQLenOptional is no live aclIntArray", kTnd, [](auto& c) { c.q_ends.kill(); }},
    {"layout.packed", kForward, kValue, "inputLayout is 'BSH'", kTnd, [](auto& c) { c.set_layout("BSH"); }},
    {"layout.known", kForward, kValue, "inputLayout is 'BND'", kPlain, [](auto& c) { c.set_layout("BND"); }},
    {"layout.lists", kForward, kTiling, "no sequence lengths", kPlain, [](auto& c) { c.set_layout("TND"); }},
    {"layout.rank", kForward, kValue, "query has shape [2, 9, 64]", kFolded, [](auto& c) { c.set_layout("BNSD"); }},
    {"dtype.float", kForward, kValue, "query has dtype ACL_INT64", kPlain, [](auto& c) { c.query = of(ACL_INT64, {2, 4, 9, 16}); }},
    {"dtype.same", kForward, kValue, "key has dtype ACL_FLOAT16", kPlain, [](auto& c) { c.key = of(ACL_FLOAT16, {2, 2, 13, 16}); }},
    {"dtype.same", kBackward, kTiling, "keyIn has dtype ACL_FLOAT16", kPlain, [](auto& c) { c.key = of(ACL_FLOAT16, {2, 2, 13, 16}); }},
    {"dtype.pse", kForward, kValue, "realShiftOptional has dtype ACL_BF16", kPse, [](auto& c) { c.pse = of(ACL_BF16, {2, 4, 9, 13}); }},
    {"dtype.pse", kBackward, kTiling, "pseShiftOptional has dtype ACL_BF16", kPse, [](auto& c) { c.pse = of(ACL_BF16, {2, 4, 9, 13}); }},
    {"dtype.slopes", kForward, kValue, "realShiftOptional is null with pseType 2", kSlopes, [](auto& c) { c.pse = {}; }},
    {"dtype.slopes", kForward, kValue, "has dtype ACL_FLOAT16 with pseType 2", kSlopes, [](auto& c) { c.pse = of(ACL_FLOAT16, {4}); }},
    {"quantised.scales", kForward, kKernel, "dScaleQOptional is given", kUnified, [](auto& c) { c.scale_q = of(ACL_FLOAT, {1}); }},
    {"quantised.dtype", kForward, kKernel, "outDtype is 7", kUnified, [](auto& c) { c.out_dtype = 7; }},
    {"heads.positive", kForward, kValue, "headNum is 0", kPlain, [](auto& c) { c.heads = 0; }},
    {"features.folded", kBackward, kValue, "head size 0", kFolded, [](auto& c) { c.heads = 65; }},
    {"features.key", kForward, kValue, "key has head size 8", kPlain, [](auto& c) { c.key = of(ACL_FLOAT, {2, 2, 13, 8}); }},
    {"features.value", kForward, kValue, "value has head size 24", kPlain, [](auto& c) { c.value = of(ACL_FLOAT, {2, 2, 13, 24}); }},
    {"features.most", kForward, kValue, "query has head size 896", {.B = 1, .N1 = 1, .N2 = 1, .Sq = 1, .Skv = 1, .D = 896}, nothing},
    {"features.most", kBackward, kTiling, "query has head size 896", {.B = 1, .N1 = 1, .N2 = 1, .Sq = 1, .Skv = 1, .D = 896}, nothing},
    {"statistics.layout", kBackward, kValue, "softmaxInLayout is 'NTD'", kRope, [](auto& c) { std::strcpy(c.softmax_layout, "NTD"); }},
    {"rope.both", kForward, kValue, "queryRope is given alone", kRope, [](auto& c) { c.key_rope = {}; }},
    {"rope.dtype", kForward, kValue, "queryRope has dtype ACL_FLOAT16", kRope, [](auto& c) { c.query_rope = of(ACL_FLOAT16, {8, 4, 8}); }},
    {"rope.shape", kForward, kValue, "keyRope has shape [9, 2, 16]", kRope, [](auto& c) { c.key_rope = of(ACL_BF16, {9, 2, 16}); }},
    {"rope.features", kForward, kValue, "head size 4 beside query's 16", kRope,
     [](auto& c) { c.query_rope = of(ACL_BF16, {8, 4, 4}), c.key_rope = of(ACL_BF16, {9, 2, 4}); }},
    {"rope.alone", kForward, kValue, "keepProb is 0.5", kRope, [](auto& c) { c.keep = 0.5; }},
    {"rope.mask", kForward, kNull, "attenMaskOptional is null", kRope, [](auto& c) { c.atten_mask = {}; }},
    {"probability.range", kForward, kTiling, "keepProb is 1.2", kPlain, [](auto& c) { c.keep = 1.2; }},
    {"probability.range", kForward, kTiling, "keepProb is nan", kPlain, [](auto& c) { c.keep = NAN; }},
    {"scale.range", kForward, kTiling, "scaleValue is inf", kPlain, [](auto& c) { c.scale = INFINITY; }},
    {"heads.query", kForward, kTiling, "query has hidden size 64", {.version = 2, .layout = "BSH", .Dv = 8}, [](auto& c) { c.heads = 3; }},
    {"heads.key", kForward, kTiling, "key has hidden size 40", kFolded, [](auto& c) { c.key = of(ACL_FLOAT, {2, 13, 40}); }},
    {"heads.value", kForward, kTiling, "value has hidden size 31", kFolded, [](auto& c) { c.value = of(ACL_FLOAT, {2, 13, 31}); }},
    {"heads.number", kForward, kTiling, "headNum is 8; query has 4 heads", kPlain, [](auto& c) { c.heads = 8; }},
    {"heads.groups", kForward, kTiling, "key has 3 heads", kPlain,
     [](auto& c) { c.key = of(ACL_FLOAT, {2, 3, 13, 16}), c.value = of(ACL_FLOAT, {2, 3, 13, 16}); }},
    {"shapes.batch", kForward, kTiling, "key has batch 3", kPlain, [](auto& c) { c.key = of(ACL_FLOAT, {3, 2, 13, 16}); }},
    {"shapes.value", kForward, kTiling, "value has 2 heads and 12 rows", kPlain, [](auto& c) { c.value = of(ACL_FLOAT, {2, 2, 12, 16}); }},
    {"shapes.features", kForward, kTiling, "value has head size 0", kPlain, [](auto& c) { c.value = of(ACL_FLOAT, {2, 2, 13, 0}); }},
    {"shapes.rows", kForward, kTiling, "query has 2147483648 rows", kPlain, nullptr},
    {"sequences.number", kForward, kTiling, "actualSeqKvLenOptional has 1 entries", kTnd, [](auto& c) { c.kv_ends = Ints({9}); }},
    {"sequences.number", kForward, kTiling, "actualSeqQLenOptional has 0 entries", kTnd, [](auto& c) { c.q_ends = {}; }},
    {"sequences.rising", kForward, kTiling, "actualSeqQLenOptional is [5, 3, 8]", kTnd,
     [](auto& c) { c.q_ends = Ints({5, 3, 8}), c.kv_ends = Ints({1, 2, 3}); }},
    {"sequences.total", kForward, kTiling, "ends with 10 of 9 packed rows", kTnd, [](auto& c) { c.kv_ends = Ints({4, 10}); }},
    {"sink.shape", kForward, kTiling, "sinkOptional has shape [3]", kSink, [](auto& c) { c.sink = of(ACL_FLOAT, {3}); }},
    {"sparse.mode", kForward, kTiling, "sparseMode is 7 with inputLayout BNSD", kMask, [](auto& c) { c.mode = 7; }},
    {"sparse.mode", kForward, kTiling, "sparseMode is 5 with inputLayout TND", with_mode(kTnd, 1), [](auto& c) { c.mode = 5; }},
    {"mask.dtype", kForward, kTiling, "attenMaskOptional has dtype ACL_FLOAT", kMask,
     [](auto& c) { c.atten_mask = of(ACL_FLOAT, {9, 13}); }},
    {"mask.compressed", kForward, kTiling, "attenMaskOptional has shape [2048, 2047]", kBand,
     [](auto& c) { c.atten_mask = of(ACL_BOOL, {2048, 2047}); }},
    {"mask.full", kForward, kTiling, "attenMaskOptional has shape [9, 12]", kMask, [](auto& c) { c.atten_mask = of(ACL_BOOL, {9, 12}); }},
    {"tokens.band", kForward, kTiling, "preTokens is -1, nextTokens is -1", with_mode(kPlain, 0), [](auto& c) { c.pre = c.next = -1; }},
    {"tokens.band", kForward, kTiling, "not all of", packed({5, 9}, {5, 9}, 4), [](auto& c) { c.pre = -1; }},
    {"tokens.lengths", kForward, kTiling, "sequence 1 has q length 6 and kv length 5", packed({3, 9}, {4, 9}, 3), nothing},
    {"tokens.cut", kForward, kTiling, "of sequence 1", packed({3, 5}, {3, 9}, 7, 3, -2), nothing},
    {"prefix.number", kForward, kTiling, "prefixOptional is null", with_mode(kPlain, 6), nothing},
    {"prefix.number", kForward, kTiling, "prefixOptional has 1 entries", with_mode(kPlain, 6, {5}), nothing},
    {"prefix.range", kForward, kTiling, "prefixOptional[1] is 14", with_mode(kPlain, 6, {5, 14}), nothing},
    {"pse.type", kForward, kTiling, "pseType is 4", kPse, [](auto& c) { c.pse_type = 4; }},
    {"pse.missing", kForward, kTiling, "realShiftOptional is null with pseType 0", kPlain, [](auto& c) { c.pse_type = 0; }},
    {"pse.mode",
     kForward,
     kTiling,
     "realShiftOptional is given with sparseMode 7",
     {.version = 2, .layout = "TND", .q_ends = {3, 5}, .kv_ends = {3, 9}, .mode = 7, .pre = 6, .next = -2, .pse = Pse::packed_full},
     nothing},
    {"pse.shape", kForward, kTiling, "realShiftOptional has shape [2, 4, 10, 13]", kPse,
     [](auto& c) { c.pse = of(ACL_FLOAT, {2, 4, 10, 13}); }},
    {"pse.compressed", kForward, kTiling, "1024 rows", kPse, [](auto& c) { c.pse = of(ACL_FLOAT, {2, 4, 1024, 13}); }},
    {"pse.slopes", kForward, kTiling, "realShiftOptional has shape [3]", kSlopes, [](auto& c) { c.pse = of(ACL_FLOAT, {3}); }},
    {"pse.lengths",
     kForward,
     kTiling,
     "q length 9 and kv length 13 with pseType 2",
     {.version = 2, .pse = Pse::slopes, .pse_type = 2},
     nothing},
    {"pse.range", kForward, kTiling, "qStartIdxOptional[0] is", kSlopes,
     [](auto& c) { c.q_start = Ints({int64_t{1} << 53}), c.kv_start = Ints({0}); }},
    {"pse.starts",
     kForward,
     kTiling,
     "kvStartIdxOptional is 0 with first lengths q 3, kv 4",
     {.version = 2,
      .layout = "TND",
      .q_ends = {3, 8},
      .kv_ends = {4, 9},
      .mode = 8,
      .pre = 4,
      .next = 1,
      .pse = Pse::slopes,
      .pse_type = 2},
     nothing},
    {"dropout.dtype", kForward, kTiling, "dropMaskOptional has dtype ACL_BOOL", kBits, [](auto& c) { c.drop_mask = of(ACL_BOOL, {200}); }},
    {"dropout.size", kForward, kTiling, "dropMaskOptional has 116 bytes for 936 scores", kBits,
     [](auto& c) { c.drop_mask = of(ACL_UINT8, {116}); }},
    {"dropout.missing", kBackward, kTiling, "dropMaskOptional is null with keepProb 0.5", kBits, [](auto& c) { c.drop_mask = {}; }},
    {"gradient.outputs", kBackward, kTiling, "dy has shape [2, 4, 9, 8]", kPlain, [](auto& c) { c.dy = of(ACL_FLOAT, {2, 4, 9, 8}); }},
    {"gradient.statistics", kBackward, kTiling, "softmaxSumOptional is null", kPlain, [](auto& c) { c.sum = {}; }},
    {"gradient.statistics", kBackward, kTiling, "dtype ACL_FLOAT16", kPlain, [](auto& c) { c.max = of(ACL_FLOAT16, {2, 4, 9, 8}); }},
    {"output.attention", kForward, kValue, "attentionOutOut has shape [2, 4, 9, 15]", kPlain,
     [](auto& c) { c.attention = of(ACL_FLOAT, {2, 4, 9, 15}); }},
    {"output.statistics", kForward, kValue, "softmaxMaxOut has shape [2, 4, 9, 1]", kPlain,
     [](auto& c) { c.max = of(ACL_FLOAT, {2, 4, 9, 1}); }},
    {"output.missing", kBackward, kNull, "dsinkOut is null", kSink, [](auto& c) { c.dsink = {}; }},
    {"output.gradients", kBackward, kValue, "dkOut has shape [2, 2, 12, 16]", kPlain,
     [](auto& c) { c.dk = of(ACL_FLOAT, {2, 2, 12, 16}); }},
    {"output.overlap", kForward, kValue, "strides [0, 144, 16, 1]", kPlain, nullptr},
    {"output.address", kBackward, kValue, "dqOut has the address of query", kPlain, nullptr},
    {"address.aligned", kForward, kValue, "no multiple of 4 bytes", kPlain, nullptr},
    {"strict.batch", kForward, kTiling, "the batch is 2049", kTnd,
     [](auto& c) { c.q_ends = Ints(std::vector<int64_t>(2049, 8)), c.kv_ends = Ints(std::vector<int64_t>(2049, 9)); }},
    {"strict.heads", kForward, kTiling, "headNum is 257", {.B = 1, .N1 = 257, .N2 = 1, .Sq = 1, .Skv = 1, .D = 1, .Dv = 1}, nothing},
    {"strict.rows", kForward, kTiling, "key has 1048577", {.B = 1, .N1 = 1, .N2 = 1, .Sq = 1, .Skv = 1048577, .D = 1, .Dv = 1}, nothing},
    {"strict.prefix", kForward, kTiling, "prefixOptional has 2049 entries", kPlain,
     [](auto& c) { c.prefix = Ints(std::vector<int64_t>(2049, 1)); }},
    {"strict.lists", kForward, kValue, "sequence lengths are given", kUnified, [](auto& c) { c.q_ends = Ints({1}); }},
    {"strict.falling", kForward, kTiling, "[8, 0]", kTnd, [](auto& c) { c.q_ends = Ints({8, 0}), c.kv_ends = Ints({9, 9}); }},
    {"strict.unused", kForward, kValue, "paddingMaskOptional is given", kPlain, [](auto& c) { c.padding_mask = of(ACL_FLOAT, {2}); }},
    {"strict.tokens", kForward, kTiling, "preTokens is 4294967296", kPlain, [](auto& c) { c.pre = int64_t{1} << 32; }},
    {"strict.bits", kForward, kTiling, "dropMaskOptional is null", kBits, [](auto& c) { c.drop_mask = {}; }},
    {"strict.layout", kForward, kValue, "softmaxOutLayout is 'NTD'", {.version = 4}, [](auto& c) { std::strcpy(c.softmax_layout, "NTD"); }},
    {"strict.format", kForward, kValue, "has format", kPlain, nullptr},
};

// A tensor that an Array cannot be: given by everything that aclCreateTensor takes.
aclTensor* odd(const Shape& shape, const Shape& strides, aclFormat format, void* data) {
  return aclCreateTensor(shape.data(), shape.size(), ACL_FLOAT, strides.data(), 0, format, shape.data(), shape.size(), data);
}

// The plain forward or gradient with one tensor put in the place of another.
aclnnStatus refuse_odd(const std::string& id, ScoreCall& c) {
  aclTensor *q = c.query.handle(), *k = c.key.handle(), *v = c.value.handle(), *out = c.attention.handle(), *dq = c.dq.handle(),
            *other = nullptr;
  const Shape whole = {2, 4, 9, 16}, strides = {576, 144, 16, 1};
  if (id == "shapes.rows") q = other = odd({2, 4, 2147483648, 16}, {0, 0, 16, 1}, ACL_FORMAT_ND, nullptr);
  if (id == "output.overlap") out = other = odd(whole, {0, 144, 16, 1}, ACL_FORMAT_ND, c.attention.data());
  if (id == "output.address") dq = other = odd(whole, strides, ACL_FORMAT_ND, c.query.data());
  if (id == "address.aligned") q = other = odd(whole, strides, ACL_FORMAT_ND, c.query.data() + 1);
  if (id == "strict.format") q = other = odd(whole, strides, ACL_FORMAT_NCHW, c.query.data());
  const aclnnStatus status =
      id == "output.address"
          ? aclnnFlashAttentionScoreGradGetWorkspaceSize(q, k, v, c.dy.handle(), nullptr, nullptr, nullptr, nullptr, c.max.handle(),
                                                         c.sum.handle(), nullptr, out, nullptr, 0.3, 1.0, 0, 0, 4, c.layout, 0, 0, dq,
                                                         c.dk.handle(), c.dv.handle(), nullptr, &c.workspace, &c.executor)
          : aclnnFlashAttentionScoreGetWorkspaceSize(q, k, v, nullptr, nullptr, nullptr, nullptr, nullptr, 0.3, 1.0, 0, 0, 4, c.layout, 0,
                                                     0, c.max.handle(), c.sum.handle(), nullptr, out, &c.workspace, &c.executor);
  CHECK_EQ(aclDestroyTensor(other), 0);
  return status;
}

bool is_strict(const std::string& id) { return id.rfind("strict.", 0) == 0; }

}  // namespace

TEST(every_row_refuses) {
  std::set<std::string> tested;
  for (const Refused& one : kRefused) {
    if (is_strict(one.id) != fusedattn::cann::strict()) continue;
    tested.insert(one.id);
    check::run(std::string(one.id) + (one.direction == kBackward ? "/backward" : ""), [&] {
      ScoreCase t(one.words);
      if (one.break_it) one.break_it(t.c);
      auto* const untouched = reinterpret_cast<aclOpExecutor*>(&t);
      t.c.workspace = 4711, t.c.executor = untouched;
      message();
      const aclnnStatus status = !one.break_it ? refuse_odd(one.id, t.c) : one.direction == kBackward ? t.c.backward() : t.c.forward();
      const std::string sentence = message();
      CHECK_EQ(status, one.code);
      CHECK_THAT(sentence.find(std::string("[") + one.id + "]") != std::string::npos, "not of this row: " + sentence);
      CHECK_THAT(sentence.find(one.says) != std::string::npos, "does not say '" + std::string(one.says) + "': " + sentence);
      CHECK_EQ(t.c.workspace, 4711u);
      CHECK(t.c.executor == untouched);
    });
  }
  for (const auto& row : whole_table())
    if (is_strict(row.id) == fusedattn::cann::strict()) CHECK_THAT(tested.count(row.id) == 1, std::string(row.id) + " is not tested");
}

TEST(results_need_a_place) {
  ScoreCase t(kPlain);
  const auto phase_one = [&](uint64_t* size, aclOpExecutor** executor) {
    return aclnnFlashAttentionScoreGetWorkspaceSize(t.c.query.handle(), t.c.key.handle(), t.c.value.handle(), nullptr, nullptr, nullptr,
                                                    nullptr, nullptr, 0.3, 1.0, 0, 0, 4, t.c.layout, 0, 0, t.c.max.handle(),
                                                    t.c.sum.handle(), nullptr, t.c.attention.handle(), size, executor);
  };
  uint64_t size = 0;
  aclOpExecutor* executor = nullptr;
  CHECK_EQ(phase_one(nullptr, &executor), kNull);
  CHECK(message().find("workspaceSize is null") != std::string::npos);
  CHECK_EQ(phase_one(&size, nullptr), kNull);
  CHECK(message().find("executor is null") != std::string::npos);
}

TEST_MAIN()
