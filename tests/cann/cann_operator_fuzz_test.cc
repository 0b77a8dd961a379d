// cann_operator_fuzz_test.cc: random calls of attention, valid and nearly valid: a known status, a sentence with it, and what is accepted
// runs. The first argument is the number of calls, the second the seed.
#include <random>
#include <set>

#include "score_golden.h"

using namespace fusedattn::tests;

namespace {

struct Dice {
  std::mt19937_64 engine;
  int64_t below(int64_t n) { return static_cast<int64_t>(engine() % static_cast<uint64_t>(n)); }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int64_t>(values.size()))];
  }
  bool rarely() { return below(12) == 0; }
};

constexpr int64_t kOdd[] = {0, 1, -1, 2, 3, 7, 8, 9, 1024, 2147483647, -2147483648, INT64_MAX, INT64_MIN};

Words any_words(Dice& dice) {
  Words w;
  w.layout = dice.one_of<std::string>({"BNSD", "BSND", "BSH", "SBH", "TND"});
  w.version = 1 + static_cast<int>(dice.below(w.packed() ? 6 : 4));
  w.dtype = dice.one_of({ACL_FLOAT, ACL_FLOAT16, ACL_BF16});
  w.N2 = 1 + dice.below(2), w.N1 = w.N2 * (1 + dice.below(3));
  w.B = dice.below(4), w.Sq = dice.below(12), w.Skv = dice.below(14), w.D = 8 * (1 + dice.below(3)), w.Dv = 1 + dice.below(w.D);
  if (w.packed()) {
    int64_t q = 0, kv = 0;
    for (int64_t b = 1 + dice.below(3); b > 0; --b) w.q_ends.push_back(q += dice.below(7)), w.kv_ends.push_back(kv += dice.below(9));
    w.T1 = q + dice.below(3), w.T2 = kv + dice.below(3);
    if (w.T1 == 0) w.T1 = 1;
    if (w.T2 == 0) w.T2 = 1;
  }
  w.mode = dice.below(10) - 1;
  w.pre = dice.rarely() ? kOdd[dice.below(13)] : dice.below(20), w.next = dice.rarely() ? kOdd[dice.below(13)] : dice.below(20);
  if (w.mode == 6) w.prefix.assign(static_cast<std::size_t>(batches(w)), std::max<int64_t>(w.Skv - w.Sq, 0));
  if (w.mode == 5 && w.packed()) w.mode = 1;
  if (!w.packed() && dice.below(3) == 0) w.pse = dice.one_of({Pse::full, Pse::shared, Pse::one_row});
  if (dice.below(4) == 0) w.keep = 0.5;
  w.sink = dice.below(4) == 0;
  w.lie = dice.one_of({Lie::contiguous, Lie::contiguous, Lie::gaps, Lie::every_second, Lie::reversed_axes});
  return w;
}

// One thing is not what it was.
void spoil(Dice& dice, ScoreCall& c) {
  Array* const arrays[] = {&c.query,     &c.key, &c.value, &c.atten_mask, &c.pse, &c.drop_mask, &c.sink,
                           &c.attention, &c.max, &c.sum,   &c.dy,         &c.dq,  &c.dk,        &c.dv};
  Array& array = *arrays[dice.below(14)];
  int64_t* const numbers[] = {&c.pre, &c.next, &c.heads, &c.inner_precise, &c.mode, &c.pse_type, &c.out_dtype};
  switch (dice.below(8)) {
    case 0:
      array = {};
      break;
    case 1:
      if (array.handle() != nullptr) array.kill();
      break;
    case 2: {
      Shape shape;
      for (int64_t axis = dice.below(6); axis > 0; --axis) shape.push_back(dice.below(6));
      array =
          Array(dice.one_of({ACL_FLOAT, ACL_FLOAT16, ACL_BOOL, ACL_INT64, ACL_UINT8}), shape, dice.one_of({Lie::contiguous, Lie::gaps}));
      break;
    }
    case 3:
      *numbers[dice.below(7)] = kOdd[dice.below(13)];
      break;
    case 4:
      c.scale = dice.one_of({0.0, -1.0, 1e300, double(NAN), double(INFINITY)});
      break;
    case 5:
      c.keep = dice.one_of({0.0, -1.0, 1.5, 1e-30, double(NAN)});
      break;
    case 6:
      std::strcpy(c.layout, dice.one_of({"", "tnd", "BNSD", "TND", "BSNDBSN"}));
      break;
    default: {
      std::vector<int64_t> list;
      for (int64_t n = dice.below(4); n > 0; --n) list.push_back(kOdd[dice.below(13)]);
      Ints* const lists[] = {&c.prefix, &c.q_ends, &c.kv_ends, &c.q_start, &c.kv_start};
      *lists[dice.below(5)] = Ints(list);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int64_t calls = argc > 1 ? std::atoll(argv[1]) : 600;
  Dice dice{std::mt19937_64(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 7)};
  const Stream stream;
  const std::set<int> known = {161001, 161002, 561002, 561003};
  int64_t accepted = 0;
  for (int64_t call = 0; call < calls; ++call) {
    ScoreCase t(any_words(dice));
    for (int64_t faults = dice.below(3); faults > 0; --faults) spoil(dice, t.c);
    const bool gradient = dice.below(2) == 1;
    message();
    const aclnnStatus status = gradient ? t.c.backward() : t.c.forward();
    const std::string sentence = message();
    if (status != 0) {
      CHECK_THAT(known.count(status) == 1 && sentence.find("accepted: ") != std::string::npos, std::to_string(status) + " " + sentence);
      continue;
    }
    ++accepted;
    const Workspace memory(t.c.workspace);
    CHECK_EQ(t.c.second(gradient)(memory.data(), t.c.workspace, t.c.executor, stream.get()), 0);
    stream.wait();
  }
  std::cout << calls << " calls, " << accepted << " accepted, " << check::state().complaints << " complaints" << std::endl;
  return check::state().complaints > 0 || accepted < calls / 20 ? 1 : 0;
}
