// score_terms_api_test.cc: the edges of the C API around the score terms. Refusals in sentences, plans, empty problems.
#include <functional>

#include "everywhere.h"

using namespace fusedattn::tests;

namespace {

// A change that makes a good call bad, and two words that the sentence must hold: the argument and its value.
struct Refusal {
  std::function<void(fusedattn_problem&)> change;
  const char* argument;
  const char* value;
};

const Case kPadded = all_terms_padded(), kPacked = all_terms_packed();
const int64_t kNegative[] = {3, -1, 0, 0, 0, 0}, kPrefix[] = {1, 2};
const fusedattn_band kLeft[] = {kNoBand, {7, 9}};

template <class T>
void misalign(T*& address) {
  address = reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(address) + 1);
}

// Of both directions, padded.
const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> all{
      {[](auto& p) { p.bias.dtype = 9; }, "bias.dtype", "9"},
      {[](auto& p) { p.bias.dtype = -1; }, "bias.dtype", "-1"},
      {[](auto& p) { misalign(p.bias.data); }, "bias.data", "align"},
      {[](auto& p) { misalign(p.alibi.slopes); }, "alibi.slopes", "align"},
      {[](auto& p) { misalign(p.sink); }, "sink", "align"},
      {[](auto& p) { p.dropout.keep_prob = 0; }, "dropout.keep_prob", "0"},
      {[](auto& p) { p.dropout.keep_prob = -0.5; }, "dropout.keep_prob", "-0.5"},
      {[](auto& p) { p.dropout.keep_prob = 1.5; }, "dropout.keep_prob", "1.5"},
      {[](auto& p) { p.dropout.keep_prob = NAN; }, "dropout.keep_prob", "nan"},
      {[](auto& p) { p.dropout.keep_prob = 1e-60; }, "dropout.keep_prob", "1e-60"},
      {[](auto& p) { p.mask.prefix = kNegative; }, "mask.prefix[1]", "-1"},
      {[](auto& p) { p.mask.prefix = kPrefix, p.mask.top_left.left = 3; }, "mask.prefix[0]", "unbounded to the left"},
      {[](auto& p) { p.mask.prefix = kPrefix, p.mask.bottom_right.left = 3; }, "mask.prefix[0]", "unbounded to the left"},
      {[](auto& p) { p.mask.prefix = kPrefix, p.mask.bands = kLeft; }, "mask.prefix[1]", "unbounded to the left"},
      {[](auto& p) { p.mask.whole = 1; }, "mask.whole", "packed"},
      {[](auto& p) { p.stats.blocks = 1; }, "stats.blocks", "packed"},
      {[](auto& p) { p.bias.blocks = 1; }, "bias.blocks", "packed"},
      {[](auto& p) { p.mask.whole = 2; }, "mask.whole is 2", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.mask.whole = -1; }, "mask.whole is -1", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.bias.blocks = 2; }, "bias.blocks is 2", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.stats.blocks = -1; }, "stats.blocks is -1", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.bias.before_scale = 3; }, "bias.before_scale is 3", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.alibi.square_root = 2; }, "alibi.square_root is 2", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.alibi.bottom_right = 2; }, "alibi.bottom_right is 2", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.alibi.first_sequence = 2; }, "alibi.first_sequence is 2", "accepted: 0 (no), 1 (yes)"},
      {[](auto& p) { p.bias.before_scale = 1; }, "bias.before_scale", "1 with a softcap"},
      {[](auto& p) { p.softcap = -3; }, "softcap", "-3"},
      {[](auto& p) { p.softcap = NAN; }, "softcap", "nan"},
      {[](auto& p) { p.softcap = INFINITY; }, "softcap", "inf"},
      {[](auto& p) { p.softcap = 1e-19; }, "softcap", "1e-19"},
      {[](auto& p) { p.scale = -1e19; }, "scale", "-1e+19 with a softcap"},
      {[](auto& p) { p.stats.lanes = -1; }, "stats.lanes", "-1"},
      {[](auto& p) { p.stats.lanes = 65; }, "stats.lanes", "65"},
      {[](auto& p) { misalign(p.stats.max); }, "stats.max", "align"},
  };
  return all;
}

const std::vector<Refusal>& forward_refusals() {
  static const std::vector<Refusal> all{
      {[](auto& p) { p.stats.row_stride = 7; }, "stats.row_stride", "7"},
      {[](auto& p) { p.stats.sum = p.stats.max; }, "stats.sum", "stats.max"},
  };
  return all;
}

const std::vector<Refusal>& backward_refusals() {
  static const std::vector<Refusal> all{
      {[](auto& p) { p.sink = nullptr; }, "sink", "NULL"},
      {[](auto& p) { misalign(p.d_sink); }, "d_sink", "align"},
      {[](auto& p) { p.bias.data = nullptr; }, "bias.data", "NULL"},
      {[](auto& p) { misalign(p.d_bias.data); }, "d_bias.data", "align"},
      {[](auto& p) { p.bias.row_stride = -1; }, "d_bias.data", "NULL"},
      {[](auto& p) { p.d_bias.row_stride = 5; }, "d_bias.row_stride", "5"},
      {[](auto& p) { p.d_bias.batch_stride = 9; }, "d_bias.batch_stride", "9"},
  };
  return all;
}

void check_sentence(fusedattn_status status, const Refusal& refusal) {
  CHECK_EQ(status, FUSEDATTN_INVALID_ARGUMENT);
  const std::string text = fusedattn_last_error();
  for (const char* word : {refusal.argument, refusal.value})
    if (text.find(word) == std::string::npos) check::complain(__FILE__, __LINE__, word + (" is not in: '" + text + "'"));
}

// Refused by the one call and by the plan alike, and nothing is written.
void check_refusals(const std::vector<Refusal>& list, int32_t direction) {
  for (const Refusal& refusal : list) {
    const Tensors t(kPadded, FUSEDATTN_FLOAT32), untouched(kPadded, FUSEDATTN_FLOAT32);
    fusedattn_problem problem = t.problem();
    refusal.change(problem);
    check_sentence((direction == FUSEDATTN_FORWARD ? fusedattn_forward : fusedattn_backward)(&problem, nullptr), refusal);
    fusedattn_plan* plan = nullptr;
    check_sentence(fusedattn_plan_create(&problem, direction, nullptr, &plan), refusal);
    CHECK(plan == nullptr);
    check_same_results(t, untouched);
  }
}

struct Plan {
  fusedattn_plan* plan = nullptr;
  Plan(const fusedattn_problem& problem, int32_t direction) {
    succeeds(fusedattn_plan_create(&problem, direction, nullptr, &plan));
  }
  ~Plan() { fusedattn_plan_destroy(plan); }
  Plan(const Plan&) = delete;
  bool run(const fusedattn_problem* problem) const { return succeeds(fusedattn_plan_run(plan, problem, nullptr, 0)); }
};

}  // namespace

TEST(refusals_of_both_directions) {
  check_refusals(refusals(), FUSEDATTN_FORWARD);
  check_refusals(refusals(), FUSEDATTN_BACKWARD);
}

TEST(refusals_of_the_forward) { check_refusals(forward_refusals(), FUSEDATTN_FORWARD); }
TEST(refusals_of_the_backward) { check_refusals(backward_refusals(), FUSEDATTN_BACKWARD); }

// What only the backward needs does not disturb the forward.
TEST(the_forward_does_not_read_gradients) {
  for (const Refusal& refusal : backward_refusals()) {
    const Tensors t(kPadded, FUSEDATTN_FLOAT32);
    fusedattn_problem problem = t.problem();
    const fusedattn_bias bias = problem.bias;
    refusal.change(problem);
    problem.bias = bias;
    succeeds(fusedattn_forward(&problem, nullptr));
  }
}

TEST(a_gradient_of_a_bias_in_blocks_is_refused) {
  const Tensors t(kPacked, FUSEDATTN_FLOAT32), gradient(kPadded, FUSEDATTN_FLOAT32);
  fusedattn_problem problem = t.problem();
  problem.d_bias = gradient.terms.d_bias.view();
  check_sentence(fusedattn_backward(&problem, nullptr), {nullptr, "d_bias.data", "blocks"});
}

TEST(gradients_need_memory_of_their_own) {
  for (const auto& [change, name] : std::vector<std::pair<std::function<void(fusedattn_problem&)>, const char*>>{
           {[](auto& p) { p.d_bias.data = const_cast<void*>(p.bias.data); }, "d_bias.data"},
           {[](auto& p) { p.d_bias.data = p.dq.data; }, "d_bias.data"},
           {[](auto& p) { p.d_sink = const_cast<float*>(p.sink); }, "d_sink"}}) {
    const Tensors t(kPadded, FUSEDATTN_FLOAT32);
    fusedattn_problem problem = t.problem();
    change(problem);
    check_sentence(fusedattn_backward(&problem, nullptr), {nullptr, name, "memory of its own"});
  }
}

// Distances are sums of starts and positions, offsets are products of strides: neither may leave 64 bits.
TEST(what_would_overflow_is_refused) {
  for (const auto& [change, name] : std::vector<std::pair<std::function<void(fusedattn_problem&)>, const char*>>{
           {[](auto& p) { p.alibi.q_start = INT64_MIN; }, "alibi.q_start"},
           {[](auto& p) { p.alibi.kv_start = INT64_MAX; }, "alibi.kv_start"},
           {[](auto& p) { p.bias.row_stride = INT64_MAX; }, "bias"},
           {[](auto& p) { p.mask.row_stride = INT64_MAX; }, "mask"},
           {[](auto& p) { p.stats.head_stride = INT64_MAX; }, "stats"},
           {[](auto& p) { p.alibi.batch_stride = INT64_MAX; }, "alibi"}}) {
    const Tensors t(kPadded, FUSEDATTN_FLOAT32);
    fusedattn_problem problem = t.problem();
    change(problem);
    if (fusedattn_plan* plan = nullptr; fusedattn_plan_create(&problem, FUSEDATTN_FORWARD, nullptr, &plan) == FUSEDATTN_OK) {
      check::complain(__FILE__, __LINE__, std::string(name) + " is not refused");
      fusedattn_plan_destroy(plan);
    }
    CHECK(std::string(fusedattn_last_error()).find(name) != std::string::npos);
  }
}

TEST(a_plan_runs_with_another_stream) {
  for (const int32_t direction : {FUSEDATTN_FORWARD, FUSEDATTN_BACKWARD}) {
    Case c = kPadded;
    const Tensors planned(c, FUSEDATTN_FLOAT32);
    c.terms.dropout.seed = 1234, c.terms.dropout.offset = 99;
    const Tensors fresh(c, FUSEDATTN_FLOAT32), there(c, FUSEDATTN_FLOAT32);
    const fusedattn_problem problem = there.problem(), other = fresh.problem();
    const Plan plan(planned.problem(), direction);
    CHECK(succeeds(fusedattn_forward(&other, nullptr)) && succeeds(fusedattn_forward(&problem, nullptr)));
    if (direction == FUSEDATTN_BACKWARD) CHECK(succeeds(fusedattn_backward(&other, nullptr)));
    CHECK(plan.run(&problem));
    check_same_results(there, fresh);
    CHECK(plan.run(&problem));  // and again
    check_same_results(there, fresh);
  }
}

TEST(a_plan_runs_at_other_addresses) {
  for (const Case& c : {kPadded, kPacked}) {
    const Tensors planned(c, FUSEDATTN_FLOAT16), other(c, FUSEDATTN_FLOAT16);
    const fusedattn_problem there = other.problem();
    for (const int32_t direction : {FUSEDATTN_FORWARD, FUSEDATTN_BACKWARD}) {
      const Plan plan(planned.problem(), direction);
      CHECK(plan.run(nullptr));
      CHECK(plan.run(&there));
    }
    check_same_results(other, planned);
  }
}

TEST(a_plan_refuses_other_terms) {
  static const int64_t kOther[] = {31, 4};
  static const fusedattn_band kBands[] = {kNoBand, kCausal};
  const Tensors t(kPadded, FUSEDATTN_FLOAT32);
  const Plan plan(t.problem(), FUSEDATTN_BACKWARD);
  const std::vector<std::pair<std::function<void(fusedattn_problem&)>, const char*>> changes{
      {[](auto& p) { p.mask.prefix = kOther; }, "mask"},
      {[](auto& p) { p.mask.prefix = nullptr; }, "mask"},
      {[](auto& p) { p.mask.bands = kBands; }, "mask"},
      {[](auto& p) { p.mask.bytes = nullptr; }, "mask"},
      {[](auto& p) { p.bias.data = nullptr, p.d_bias.data = nullptr; }, "bias"},
      {[](auto& p) { p.bias.dtype = FUSEDATTN_FLOAT16; }, "bias"},
      {[](auto& p) { p.bias.before_scale = 1; }, "bias"},
      {[](auto& p) { p.softcap = 4.0; }, "softcap"},
      {[](auto& p) { p.bias.batch_stride = 0; }, "bias"},
      {[](auto& p) { p.alibi.slopes = nullptr; }, "alibi"},
      {[](auto& p) { p.alibi.kv_start = 10; }, "alibi"},
      {[](auto& p) { p.alibi.square_root = 1; }, "alibi"},
      {[](auto& p) { p.dropout.keep_prob = 0.5; }, "dropout"},
      {[](auto& p) { p.dropout.bits = static_cast<const uint8_t*>(p.q.data); }, "dropout"},
      {[](auto& p) { p.sink = nullptr, p.d_sink = nullptr; }, "sink"},
      {[](auto& p) { p.d_sink = nullptr; }, "d_sink"},
      {[](auto& p) { p.d_bias.data = nullptr; }, "d_bias"},
      {[](auto& p) { p.stats.lanes = 4; }, "stats"}};
  for (const auto& [change, name] : changes) {
    fusedattn_problem problem = t.problem();
    change(problem);
    CHECK_EQ(fusedattn_plan_run(plan.plan, &problem, nullptr, 0), FUSEDATTN_INVALID_ARGUMENT);
    if (std::string(fusedattn_last_error()).find(name) == std::string::npos)
      check::complain(__FILE__, __LINE__, std::string(name) + " is not in: '" + fusedattn_last_error() + "'");
  }
}

// Ends, bands and prefix are copied.
TEST(a_plan_outlives_its_arrays) {
  for (const Case& c : {kPadded, kPacked}) {
    const Tensors expected(c, FUSEDATTN_FLOAT32), t(c, FUSEDATTN_FLOAT32);
    fusedattn_problem problem = t.problem();
    std::vector<int64_t> q_ends = c.q_ends, kv_ends = c.kv_ends, prefix = c.prefix;
    std::vector<fusedattn_band> bands = c.bands;
    if (packed(c)) problem.q_ends = q_ends.data(), problem.kv_ends = kv_ends.data();
    if (!prefix.empty()) problem.mask.prefix = prefix.data();
    if (!bands.empty()) problem.mask.bands = bands.data();
    const Plan forward(problem, FUSEDATTN_FORWARD), backward(problem, FUSEDATTN_BACKWARD);
    for (std::vector<int64_t>* numbers : {&q_ends, &kv_ends, &prefix}) std::fill(numbers->begin(), numbers->end(), 0);
    std::fill(bands.begin(), bands.end(), fusedattn_band{-9, 8});
    CHECK(forward.run(nullptr) && backward.run(nullptr));
    CHECK(run_both(expected.problem(), options_for(nullptr)));
    check_same_results(t, expected);
  }
}

// A bias, slopes and a sink of problems without sequences, rows or columns are not read; their gradients are zero.
TEST(empty_problems) {
  for (const int axis : {0, 1, 2}) {
    Case c = kPadded;
    c.top_left = kNoBand, c.prefix.clear(), c.bytes.present = false, c.terms.bias.per_sequence = false;
    const Tensors full(c, FUSEDATTN_FLOAT32);
    fusedattn_problem problem = full.problem();
    (axis == 0 ? problem.batch : axis == 1 ? problem.q_len : problem.kv_len) = 0;
    CHECK(run_both(problem, options_for(nullptr)));
    for (int64_t n = 0; n < c.q_heads; ++n) CHECK_EQ(TermTensors::floats(full.terms.d_sink)[n], 0.0f);
    const Tensor& d_bias = full.terms.d_bias;
    if (axis == 0) d_bias.each([&](auto b, auto n, auto i, auto j) { CHECK_EQ(d_bias.get(b, n, i, j), 0.0); });
  }
}

TEST_MAIN()
