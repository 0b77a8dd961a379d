// Elements of a cache line.
template <class T>
constexpr std::int64_t kLine = 64 / static_cast<std::int64_t>(sizeof(T));

// A matrix [rows, elements].
template <class T>
struct Rows {
  const T* data;
  std::int64_t stride, rows, elements;
  const T* row(std::int64_t i) const { return data + i * stride; }
};

// What will be read of a matrix, asked for in the order in which it lies in memory, some lines at a time between computations. Both matter:
// asked for by rows side by side, or a few rows at once, memory and computations take their times one after the other. It comes into the
// second-level cache: so many more requests may be under way there that one row of queries runs 1.4 to 1.7 times as fast on Zen 4.
template <class T>
class Ahead {
 public:
  explicit Ahead(const Rows<T>& of)
      : stride_(of.stride),
        elements_(of.stride == of.elements ? of.stride * (of.rows + kMostAhead) : of.elements),
        row_(of.row(std::min({kBytes / (of.elements * static_cast<std::int64_t>(sizeof(T))), kMostAhead, of.rows}))) {}

  template <int kLines>
  FUSEDATTN_INLINE void ask() {
    if (d_ + kLines * kLine<T> > elements_) return ask_across_rows(kLines);
#pragma GCC unroll 16
    for (int n = 0; n < kLines; ++n) __builtin_prefetch(row_ + d_ + n * kLine<T>, 0, 2);
    d_ += kLines * kLine<T>;
  }

 private:
  static constexpr std::int64_t kBytes = 16384;  // ahead: more than what memory takes to answer
  static constexpr std::int64_t kMostAhead = 256;

  __attribute__((noinline)) void ask_across_rows(int lines) {
    for (; lines > 0; --lines) {
      if (d_ >= elements_) d_ = 0, row_ += stride_;
      __builtin_prefetch(row_ + d_, 0, 2);
      d_ += kLine<T>;
    }
  }

  const std::int64_t stride_, elements_;  // all rows are one where nothing lies between them
  const T* row_;
  std::int64_t d_ = 0;
};
