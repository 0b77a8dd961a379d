// The storage types of a tensor. Arithmetic is always float32; these only name what lies in memory.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fusedattn {

enum class Dtype : std::int32_t { f32, bf16, f16 };

struct bf16 {
  std::uint16_t bits;
};
struct f16 {
  std::uint16_t bits;
};

constexpr std::size_t size_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }
constexpr const char* name_of(Dtype dtype) {
  return dtype == Dtype::f32 ? "float32" : dtype == Dtype::bf16 ? "bfloat16" : "float16";
}

}  // namespace fusedattn
