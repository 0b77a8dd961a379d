// What an operator's run copies around the library's: tensors that it takes only contiguous, or joined, lie in the workspace meanwhile.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "meta/executor.h"
#include "operators/strided.h"

namespace fusedattn::cann {

// One tensor parameter, or a member of a list, among the addresses of a run.
struct Source {
  bool output = false;
  std::size_t parameter = 0, member = 0;
  void* block(const Addresses& at) const { return output ? at.output(parameter, member) : at.input(parameter, member); }
};

// A copy between a view in a caller's block and an array in the workspace.
struct Move {
  Source source;
  std::int64_t offset = 0;  // bytes from the start of the block
  Dims shape, strides;      // of the view
  std::int64_t width = 0;   // bytes of an element
  std::int64_t staged = 0;  // bytes from the start of the staging area
  Dims staged_strides;
};

class Staging {
 public:
  // Room in the workspace; the offset of its first byte, a multiple of 64.
  std::int64_t reserve(std::int64_t bytes);
  void before(Move move) { before_.push_back(std::move(move)); }
  void after(Move move) { after_.push_back(std::move(move)); }
  void clear(Move move) { cleared_.push_back(std::move(move)); }  // its part in the workspace is not looked at

  std::int64_t bytes() const { return bytes_; }
  void gather(std::byte* area, const Addresses& at) const;   // and clears
  void scatter(std::byte* area, const Addresses& at) const;

 private:
  std::int64_t bytes_ = 0;
  std::vector<Move> before_, after_, cleared_;
};

// A whole tensor moved to or from a contiguous array at `staged`.
Move whole(const Source& source, const Tensor& tensor, std::int64_t staged);

// Memory of a workspace beside its own alignment: runs take 64-byte aligned memory whatever the caller's address.
inline constexpr std::int64_t kAlignment = 64;
std::byte* aligned(void* workspace);

}  // namespace fusedattn::cann
