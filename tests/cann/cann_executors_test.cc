// Executors, from inside: with calls that are not operators.
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "acl_check.h"
#include "meta/executor.h"

using namespace fusedattn::cann;

namespace {

// Adds the inputs up into every output, element by element.
class Add : public Call {
 public:
  Add(std::uint64_t workspace, std::int64_t elements) : workspace_(workspace), elements_(elements) {}
  std::uint64_t workspace_bytes() const override { return workspace_; }
  Outcome run(void* workspace, const Addresses& at) override {
    if (elements_ < 0) return {ACLNN_ERR_INNER, "elements is " + std::to_string(elements_)};
    CHECK((workspace != nullptr) == (workspace_ > 0));
    for (std::int64_t i = 0; i < elements_; ++i) {
      float sum = 0;
      for (const auto& members : at.inputs) {
        for (void* member : members) sum += static_cast<float*>(member)[i];
      }
      for (std::size_t o = 0; o < at.outputs.size(); ++o) {
        if (at.output(o) != nullptr) static_cast<float*>(at.output(o))[i] = sum;
      }
    }
    return {};
  }

 private:
  std::uint64_t workspace_;
  std::int64_t elements_;
};

const int device = aclrtSetDevice(0);  // of this thread, for all tests
constexpr std::int64_t kElements = 8;

aclTensor* tensor(void* data, std::int64_t elements = kElements) {
  return aclCreateTensor(&elements, 1, ACL_FLOAT, nullptr, 0, ACL_FORMAT_ND, &elements, 1, data);
}

void* memory(float value, std::int64_t elements = kElements) {
  void* address;
  FINE(aclrtMalloc(&address, elements * sizeof(float), ACL_MEM_MALLOC_HUGE_FIRST));
  std::fill_n(static_cast<float*>(address), elements, value);
  return address;
}

float first(void* address) { return *static_cast<float*>(address); }

// The parameters of Add: a, absent, list; out, absentOut.
struct Asked {
  void *a = memory(1), *b = memory(2), *c = memory(4), *out = memory(0);
  aclTensor *of_a = tensor(a), *of_out = tensor(out);
  aclTensorList* list = nullptr;
  std::uint64_t size = 77;
  aclOpExecutor* executor = nullptr;

  Asked() {
    const aclTensor* members[] = {tensor(b), tensor(c)};
    list = aclCreateTensorList(members, 2);
  }
  ~Asked() {
    aclDestroyTensor(of_a);
    aclDestroyTensor(of_out);
    aclDestroyTensorList(list);
    for (void* each : {a, b, c, out}) FINE(aclrtFree(each));
  }

  int plan(std::uint64_t workspace = 0, std::int64_t elements = kElements) {
    Operands operands;
    operands.inputs.emplace_back("a", tensor_of(of_a));
    operands.inputs.emplace_back("absent", tensor_of(nullptr));
    operands.inputs.emplace_back("list", *tensors_of(list));
    operands.outputs.emplace_back("out", tensor_of(of_out));
    operands.outputs.emplace_back("absentOut", tensor_of(nullptr));
    return finish_phase_one("aclnnAdd", std::make_unique<Add>(workspace, elements), std::move(operands), &size, &executor);
  }
  int run(void* workspace = nullptr, std::uint64_t bytes = 0, aclrtStream stream = nullptr) {
    return phase_two("aclnnAdd", workspace, bytes, executor, stream);
  }
};

#define SAYS(call, code, words)                                                       \
  do {                                                                                \
    message();                                                                        \
    CHECK_EQ(call, code);                                                             \
    const std::string sentence = message();                                           \
    CHECK_THAT(sentence.find(words) != std::string::npos, #call " said: " + sentence); \
  } while (false)

}  // namespace

TEST(an_executor_is_used_up_by_its_second_phase) {
  CHECK_EQ(device, 0);
  Asked asked;
  FINE(asked.plan());
  CHECK_EQ(asked.size, 0u);
  FINE(asked.run());
  SAYS(asked.run(), 561103, "used up");
  FINE(aclrtSynchronizeStream(nullptr));
  CHECK_EQ(first(asked.out), 7.0f);
  SAYS(aclDestroyAclOpExecutor(asked.executor), 561103, "executor");
  SAYS(aclSetAclOpExecutorRepeatable(asked.executor), 561103, "executor");
  SAYS(phase_two("aclnnAdd", nullptr, 0, nullptr, nullptr), 161001, "executor is null");
  SAYS(phase_two("aclnnAdd", nullptr, 0, static_cast<aclOpExecutor*>(wild()), nullptr), 561103, "not an aclOpExecutor");
}

TEST(everything_is_copied_in_the_first_phase) {
  Asked asked;
  FINE(asked.plan());
  FINE(aclDestroyTensor(asked.of_a));
  FINE(aclDestroyTensorList(asked.list));
  FINE(aclSetRawTensorAddr(asked.of_out, nullptr));
  FINE(asked.run());
  FINE(aclrtSynchronizeStream(nullptr));
  CHECK_EQ(first(asked.out), 7.0f);
}

TEST(the_workspace_is_checked_when_it_is_given) {
  Asked asked;
  void* scratch = memory(0, 32);
  FINE(asked.plan(128));
  CHECK_EQ(asked.size, 128u);
  SAYS(asked.run(), 161001, "workspace is null; 128 bytes are needed");
  FINE(asked.plan(128));
  SAYS(asked.run(scratch, 127), 161002, "workspaceSize is 127");
  FINE(asked.plan(1 << 20));
  SAYS(asked.run(scratch, 1 << 20), 161002, "workspace has ");
  FINE(asked.plan(128));
  FINE(asked.run(scratch, 4096));
  FINE(aclrtFree(scratch));  // in flight, perhaps
  FINE(aclrtSynchronizeStream(nullptr));
}

TEST(addresses_are_checked_when_work_begins) {
  Asked asked;
  FINE(aclSetRawTensorAddr(asked.of_a, nullptr));
  FINE(asked.plan());
  SAYS(asked.run(), 161001, "a has no address, but 8 elements");
  aclDestroyTensor(asked.of_a);
  asked.of_a = tensor(asked.a, 1000);
  FINE(asked.plan());
  SAYS(asked.run(), 161002, "a with shape [1000] of ACL_FLOAT takes 4000 bytes");
}

TEST(a_repeatable_executor_takes_new_addresses) {
  Asked asked;
  void *other = memory(10), *elsewhere = memory(0);
  FINE(asked.plan());
  FINE(aclSetAclOpExecutorRepeatable(asked.executor));
  for (int i = 0; i < 3; ++i) FINE(asked.run());
  FINE(aclSetInputTensorAddr(asked.executor, 0, asked.of_a, other));
  FINE(aclSetOutputTensorAddr(asked.executor, 0, asked.of_out, elsewhere));
  FINE(asked.run());
  FINE(aclrtSynchronizeStream(nullptr));
  CHECK_EQ(first(asked.out), 7.0f);
  CHECK_EQ(first(elsewhere), 16.0f);
  FINE(AclSetTensorAddr(asked.executor, 3, asked.of_out, asked.out));
  FINE(aclSetDynamicInputTensorAddr(asked.executor, 2, 1, asked.list, other));
  FINE(AclSetDynamicTensorAddr(asked.executor, 2, 0, asked.list, other));
  FINE(asked.run());
  FINE(aclrtSynchronizeStream(nullptr));
  CHECK_EQ(first(asked.out), 30.0f);
  SAYS(aclSetTensorAddr(asked.executor, 5, asked.of_a, other), 161002, "index is 5; aclnnAdd has 5 such");
  SAYS(aclSetInputTensorAddr(asked.executor, 3, asked.of_a, other), 161002, "index is 3");
  SAYS(aclSetInputTensorAddr(asked.executor, 1, asked.of_a, other), 161002, "absent, which was null");
  SAYS(aclSetOutputTensorAddr(asked.executor, 1, asked.of_a, other), 161002, "absentOut, which was null");
  SAYS(aclSetInputTensorAddr(asked.executor, 2, asked.of_a, other), 161002, "list, a list");
  SAYS(aclSetDynamicInputTensorAddr(asked.executor, 0, 0, asked.list, other), 161002, "which is no list");
  SAYS(aclSetDynamicInputTensorAddr(asked.executor, 2, 2, asked.list, other), 161002, "relativeIndex is 2");
  SAYS(aclSetDynamicOutputTensorAddr(asked.executor, 2, 0, asked.list, other), 161002, "irIndex is 2");
  SAYS(aclSetTensorAddr(asked.executor, 0, nullptr, other), 561103, "tensor is null");
  SAYS(aclSetDynamicTensorAddr(asked.executor, 2, 0, nullptr, other), 561103, "tensors is null");
  SAYS(aclSetTensorAddr(nullptr, 0, asked.of_a, other), 561103, "executor is null");
  FINE(aclDestroyAclOpExecutor(asked.executor));
  SAYS(asked.run(), 561103, "executor");
  SAYS(aclSetTensorAddr(asked.executor, 0, asked.of_a, other), 561103, "executor");
  FINE(aclrtFree(other));
  FINE(aclrtFree(elsewhere));
}

TEST(failures_come_with_the_next_synchronisation) {
  Asked asked;
  FINE(asked.plan(0, -1));
  FINE(asked.run());
  SAYS(aclrtSynchronizeStream(nullptr), 561000, "aclnnAdd");
  FINE(aclrtSynchronizeStream(nullptr));
}

TEST(a_failing_second_phase_leaves_a_repeatable_executor) {
  Asked asked;
  FINE(asked.plan(64));
  FINE(aclSetAclOpExecutorRepeatable(asked.executor));
  SAYS(asked.run(), 161001, "workspace is null");
  void* scratch = memory(0, 32);
  FINE(asked.run(scratch, 64));
  FINE(aclrtSynchronizeStream(nullptr));
  FINE(aclDestroyAclOpExecutor(asked.executor));
  FINE(aclrtFree(scratch));
}

TEST(a_second_phase_needs_a_stream_or_a_context) {
  Asked asked;
  FINE(asked.plan());
  std::thread([&] { SAYS(asked.run(), 361001, "no context"); }).join();
  FINE(asked.plan());
  SAYS(asked.run(nullptr, 0, wild()), 107017, "stream is");
  FINE(asked.plan());
  SAYS(phase_two("aclnnSubtract", nullptr, 0, asked.executor, nullptr), 161002, "executor was made for aclnnAdd");
  aclrtStream stream;
  FINE(aclrtCreateStream(&stream));
  FINE(asked.plan());
  std::thread([&] { FINE(asked.run(nullptr, 0, stream)); }).join();
  FINE(aclrtDestroyStream(stream));
  CHECK_EQ(first(asked.out), 7.0f);
}

TEST(null_results_of_the_first_phase) {
  Asked asked;
  aclOpExecutor* untouched = asked.executor;
  SAYS(finish_phase_one("aclnnAdd", std::make_unique<Add>(0, 0), {}, nullptr, &asked.executor), 161001, "workspaceSize is null");
  SAYS(finish_phase_one("aclnnAdd", std::make_unique<Add>(0, 0), {}, &asked.size, nullptr), 161001, "executor is null");
  CHECK(asked.executor == untouched && asked.size == 77);
}

TEST(executors_that_never_run) {
  for (int i = 0; i < 100; ++i) {
    Asked asked;
    FINE(asked.plan());
    if (i % 2 == 0) FINE(aclDestroyAclOpExecutor(asked.executor));
  }
}

TEST(one_executor_in_two_streams_runs_one_after_another) {
  Asked asked;
  FINE(asked.plan());
  FINE(aclSetAclOpExecutorRepeatable(asked.executor));
  aclrtStream streams[2];
  for (aclrtStream& stream : streams) FINE(aclrtCreateStream(&stream));
  for (int i = 0; i < 20; ++i) FINE(asked.run(nullptr, 0, streams[i % 2]));
  FINE(aclDestroyAclOpExecutor(asked.executor));  // its work goes on
  for (aclrtStream stream : streams) FINE(aclrtDestroyStream(stream));
  CHECK_EQ(first(asked.out), 7.0f);
}

TEST(the_reach_of_views) {
  Tensor view;
  view.dtype = ACL_FLOAT16;
  view.shape = {3, 4}, view.strides = {10, 2}, view.offset = 5;
  CHECK_EQ(*view.extent_bytes(), 2 * (5 + 20 + 6 + 1));
  view.strides = {-10, 2};
  CHECK(!view.extent_bytes());  // begins before its block
  view.offset = 20;
  CHECK_EQ(*view.extent_bytes(), 2 * (20 + 6 + 1));
  view.strides = {INT64_MAX, INT64_MAX};
  CHECK(!view.extent_bytes());
  view.shape = {0, INT64_MAX};
  CHECK_EQ(*view.extent_bytes(), 0);
  view.shape = {INT64_MAX, 2};
  CHECK_EQ(view.elements(), INT64_MAX);
  view.dtype = ACL_UINT1, view.shape = {17}, view.strides = {1}, view.offset = 0;
  CHECK_EQ(*view.extent_bytes(), 3);
}

TEST(attribute_texts_are_bounded) {
  std::vector<char> endless(64, 'x');
  CHECK(!attribute_text(endless.data()));
  CHECK_EQ(*attribute_text("BNSD\0behind"), "BNSD");
}

TEST_MAIN()
