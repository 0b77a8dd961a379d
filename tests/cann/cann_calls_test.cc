// cann_calls_test.cc: how calls of operators live: arguments that are gone after phase 2, addresses that come later, repeated runs, streams
// and threads, empty outputs, workspaces.
#include <atomic>
#include <thread>

#include "aclnnop/aclnn_nsa_selected_attention.h"
#include "score_golden.h"

using namespace fusedattn::tests;

namespace {

const Words kWords = {.version = 2, .Sq = 33, .Skv = 40, .mode = 4, .pre = 9, .next = 2, .pse = Pse::full, .keep = 0.7};
const Words kTnd = {.version = 5, .layout = "TND", .q_ends = {9, 20}, .kv_ends = {12, 30}, .mode = 6, .prefix = {5, 9}, .sink = true};

std::vector<double> wanted(const Words& words, bool gradient) {
  const Stream stream;
  ScoreCase t(words);
  t.c.run(false, stream);
  if (gradient) t.c.run(true, stream);
  return (gradient ? t.c.dk : t.c.attention).numbers();
}

// Destroys and overwrites all that phase 1 was told; memory behind addresses stays.
void forget(ScoreCall& c) {
  for (Array* array : {&c.query, &c.key, &c.value, &c.query_rope, &c.key_rope, &c.pse, &c.drop_mask, &c.atten_mask, &c.sink, &c.attention,
                       &c.max, &c.sum, &c.dy, &c.dq, &c.dk, &c.dv, &c.dsink})
    array->destroy();
  for (Ints* list : {&c.prefix, &c.q_ends, &c.kv_ends, &c.q_start, &c.kv_start}) list->destroy();
  std::memset(c.layout, 'x', sizeof c.layout), std::memset(c.softmax_layout, 'x', sizeof c.softmax_layout);
  c.scale = c.keep = NAN, c.heads = c.mode = c.pre = c.next = -1;
}

void hold(void* gate) {
  while (!static_cast<std::atomic<bool>*>(gate)->load()) std::this_thread::yield();
}

}  // namespace

TEST(arguments_may_be_gone_after_phase_two) {
  for (const Words& words : {kWords, kTnd})
    for (const bool gradient : {false, true}) {
      const std::vector<double> want = wanted(words, gradient);
      const Stream stream;
      ScoreCase t(words);
      if (gradient) t.c.run(false, stream);
      CHECK_THAT((gradient ? t.c.backward() : t.c.forward()) == 0, message());
      const Workspace memory(t.c.workspace);
      std::atomic<bool> gate = false;  // the run must not begin before everything is gone
      CHECK_EQ(aclrtLaunchHostFunc(stream.get(), hold, &gate), ACL_SUCCESS);
      CHECK_EQ(t.c.second(gradient)(memory.data(), t.c.workspace, t.c.executor, stream.get()), 0);
      forget(t.c);
      gate = true;
      stream.wait();
      CHECK((gradient ? t.c.dk : t.c.attention).numbers() == want);
    }
}

TEST(addresses_may_come_after_phase_one) {
  const std::vector<double> want = wanted({}, false);
  const Stream stream;
  ScoreCase t(Words{});
  const auto without = [](const Array& array) { return array.make(nullptr); };
  aclTensor *q = without(t.c.query), *k = without(t.c.key), *v = without(t.c.value), *max = without(t.c.max), *sum = without(t.c.sum),
            *out = without(t.c.attention);
  uint64_t size = 0;
  aclOpExecutor* executor = nullptr;
  const auto phase_one = [&] {
    return aclnnFlashAttentionScoreGetWorkspaceSize(q, k, v, nullptr, nullptr, nullptr, nullptr, nullptr, 0.3, 1.0, 0, 0, 4, t.c.layout, 0,
                                                    0, max, sum, nullptr, out, &size, &executor);
  };
  CHECK_EQ(phase_one(), 0);
  const Workspace memory(size);
  CHECK(aclnnFlashAttentionScore(memory.data(), size, executor, stream.get()) != 0);  // not yet
  CHECK_EQ(phase_one(), 0);
  CHECK_EQ(aclSetAclOpExecutorRepeatable(executor), 0);
  CHECK_EQ(aclSetInputTensorAddr(executor, 0, q, t.c.query.data()), 0);
  CHECK_EQ(aclSetInputTensorAddr(executor, 1, k, t.c.key.data()), 0);
  CHECK_EQ(aclSetInputTensorAddr(executor, 2, v, t.c.value.data()), 0);
  CHECK_EQ(aclSetOutputTensorAddr(executor, 0, max, t.c.max.data()), 0);
  CHECK_EQ(aclSetOutputTensorAddr(executor, 1, sum, t.c.sum.data()), 0);
  CHECK_EQ(aclSetOutputTensorAddr(executor, 3, out, t.c.attention.data()), 0);
  CHECK_EQ(aclnnFlashAttentionScore(memory.data(), size, executor, stream.get()), 0);
  stream.wait();
  CHECK(t.c.attention.numbers() == want);

  // Again, with other values at another address.
  Array other(ACL_FLOAT, t.c.value.shape());
  for (int64_t i = 0; i < other.size(); ++i) other.set(i, 2 * t.c.value.get(i));
  CHECK_EQ(aclSetInputTensorAddr(executor, 2, v, other.data()), 0);
  CHECK_EQ(aclnnFlashAttentionScore(memory.data(), size, executor, stream.get()), 0);
  stream.wait();
  for (int64_t i = 0; i < t.c.attention.size(); ++i) CHECK_EQ(t.c.attention.get(i), 2 * want[static_cast<std::size_t>(i)]);
  CHECK_EQ(aclDestroyAclOpExecutor(executor), 0);
  for (aclTensor* tensor : {q, k, v, max, sum, out}) CHECK_EQ(aclDestroyTensor(tensor), 0);
}

TEST(null_stream) {
  const std::vector<double> want = wanted(kWords, false);
  ScoreCase t(kWords);
  CHECK_EQ(t.c.forward(), 0);
  const Workspace memory(t.c.workspace);
  CHECK_EQ(t.c.second(false)(memory.data(), t.c.workspace, t.c.executor, nullptr), 0);
  CHECK_EQ(aclrtSynchronizeStream(nullptr), ACL_SUCCESS);
  CHECK(t.c.attention.numbers() == want);
}

// Several threads, each with streams of its own, forward and backward at once: the same bits as alone.
TEST(streams_and_threads) {
  const std::vector<double> forward = wanted(kWords, false), backward = wanted(kWords, true);
  std::atomic<int> right = 0;
  std::vector<std::thread> threads;
  for (int n = 0; n < 3; ++n)
    threads.emplace_back([&] {
      const Stream first, second;
      ScoreCase a(kWords), b(kWords);
      for (int round = 0; round < 4; ++round) {
        a.c.run(false, first);
        if (a.c.backward() != 0 || b.c.forward() != 0) return;
        const Workspace one(a.c.workspace), two(b.c.workspace);
        if (a.c.second(true)(one.data(), a.c.workspace, a.c.executor, first.get()) != 0) return;
        if (b.c.second(false)(two.data(), b.c.workspace, b.c.executor, second.get()) != 0) return;
        first.wait(), second.wait();
        right += a.c.attention.numbers() == forward && a.c.dk.numbers() == backward && b.c.attention.numbers() == forward;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(right.load(), 12);
}

TEST(outputs_without_elements) {
  ScoreCase t({.B = 0});
  CHECK_EQ(t.c.forward(), 0);
  CHECK_EQ(t.c.workspace, 0u);
  CHECK_EQ(aclnnFlashAttentionScore(nullptr, 0, t.c.executor, nullptr), 0);
  CHECK_EQ(t.c.backward(), 0);
  CHECK_EQ(t.c.workspace, 0u);
  CHECK_EQ(aclnnFlashAttentionScoreGrad(nullptr, 0, t.c.executor, nullptr), 0);
}

// Without columns there is nothing to attend to: zeros, in the statistics as well.
TEST(no_columns) {
  const Stream stream;
  ScoreCase t({.Skv = 0, .lie = Lie::gaps});
  t.c.run(false, stream);
  t.c.run(true, stream);
  for (const Array* array : {&t.c.attention, &t.c.max, &t.c.sum, &t.c.dq})
    for (const double value : array->numbers()) CHECK_EQ(value, 0.0);
}

TEST(largest_workspace_does_not_depend_on_lengths) {
  Words other = kTnd;
  other.q_ends = {1, 20}, other.kv_ends = {20, 30}, other.prefix = {19, 0};
  uint64_t sizes[2];
  for (int i = 0; i < 2; ++i) {
    ScoreCase t(i == 0 ? kTnd : other);
    t.c.version = 6;
    CHECK_THAT(t.c.forward() == 0, message());
    sizes[i] = t.c.workspace;
    CHECK_EQ(aclDestroyAclOpExecutor(t.c.executor), 0);
  }
  CHECK_EQ(sizes[0], sizes[1]);
}

// Too small a workspace is refused; one that no allocator aligned does as well.
TEST(workspaces) {
  const std::vector<double> want = wanted(kWords, false);
  const Stream stream;
  ScoreCase t(kWords);
  CHECK_EQ(t.c.forward(), 0);
  CHECK(t.c.workspace > 0);
  const Workspace memory(t.c.workspace + 8);
  CHECK_EQ(t.c.second(false)(memory.data(), t.c.workspace - 1, t.c.executor, stream.get()), 161002);
  CHECK_EQ(t.c.forward(), 0);
  CHECK_EQ(t.c.second(false)(static_cast<char*>(memory.data()) + 8, t.c.workspace, t.c.executor, stream.get()), 0);
  stream.wait();
  CHECK(t.c.attention.numbers() == want);
}

// The gradient takes the statistics that it is given, whatever scores they are of: P = exp(x - max) / sum, here 2/3 * exp(x).
TEST(statistics_of_other_scores) {
  const Stream stream;
  for (const aclDataType dtype : {ACL_FLOAT, ACL_FLOAT16, ACL_BF16}) {
    ScoreCase t({.dtype = dtype, .B = 1, .N1 = 1, .N2 = 1, .Sq = 4, .Skv = 3, .D = 8, .Dv = 8});
    t.c.query.fill_with(1.0), t.c.key.fill_with(1.0), t.c.value.fill_with(1.0), t.c.dy.fill_with(1.0), t.c.attention.fill_with(1.0);
    t.c.max.fill_with(0.0), t.c.sum.fill_with(1.5);
    t.c.run(true, stream);
    const double want = 4 * std::exp(8 * static_cast<double>(0.3f)) / 1.5;
    for (const double value : t.c.dv.numbers())
      CHECK_NEAR(value, want, want * (dtype == ACL_FLOAT ? 1e-6 : dtype == ACL_FLOAT16 ? 1e-3 : 8e-3));
  }
}

TEST(operators_that_are_not_computed_say_so) {
  uint64_t size = 4711;
  aclOpExecutor* executor = nullptr;
  CHECK_EQ(aclnnNsaSelectedAttentionGetWorkspaceSize(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, 1.0, 1, nullptr, 0, 64,
                                                     16, nullptr, nullptr, nullptr, &size, &executor),
           207000);
  CHECK(message().find("aclnnNsaSelectedAttentionGetWorkspaceSize is not computed") != std::string::npos);
  CHECK_EQ(size, 4711u);
  CHECK_EQ(aclnnNsaSelectedAttention(nullptr, 0, nullptr, nullptr), 207000);
}

TEST_MAIN()
