// cann_phases.cc: what the door for Ascend programs costs beside the computation, in microseconds.
//
//   phase 1          of eight calls as models make them: checks, plan, executor, and its end
//   phase 2          until it returns: the call waits in a stream
//   hand-over        from a host function queued on an idle stream until it runs, and until the caller has waited for it
//   beside the core  a small forward through both phases and a wait, less the same problem through fusedattn_plan_run alone
//
// Medians of many calls. The machine should do nothing else meanwhile.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "acl/acl.h"
#include "aclnnop/aclnn_flash_attention_score.h"
#include "fusedattn/fusedattn.h"

namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::time_point from, Clock::time_point to) { return std::chrono::duration<double, std::micro>(to - from).count(); }

template <class Call>
double median(int count, const Call& call) {
  std::vector<double> times;
  for (int i = 0; i < count; ++i) times.push_back(call());
  std::nth_element(times.begin(), times.begin() + count / 2, times.end());
  return times[static_cast<std::size_t>(count / 2)];
}

void require(int status, const char* what) {
  if (status == 0) return;
  const char* sentence = aclGetRecentErrMsg();
  std::fprintf(stderr, "%s: %d %s\n", what, status, sentence ? sentence : "");
  std::exit(1);
}

struct Tensor {
  void* data = nullptr;
  aclTensor* handle = nullptr;
  Tensor(const std::vector<int64_t>& shape, aclDataType dtype) {
    std::size_t bytes = aclDataTypeSize(dtype);
    for (const int64_t length : shape) bytes *= static_cast<std::size_t>(length);
    require(aclrtMalloc(&data, bytes, ACL_MEM_MALLOC_HUGE_FIRST), "aclrtMalloc");
    handle = aclCreateTensor(shape.data(), shape.size(), dtype, nullptr, 0, ACL_FORMAT_ND, shape.data(), shape.size(), data);
  }
  ~Tensor() {
    aclDestroyTensor(handle);
    aclrtFree(data);
  }
};

// A causal forward, float16, layout BNSD.
struct Forward {
  int64_t batch, heads, rows, dim;
  Tensor q, k, v, out, max, sum, mask;
  uint64_t workspace_size = 0;
  aclOpExecutor* executor = nullptr;
  char layout[5] = "BNSD";

  Forward(int64_t batch, int64_t heads, int64_t rows, int64_t dim)
      : batch(batch),
        heads(heads),
        rows(rows),
        dim(dim),
        q({batch, heads, rows, dim}, ACL_FLOAT16),
        k({batch, heads, rows, dim}, ACL_FLOAT16),
        v({batch, heads, rows, dim}, ACL_FLOAT16),
        out({batch, heads, rows, dim}, ACL_FLOAT16),
        max({batch, heads, rows, 8}, ACL_FLOAT),
        sum({batch, heads, rows, 8}, ACL_FLOAT),
        mask({2048, 2048}, ACL_BOOL) {}
  void phase_one() {
    require(aclnnFlashAttentionScoreGetWorkspaceSize(q.handle, k.handle, v.handle, nullptr, nullptr, nullptr, mask.handle, nullptr, 0.125,
                                                     1.0, 2147483647, 2147483647, heads, layout, 0, 3, max.handle, sum.handle, nullptr,
                                                     out.handle, &workspace_size, &executor),
            "phase 1");
  }
  fusedattn_problem problem() const {
    fusedattn_problem p;
    fusedattn_problem_init(&p);
    p.dtype = FUSEDATTN_FLOAT16, p.batch = batch, p.q_heads = p.kv_heads = heads, p.q_len = p.kv_len = rows, p.dim = p.dim_v = dim,
    p.scale = 0.125;
    p.mask.bottom_right.right = 0;
    const auto view = [&](void* data) { return fusedattn_view{data, heads * rows * dim, rows * dim, dim}; };
    p.q = view(q.data), p.k = view(k.data), p.v = view(v.data), p.out = view(out.data);
    p.stats = {static_cast<float*>(max.data), static_cast<float*>(sum.data), heads * rows * 8, rows * 8, 8, 8, 0};
    return p;
  }
};

Clock::time_point reached;
void reach(void*) { reached = Clock::now(); }

}  // namespace

int main() {
  require(aclInit(nullptr), "aclInit");
  require(aclrtSetDevice(0), "aclrtSetDevice");
  aclrtStream stream;
  require(aclrtCreateStream(&stream), "aclrtCreateStream");

  const int64_t cases[][4] = {{1, 8, 4096, 128}, {4, 32, 2048, 64},  {8, 16, 512, 128}, {8, 16, 512, 64},
                              {4, 4, 2048, 64},  {1, 16, 2048, 128}, {2, 8, 1024, 64},  {1, 1, 128, 64}};
  for (const auto& c : cases) {
    Forward f(c[0], c[1], c[2], c[3]);
    const double time = median(300, [&] {
      const auto begin = Clock::now();
      f.phase_one();
      const auto end = Clock::now();
      require(aclDestroyAclOpExecutor(f.executor), "aclDestroyAclOpExecutor");
      return microseconds(begin, end);
    });
    std::printf("phase 1    [%lld, %lld, %lld, %lld]  %6.1f us\n", static_cast<long long>(c[0]), static_cast<long long>(c[1]),
                static_cast<long long>(c[2]), static_cast<long long>(c[3]), time);
  }

  const double until_run = median(2000, [&] {
    const auto begin = Clock::now();
    require(aclrtLaunchHostFunc(stream, reach, nullptr), "aclrtLaunchHostFunc");
    require(aclrtSynchronizeStream(stream), "aclrtSynchronizeStream");
    return microseconds(begin, reached);
  });
  const double until_known = median(2000, [&] {
    const auto begin = Clock::now();
    require(aclrtLaunchHostFunc(stream, reach, nullptr), "aclrtLaunchHostFunc");
    require(aclrtSynchronizeStream(stream), "aclrtSynchronizeStream");
    return microseconds(begin, Clock::now());
  });
  std::printf("hand-over  until it runs %.1f us, until the caller has waited %.1f us\n", until_run, until_known);

  Forward f(1, 2, 64, 64);
  f.phase_one();
  require(aclSetAclOpExecutorRepeatable(f.executor), "aclSetAclOpExecutorRepeatable");
  void* workspace = nullptr;
  if (f.workspace_size > 0) require(aclrtMalloc(&workspace, f.workspace_size, ACL_MEM_MALLOC_HUGE_FIRST), "aclrtMalloc");
  double returned = 0;
  const double both = median(2000, [&] {
    const auto begin = Clock::now();
    require(aclnnFlashAttentionScore(workspace, f.workspace_size, f.executor, stream), "phase 2");
    returned += microseconds(begin, Clock::now()) / 2000;
    require(aclrtSynchronizeStream(stream), "aclrtSynchronizeStream");
    return microseconds(begin, Clock::now());
  });
  const fusedattn_problem problem = f.problem();
  fusedattn_plan* plan = nullptr;
  require(fusedattn_plan_create(&problem, FUSEDATTN_FORWARD, nullptr, &plan), "fusedattn_plan_create");
  const double core = median(2000, [&] {
    const auto begin = Clock::now();
    require(fusedattn_plan_run(plan, nullptr, nullptr, 0), "fusedattn_plan_run");
    return microseconds(begin, Clock::now());
  });
  fusedattn_plan_destroy(plan);
  std::printf("phase 2    returns after %.1f us\n", returned);
  std::printf("[1, 2, 64, 64]  phase 2 and a wait %.1f us, the core alone %.1f us, beside it %.1f us, of which the hand-over %.1f us\n",
              both, core, both - core, until_known);
  require(aclDestroyAclOpExecutor(f.executor), "aclDestroyAclOpExecutor");
  if (workspace != nullptr) aclrtFree(workspace);
  return 0;
}
