// tensor.h: one tensor of a case, in its layout and type, filled with reproducible numbers.
#ifndef FUSEDATTN_TESTS_TENSOR_H
#define FUSEDATTN_TESTS_TENSOR_H

#include <fusedattn/fusedattn.h>

#include <array>
#include <vector>

#include "cases.h"
#include "memory.h"
#include "storage.h"

namespace fusedattn::tests {

// A tensor [batch, heads, rows, dim] in some layout. A packed tensor has batch 1 here.
struct Tensor {
  int32_t dtype = FUSEDATTN_FLOAT32;
  int64_t batch = 0, heads = 0, rows = 0, dim = 0;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0, elements = 0;
  Memory memory;

  Tensor() = default;
  Tensor(int32_t dtype, std::array<int64_t, 4> shape, Layout layout, Place place = Place::anywhere)
      : dtype(dtype), batch(shape[0]), heads(shape[1]), rows(shape[2]), dim(shape[3]) {
    const int64_t row_gap = layout == Layout::gaps ? 5 : 0, gap = layout == Layout::gaps ? 3 : 0;
    if (layout == Layout::bsnd) {
      head_stride = dim, row_stride = heads * dim, batch_stride = rows * row_stride;
    } else if (layout == Layout::sbnd) {
      head_stride = dim, batch_stride = heads * dim, row_stride = batch * batch_stride;
    } else {
      row_stride = dim + row_gap, head_stride = rows * row_stride + gap, batch_stride = heads * head_stride + gap;
    }
    elements = layout == Layout::sbnd ? rows * row_stride : batch * batch_stride;
    memory = Memory(static_cast<std::size_t>(elements) * format_of(dtype).bytes, place);
  }

  std::byte* at(int64_t b, int64_t n, int64_t i, int64_t d) const {
    const int64_t index = b * batch_stride + n * head_stride + i * row_stride + d;
    return memory.data() + static_cast<std::size_t>(index) * format_of(dtype).bytes;
  }
  double get(int64_t b, int64_t n, int64_t i, int64_t d) const { return load(dtype, at(b, n, i, d)); }
  void set(int64_t b, int64_t n, int64_t i, int64_t d, double value) const { store(dtype, at(b, n, i, d), value); }
  fusedattn_view view() const { return {memory.data(), batch_stride, head_stride, row_stride}; }

  // f(b, n, i, d) for every element.
  template <class F>
  void each(const F& f) const {
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t n = 0; n < heads; ++n)
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t d = 0; d < dim; ++d) f(b, n, i, d);
  }

  // The bytes of the elements in the order b, n, i, d: the same for every layout that holds the same numbers.
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> result;
    result.reserve(static_cast<std::size_t>(batch * heads * rows * dim) * format_of(dtype).bytes);
    each([&](auto b, auto n, auto i, auto d) {
      const std::byte* from = at(b, n, i, d);
      result.insert(result.end(), from, from + format_of(dtype).bytes);
    });
    return result;
  }

  // Numbers in (-2, 2), bell shaped, that depend on seed and position alone, not on layout or on what else there is.
  void fill(std::uint64_t seed) const {
    each([&](auto b, auto n, auto i, auto d) {
      std::uint64_t bits = seed * 0x9E3779B97F4A7C15u;
      for (const int64_t part : {b, n, i, d}) {
        bits = (bits ^ static_cast<std::uint64_t>(part)) * 0xBF58476D1CE4E5B9u;
        bits ^= bits >> 29;
      }
      const double sum = static_cast<double>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF));
      set(b, n, i, d, sum / 49152.0 - 2.0);
    });
  }
};

}  // namespace fusedattn::tests
#endif
