// check.h: a test harness in one header. Named tests, checks that print what they saw, a summary line, an exit code.
//
//   TEST(name) { CHECK(condition); CHECK_EQ(a, b); CHECK_NEAR(a, b, tolerance); }     int main in one line: TEST_MAIN()
//   check::run("name", body) counts a test made at run time; check::skip("name", "reason") counts and prints one that
//   is not. An argument of the program runs only the tests whose name contains it.
#ifndef FUSEDATTN_TESTS_CHECK_H
#define FUSEDATTN_TESTS_CHECK_H

#include <cmath>
#include <functional>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace check {

struct State {
  std::vector<std::pair<std::string, std::function<void()>>> tests;
  int passed = 0, failed = 0, skipped = 0, complaints = 0;
};

inline State& state() {
  static State the_state;
  return the_state;
}

// Prints the first few complaints of a test and counts them all.
inline void complain(const char* file, int line, const std::string& text) {
  if (++state().complaints <= 5) std::cout << "  " << file << ":" << line << ": " << text << "\n";
}

inline void skip(const std::string& name, const std::string& reason) {
  ++state().skipped;
  std::cout << "skipped " << name << ": " << reason << "\n";
}

inline void run(const std::string& name, const std::function<void()>& body) {
  const int outer = std::exchange(state().complaints, 0);
  body();
  if (state().complaints > 0) std::cout << "FAILED " << name << " (" << state().complaints << " complaints)\n";
  ++(state().complaints > 0 ? state().failed : state().passed);
  state().complaints = outer;
}

inline int run_all(const std::string& filter) {
  for (const auto& [name, body] : state().tests) {
    if (name.find(filter) != std::string::npos) run(name, body);
  }
  const State& s = state();
  std::cout << s.passed << " passed, " << s.failed << " failed, " << s.skipped << " skipped" << std::endl;
  return s.failed > 0 || s.passed + s.skipped == 0 ? 1 : 0;
}

template <class A, class B>
std::string two(const char* what, const A& a, const B& b) {
  std::ostringstream text;
  text.precision(9);
  text << what << ": " << a << " and " << b;
  return text.str();
}

}  // namespace check

#define TEST(name)                                                                       \
  static void name();                                                                    \
  static const auto& registered_##name = check::state().tests.emplace_back(#name, name); \
  static void name()
#define TEST_MAIN() \
  int main(int argc, char** argv) { return check::run_all(argc > 1 ? argv[1] : ""); }
#define CHECK_THAT(condition, text) ((condition) ? void() : check::complain(__FILE__, __LINE__, text))
#define CHECK(condition) CHECK_THAT(condition, "not true: " #condition)
#define CHECK_EQ(a, b) CHECK_THAT((a) == (b), check::two("not equal: " #a ", " #b, a, b))
#define CHECK_NEAR(a, b, tolerance) \
  CHECK_THAT(std::abs((a) - (b)) <= (tolerance), check::two("not near: " #a ", " #b, a, b))
#endif
