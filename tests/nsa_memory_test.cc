// nsa_memory_test.cc: token compression in the caller's memory: the same bits as in the library's own, and what is refused.
#include <fusedattn/fusedattn.h>

#include <string>
#include <vector>

#include "check.h"

namespace {

constexpr int64_t kTokens = 90, kHeads = 3, kDim = 20, kBlock = 16, kStride = 5, kEnds[] = {41, 90};

std::vector<float> numbers(int64_t count, unsigned seed) {
  std::vector<float> made(static_cast<std::size_t>(count));
  for (unsigned n = 0; n < made.size(); ++n) made[n] = static_cast<float>((n * 37 + seed * 101) % 199) / 99.0f - 1.0f;
  return made;
}

struct Compression {
  int64_t windows = fusedattn_nsa_compressed_length(kEnds, 2, kBlock, kStride);
  std::vector<float> x = numbers(kTokens * kHeads * kDim, 1), w = numbers(kBlock * kHeads, 2), dy = numbers(windows * kHeads * kDim, 3);
  std::vector<float> y = dy, dx = x, dw = w;

  fusedattn_nsa_compress_problem problem() {
    const auto view = [](std::vector<float>& data) { return fusedattn_view{data.data(), 0, kDim, kHeads * kDim}; };
    return {sizeof(fusedattn_nsa_compress_problem), FUSEDATTN_FLOAT32, 0, 2, kEnds, kTokens, kHeads, kDim, kBlock, kStride, view(x),
            {w.data(), 0, 1, kHeads}, view(y), view(dy), view(dx), {dw.data(), 0, 1, kHeads}};
  }
};

}  // namespace

TEST(the_same_bits_as_in_memory_of_the_library) {
  for (const int32_t direction : {FUSEDATTN_FORWARD, FUSEDATTN_BACKWARD}) {
    Compression own, mine;
    const auto a = own.problem(), b = mine.problem();
    CHECK_EQ(direction == FUSEDATTN_FORWARD ? fusedattn_nsa_compress_forward(&a, nullptr) : fusedattn_nsa_compress_backward(&a, nullptr), FUSEDATTN_OK);
    size_t bytes = 0;
    CHECK_EQ(fusedattn_nsa_compress_workspace(&b, direction, nullptr, &bytes), FUSEDATTN_OK);
    CHECK(bytes > 0);
    std::vector<std::byte> memory(bytes + 64, std::byte{0xFF});
    std::byte* workspace = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
    CHECK_EQ(fusedattn_nsa_compress_run(&b, direction, nullptr, workspace, bytes), FUSEDATTN_OK);
    CHECK(own.y == mine.y && own.dx == mine.dx && own.dw == mine.dw);
  }
}

TEST(refusals) {
  Compression c;
  const auto p = c.problem();
  size_t bytes = 0;
  const auto refused = [](fusedattn_status status, const char* says) {
    CHECK_EQ(status, FUSEDATTN_INVALID_ARGUMENT);
    CHECK_THAT(std::string(fusedattn_last_error()).find(says) != std::string::npos, fusedattn_last_error());
  };
  refused(fusedattn_nsa_compress_workspace(&p, 2, nullptr, &bytes), "direction is 2");
  refused(fusedattn_nsa_compress_workspace(&p, FUSEDATTN_FORWARD, nullptr, nullptr), "bytes is NULL");
  refused(fusedattn_nsa_compress_workspace(nullptr, FUSEDATTN_FORWARD, nullptr, &bytes), "nsa_compress_problem is NULL");
  CHECK_EQ(fusedattn_nsa_compress_workspace(&p, FUSEDATTN_BACKWARD, nullptr, &bytes), FUSEDATTN_OK);
  alignas(64) static std::byte memory[1 << 20];
  CHECK(bytes <= sizeof memory - 64);
  refused(fusedattn_nsa_compress_run(&p, 7, nullptr, memory, bytes), "direction is 7");
  refused(fusedattn_nsa_compress_run(&p, FUSEDATTN_BACKWARD, nullptr, memory, bytes - 1), "workspace_bytes is");
  refused(fusedattn_nsa_compress_run(&p, FUSEDATTN_BACKWARD, nullptr, memory + 8, bytes), "not aligned to 64");
  refused(fusedattn_nsa_compress_run(&p, FUSEDATTN_BACKWARD, nullptr, nullptr, bytes), "workspace is NULL");
}

TEST_MAIN()
