#include "operators/staging.h"

namespace fusedattn::cann {
namespace {

Place view(const Move& move, const Addresses& at) {
  return {static_cast<std::byte*>(move.source.block(at)) + move.offset, &move.strides};
}
Place room(const Move& move, std::byte* area) { return {area + move.staged, &move.staged_strides}; }

}  // namespace

std::int64_t Staging::reserve(std::int64_t bytes) {
  const std::int64_t at = bytes_;
  bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
  return at;
}

void Staging::gather(std::byte* area, const Addresses& at) const {
  for (const Move& move : cleared_) clear_elements(move.shape, move.width, view(move, at));
  for (const Move& move : before_) copy_elements(move.shape, move.width, view(move, at), room(move, area));
}

void Staging::scatter(std::byte* area, const Addresses& at) const {
  for (const Move& move : after_) copy_elements(move.shape, move.width, room(move, area), view(move, at));
}

Move whole(const Source& source, const Tensor& tensor, std::int64_t staged) {
  const std::int64_t width = bytes_of(tensor.dtype);
  return {source, tensor.offset * width, tensor.shape, tensor.strides, width, staged, contiguous_strides(tensor.shape)};
}

std::byte* aligned(void* workspace) {
  const auto address = reinterpret_cast<std::uintptr_t>(workspace);
  return reinterpret_cast<std::byte*>((address + kAlignment - 1) / kAlignment * kAlignment);
}

}  // namespace fusedattn::cann
