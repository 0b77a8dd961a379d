// cann_nsa_test.cc: token compression and its gradient: values, one refusal for every row of the table, strides, lengths.
#include <functional>
#include <set>

#include "aclnnop/aclnn_nsa_compress.h"
#include "aclnnop/aclnn_nsa_compress_grad.h"
#include "array.h"
#include "operators/nsa/compress.h"
#include "reference/nsa.h"

using namespace fusedattn::tests;
using fusedattn::reference::Compression;

namespace {

struct Compressed {
  Compression c;
  Array x, w, y, dy, dx, dw;
  Ints lengths;
  int64_t block, stride, type = 0;
  char layout[8] = "TND";
  uint64_t workspace = 0;
  aclOpExecutor* executor = nullptr;

  Compressed(const Compression& c, aclDataType dtype = ACL_FLOAT, Lie lie = Lie::contiguous)
      : c(c), lengths(c.ends), block(c.block), stride(c.stride) {
    x = Array(dtype, {c.tokens, c.heads, c.dim}, lie), dx = Array(dtype, {c.tokens, c.heads, c.dim}, lie);
    w = Array(dtype, {c.block, c.heads}, lie), dw = Array(dtype, {c.block, c.heads}, lie);
    y = Array(dtype, {c.windows(), c.heads, c.dim}, lie), dy = Array(dtype, {c.windows(), c.heads, c.dim}, lie);
    // Every number and every sum of them is exact in float32.
    const auto at = [](const Array& a, int64_t e, int64_t axis) {
      const Shape& n = a.shape();
      return n.size() == 3 ? (axis == 0 ? e / (n[1] * n[2]) : axis == 1 ? e / n[2] % n[1] : e % n[2]) : (axis == 0 ? e / n[1] : e % n[1]);
    };
    for (int64_t e = 0; e < x.size(); ++e) x.set(e, static_cast<double>((7 * at(x, e, 0) + 3 * at(x, e, 1) + at(x, e, 2)) % 11 - 5) / 8);
    for (int64_t e = 0; e < w.size(); ++e) w.set(e, static_cast<double>((5 * at(w, e, 0) + at(w, e, 1)) % 7 - 3) / 16);
    for (int64_t e = 0; e < dy.size(); ++e)
      dy.set(e, static_cast<double>((3 * at(dy, e, 0) + 5 * at(dy, e, 1) + at(dy, e, 2)) % 13 - 6) / 4);
  }

  aclnnStatus forward() {
    return aclnnNsaCompressGetWorkspaceSize(x.handle(), w.handle(), lengths.handle(), layout, block, stride, type, y.handle(), &workspace,
                                            &executor);
  }
  aclnnStatus backward() {
    return aclnnNsaCompressGradGetWorkspaceSize(dy.handle(), x.handle(), w.handle(), lengths.handle(), block, stride, type, layout,
                                                dx.handle(), dw.handle(), &workspace, &executor);
  }
  void run() {
    const Stream stream;
    CHECK_THAT(forward() == 0, message());
    const Workspace first(workspace);
    CHECK_EQ(aclnnNsaCompress(first.data(), workspace, executor, stream.get()), 0);
    CHECK_THAT(backward() == 0, message());
    const Workspace second(workspace);
    CHECK_EQ(aclnnNsaCompressGrad(second.data(), workspace, executor, stream.get()), 0);
    stream.wait();
  }
};

void exact(const char* what, const Array& have, const std::vector<double>& want) {
  CHECK_EQ(have.size(), static_cast<int64_t>(want.size()));
  for (int64_t e = 0; e < have.size(); ++e)
    if (have.get(e) != rounded(storage_dtype(have.dtype()), want[static_cast<std::size_t>(e)]))
      return check::complain(__FILE__, __LINE__,
                             check::two(what, have.get(e), want[static_cast<std::size_t>(e)]) + " at " + std::to_string(e));
}

const Compression kA = {{0, 80, 80, 97, 176, 193}, 193, 2, 16, 32, 16};
const Compression kCases[] = {kA,
                              {{80, 80, 97, 176, 193}, 193, 2, 16, 32, 16},
                              {{16, 40, 47, 112}, 112, 3, 16, 16, 16},
                              {{10, 31, 32}, 32, 2, 16, 32, 16},
                              {{300}, 300, 1, 16, 128, 16}};

// Sums and weighted sums of case A, in rational arithmetic.
void case_a(const Array& a, double plain, double weighted) {
  double sum = 0, weights = 0;
  for (int64_t k = 0; k < a.size(); ++k) sum += a.get(k), weights += static_cast<double>(k % 97 + 1) * a.get(k);
  CHECK_EQ(sum, plain);
  CHECK_EQ(weights, weighted);
}

struct Refused {
  const char* id;
  bool backward;
  int code;
  const char* says;
  std::function<void(Compressed&)> break_it;
};

constexpr int kNull = 161001, kValue = 161002;
const Refused kRefused[] = {
    {"null.tensors", false, kNull, "weight is null", [](auto& t) { t.w = {}; }},
    {"null.tensors", true, kNull, "weightGradOut is null", [](auto& t) { t.dw = {}; }},
    {"null.lengths", false, kNull, "actSeqLenOptional is null", [](auto& t) { t.lengths = {}; }},
    {"handle.alive", false, kValue, "input is no live aclTensor", [](auto& t) { t.x.kill(); }},
    {"handle.alive", true, kValue, "actSeqLenOptionalOptional is no live aclIntArray", [](auto& t) { t.lengths.kill(); }},
    {"lengths.some", false, kValue, "actSeqLenOptional is empty", [](auto& t) { t.lengths = Ints(std::vector<int64_t>{}); }},
    {"dtype.float", false, kValue, "input has dtype ACL_INT64", [](auto& t) { t.x = Array(ACL_INT64, {193, 2, 16}); }},
    {"dtype.same", false, kValue, "weight has dtype ACL_BF16", [](auto& t) { t.w = Array(ACL_BF16, {32, 2}); }},
    {"shape.rank", false, kValue, "input has shape [193, 32]", [](auto& t) { t.x = Array(ACL_FLOAT16, {193, 32}); }},
    {"shape.empty", false, kValue, "input has shape [193, 0, 16]", [](auto& t) { t.x = Array(ACL_FLOAT16, {193, 0, 16}); }},
    {"layout", false, kValue, "layoutOptional is 'BSH'", [](auto& t) { std::strcpy(t.layout, "BSH"); }},
    {"lengths.type", false, kValue, "actSeqLenType is 1", [](auto& t) { t.type = 1; }},
    {"lengths.type", true, kValue, "actSeqLenType is 2", [](auto& t) { t.type = 2; }},
    {"block", false, kValue, "compressBlockSize is 24", [](auto& t) { t.block = 24; }},
    {"stride", false, kValue, "compressStride is 48", [](auto& t) { t.stride = 48; }},
    {"shape.weight", false, kValue, "weight has shape [32, 3]", [](auto& t) { t.w = Array(ACL_FLOAT16, {32, 3}); }},
    {"shape.features", false, kValue, "D = 18", [](auto& t) { t.x = Array(ACL_FLOAT16, {193, 2, 18}); }},
    {"strict.features", false, kValue, "D = 272", [](auto& t) { t.x = Array(ACL_FLOAT16, {193, 2, 272}); }},
    {"strict.heads", false, kValue, "N = 129 heads",
     [](auto& t) { t.x = Array(ACL_FLOAT16, {1, 129, 16}), t.w = Array(ACL_FLOAT16, {32, 129}); }},
    {"lengths.rising", false, kValue, "actSeqLenOptional is [80, 40, 193]", [](auto& t) { t.lengths = Ints({80, 40, 193}); }},
    {"lengths.total", false, kValue, "ends with 192", [](auto& t) { t.lengths = Ints({80, 192}); }},
    {"output.shape", false, kValue, "output has shape [8, 2, 16]", [](auto& t) { t.y = Array(ACL_FLOAT16, {8, 2, 16}); }},
    {"output.shape", true, kValue, "outputGrad has shape [8, 2, 16]", [](auto& t) { t.dy = Array(ACL_FLOAT16, {8, 2, 16}); }},
    {"output.gradients", true, kValue, "inputGradOut has shape [192, 2, 16]", [](auto& t) { t.dx = Array(ACL_FLOAT16, {192, 2, 16}); }},
};

}  // namespace

TEST(values) {
  if (fusedattn::cann::strict()) return;
  for (const Compression& c : kCases)
    for (const aclDataType dtype : {ACL_FLOAT, ACL_FLOAT16, ACL_BF16})
      for (const Lie lie : {Lie::contiguous, Lie::gaps, Lie::every_second, Lie::reversed_axes}) {
        Compressed t(c, dtype, lie);
        t.run();
        const auto x = t.x.numbers(), w = t.w.numbers(), dy = t.dy.numbers();
        exact("output", t.y, compress(c, x, w));
        exact("inputGradOut", t.dx, compress_d_input(c, dy, w));
        exact("weightGradOut", t.dw, compress_d_weight(c, dy, x));
      }
  Compressed a(kA);
  a.run();
  case_a(a.y, 1.0546875, -15.2578125), case_a(a.dx, 1.25, -296.078125), case_a(a.dw, 8.3125, -266.25);
}

TEST(gradient_takes_lengths_or_none) {
  Compressed ends(kA, ACL_FLOAT16), counts(kA, ACL_FLOAT16);
  counts.lengths = Ints({0, 80, 0, 17, 79, 17}), counts.type = 1;
  const Stream stream;
  for (Compressed* t : {&ends, &counts}) {
    CHECK_THAT(t->backward() == 0, message());
    const Workspace memory(t->workspace);
    CHECK_EQ(aclnnNsaCompressGrad(memory.data(), t->workspace, t->executor, stream.get()), 0);
    stream.wait();
  }
  CHECK(ends.dx.numbers() == counts.dx.numbers());
  CHECK(ends.dw.numbers() == counts.dw.numbers());
  Compressed one({{48}, 48, 1, 16, 16, 16}, ACL_FLOAT16);
  one.lengths = {};
  CHECK_EQ(one.backward(), 0);
  CHECK_EQ(aclDestroyAclOpExecutor(one.executor), 0);
}

TEST(every_row_refuses) {
  std::set<std::string> tested = {"output.overlap", "output.address", "address.aligned"};  // those of cann_limits_test
  for (const Refused& one : kRefused) {
    tested.insert(one.id);
    if (std::string(one.id).rfind("strict.", 0) == 0 && !fusedattn::cann::strict()) continue;
    check::run(std::string("nsa/") + one.id + (one.backward ? "/backward" : ""), [&] {
      Compressed t(kA, ACL_FLOAT16);
      one.break_it(t);
      t.workspace = 4711;
      message();
      CHECK_EQ(one.backward ? t.backward() : t.forward(), one.code);
      const std::string sentence = message();
      CHECK_THAT(sentence.find(std::string("[") + one.id + "]") != std::string::npos, "not of this row: " + sentence);
      CHECK_THAT(sentence.find(one.says) != std::string::npos, "does not say '" + std::string(one.says) + "': " + sentence);
      CHECK_EQ(t.workspace, 4711u);
      CHECK(t.executor == nullptr);
    });
  }
  for (const auto& row : fusedattn::cann::nsa::rows()) CHECK_THAT(tested.count(row.id) == 1, std::string(row.id) + " is not tested");
}

TEST_MAIN()
