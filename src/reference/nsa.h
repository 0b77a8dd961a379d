// nsa.h: token compression and its gradients in double, formula by formula.
#ifndef FUSEDATTN_REFERENCE_NSA_H
#define FUSEDATTN_REFERENCE_NSA_H

#include <cstdint>
#include <vector>

namespace fusedattn::reference {

// A compression of packed sequences: input [tokens, heads, dim], weight [block, heads].
struct Compression {
  std::vector<std::int64_t> ends;
  std::int64_t tokens, heads, dim, block, stride;

  std::size_t at(std::int64_t row, std::int64_t n, std::int64_t d) const {
    return static_cast<std::size_t>((row * heads + n) * dim + d);
  }
  std::size_t at(std::int64_t l, std::int64_t n) const { return static_cast<std::size_t>(l * heads + n); }

  // f(row, token) for every window of every sequence: its row of output and its first token.
  template <class F>
  void each_window(const F& f) const {
    std::int64_t begin = 0, row = 0;
    for (const std::int64_t end : ends) {
      for (std::int64_t i = 0; begin + i * stride + block <= end; ++i) f(row++, begin + i * stride);
      begin = end;
    }
  }
  std::int64_t windows() const {
    std::int64_t count = 0;
    each_window([&](auto, auto) { ++count; });
    return count;
  }
  // f(row, token, l, n, d) for every product of the sums.
  template <class F>
  void each_product(const F& f) const {
    each_window([&](std::int64_t row, std::int64_t first) {
      for (std::int64_t l = 0; l < block; ++l)
        for (std::int64_t n = 0; n < heads; ++n)
          for (std::int64_t d = 0; d < dim; ++d) f(row, first + l, l, n, d);
    });
  }
};

using Numbers = std::vector<double>;

//   output[row,n,d] = sum_l weight[l,n] * input[first + l,n,d]
inline Numbers compress(const Compression& c, const Numbers& input, const Numbers& weight) {
  Numbers output(static_cast<std::size_t>(c.windows() * c.heads * c.dim));
  c.each_product(
      [&](auto row, auto t, auto l, auto n, auto d) { output[c.at(row, n, d)] += weight[c.at(l, n)] * input[c.at(t, n, d)]; });
  return output;
}

//   d_input[t,n,d] = sum over the windows that hold t of weight[l,n] * d_output[row,n,d]
inline Numbers compress_d_input(const Compression& c, const Numbers& d_output, const Numbers& weight) {
  Numbers d_input(static_cast<std::size_t>(c.tokens * c.heads * c.dim));
  c.each_product([&](auto row, auto t, auto l, auto n, auto d) {
    d_input[c.at(t, n, d)] += weight[c.at(l, n)] * d_output[c.at(row, n, d)];
  });
  return d_input;
}

//   d_weight[l,n] = sum over rows and d of d_output[row,n,d] * input[first + l,n,d]
inline Numbers compress_d_weight(const Compression& c, const Numbers& d_output, const Numbers& input) {
  Numbers d_weight(static_cast<std::size_t>(c.block * c.heads));
  c.each_product([&](auto row, auto t, auto l, auto n, auto d) {
    d_weight[c.at(l, n)] += d_output[c.at(row, n, d)] * input[c.at(t, n, d)];
  });
  return d_weight;
}

}  // namespace fusedattn::reference
#endif
