// The token compression of fusedattn.h: read, check, plan, run.
#include <cstdint>
#include <memory>
#include <new>
#include <string>

#include "front/failure.h"
#include "front/read.h"
#include "isa/lanes.h"
#include "run/compress.h"

using namespace fusedattn;

namespace {

Status read(const fusedattn_nsa_compress_problem* from, Compress& to) {
  if (Status status = check_struct(from, "nsa_compress_problem", from ? from->struct_size : 0, sizeof *from); !status.ok())
    return status;
  if (Status status = read_dtype("dtype", from->dtype, to.dtype); !status.ok()) return status;
  to.sequences = from->sequences, to.ends = from->ends;
  to.tokens = from->tokens, to.heads = from->heads, to.dim = from->dim;
  to.block = from->block, to.stride = from->stride;
  to.input = read_view(from->input), to.weight = read_view(from->weight), to.output = read_view(from->output);
  to.d_output = read_view(from->d_output), to.d_input = read_view(from->d_input), to.d_weight = read_view(from->d_weight);
  return {};
}

struct Free {
  void operator()(std::byte* p) const { ::operator delete(p, std::align_val_t{64}); }
};

Status plan(const fusedattn_nsa_compress_problem* from, Direction direction, const fusedattn_options* options, CompressPlan& to,
            Team& team) {
  Compress problem;
  Choice choice;
  const Kernels* kernels = nullptr;
  if (Status status = read(from, problem); !status.ok()) return status;
  if (Status status = read_options(options, choice); !status.ok()) return status;
  if (Status status = check_compress(problem, direction); !status.ok()) return status;
  if (Status status = choose_lane(choice.lane, kernels); !status.ok()) return status;
  team = choice.team;
  to = plan_compress(problem, direction, *kernels, team.threads);
  return {};
}

Status read_direction(std::int32_t from, Direction& to) {
  if (from != FUSEDATTN_FORWARD && from != FUSEDATTN_BACKWARD)
    return Status::invalid("direction is " + std::to_string(from) + "; accepted: 0 (forward), 1 (backward)");
  to = static_cast<Direction>(from);
  return {};
}

fusedattn_status compress(const fusedattn_nsa_compress_problem* from, Direction direction, const fusedattn_options* options) {
  return guarded([&]() -> Status {
    CompressPlan made;
    Team team;
    if (Status status = plan(from, direction, options, made, team); !status.ok()) return status;
    const std::unique_ptr<std::byte, Free> workspace(
        static_cast<std::byte*>(::operator new(made.workspace_bytes, std::align_val_t{64})));
    run_compress(made, workspace.get(), team);
    return {};
  });
}

}  // namespace

extern "C" {

int64_t fusedattn_nsa_compressed_length(const int64_t* ends, int64_t sequences, int64_t block, int64_t stride) {
  if (guarded([&] { return check_windows(ends, sequences, block, stride); }) != FUSEDATTN_OK) return -1;
  Compress problem;
  problem.sequences = sequences, problem.ends = ends, problem.block = block, problem.stride = stride;
  return compressed_length(problem);
}

fusedattn_status fusedattn_nsa_compress_forward(const fusedattn_nsa_compress_problem* problem, const fusedattn_options* options) {
  return compress(problem, Direction::forward, options);
}

fusedattn_status fusedattn_nsa_compress_backward(const fusedattn_nsa_compress_problem* problem,
                                                 const fusedattn_options* options) {
  return compress(problem, Direction::backward, options);
}

fusedattn_status fusedattn_nsa_compress_workspace(const fusedattn_nsa_compress_problem* problem, int32_t direction,
                                                  const fusedattn_options* options, size_t* bytes) {
  return guarded([&]() -> Status {
    CompressPlan made;
    Team team;
    Direction which{};
    if (bytes == nullptr) return Status::invalid("bytes is NULL; accepted: the address of a size_t");
    if (Status status = read_direction(direction, which); !status.ok()) return status;
    if (Status status = plan(problem, which, options, made, team); !status.ok()) return status;
    *bytes = made.workspace_bytes;
    return {};
  });
}

fusedattn_status fusedattn_nsa_compress_run(const fusedattn_nsa_compress_problem* problem, int32_t direction,
                                            const fusedattn_options* options, void* workspace, size_t workspace_bytes) {
  return guarded([&]() -> Status {
    CompressPlan made;
    Team team;
    Direction which{};
    if (Status status = read_direction(direction, which); !status.ok()) return status;
    if (Status status = plan(problem, which, options, made, team); !status.ok()) return status;
    if (workspace == nullptr && made.workspace_bytes > 0) return Status::invalid("workspace is NULL; accepted: memory of workspace_bytes");
    if (reinterpret_cast<std::uintptr_t>(workspace) % 64 != 0)
      return Status::invalid("workspace is not aligned to 64 bytes; accepted: a multiple of 64");
    if (workspace_bytes < made.workspace_bytes)
      return Status::invalid("workspace_bytes is " + std::to_string(workspace_bytes) + "; accepted: at least " +
                             std::to_string(made.workspace_bytes));
    run_compress(made, workspace, team);
    return {};
  });
}

}  // extern "C"
