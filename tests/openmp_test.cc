// openmp_test.cc: with an OpenMP runtime in the process its team is borrowed, and calls inside its regions are safe.
#include <omp.h>

#include "calls.h"
#include "tensors.h"

using namespace fusedattn::tests;

namespace {

const Case kCase{.name = "causal",
                 .batch = 2,
                 .q_heads = 4,
                 .kv_heads = 2,
                 .q_len = 150,
                 .kv_len = 170,
                 .dim = 24,
                 .dim_v = 24,
                 .bottom_right = kCausal};

std::vector<std::byte> computed(int32_t threads) {
  const Tensors t(kCase, FUSEDATTN_FLOAT32);
  const fusedattn_problem problem = t.problem();
  const fusedattn_options options = options_for(nullptr, threads);
  if (fusedattn_forward(&problem, &options) != FUSEDATTN_OK || fusedattn_backward(&problem, &options) != FUSEDATTN_OK) {
    return {};
  }
  std::vector<std::byte> result = t.out.bytes();
  for (const Tensor* tensor : {&t.dq, &t.dk, &t.dv}) {
    const std::vector<std::byte> bytes = tensor->bytes();
    result.insert(result.end(), bytes.begin(), bytes.end());
  }
  return result;
}

}  // namespace

TEST(the_team_is_borrowed) {
  omp_set_num_threads(3);
  CHECK_EQ(std::string(fusedattn_thread_owner()), "openmp");
  CHECK_EQ(fusedattn_thread_count(), 3);
}

TEST(borrowed_threads_give_the_same_bytes) {
  const std::vector<std::byte> expected = computed(1);
  CHECK(!expected.empty());
  for (const int32_t threads : {0, 2, 3, 7}) CHECK(computed(threads) == expected);
}

TEST(calls_inside_a_region) {
  const std::vector<std::byte> expected = computed(1);
  int same = 0, members = 0;
#pragma omp parallel num_threads(3) reduction(+ : same, members)
  {
    ++members;
    for (const int32_t threads : {0, 1, 2}) same += computed(threads) == expected;
  }
  CHECK_EQ(same, 3 * members);
}

TEST_MAIN()
