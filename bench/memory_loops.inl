// memory_loops.inl: reading and exponentials, written once for vectors of kBytes; every instruction set includes it in
// its own namespace after defining kBytes, FUSEDATTN_PROBE_TARGET (the target attribute) and FUSEDATTN_PROBE_REGISTER
// (the asm constraint of a vector register).

typedef float Vector __attribute__((vector_size(kBytes)));
typedef std::int32_t Integers __attribute__((vector_size(kBytes)));
constexpr int kLanes = kBytes / 4;

FUSEDATTN_PROBE_TARGET inline Vector load(const float* address) { return *reinterpret_cast<const Vector*>(address); }

// An empty asm statement uses each value, so that the loads are the only work.
FUSEDATTN_PROBE_TARGET void read(const float* data, std::size_t bytes) {
  const float* end = data + bytes / 4;
  for (; data != end; data += 4 * kLanes) {
    const Vector a = load(data), b = load(data + kLanes), c = load(data + 2 * kLanes), d = load(data + 3 * kLanes);
    asm volatile("" ::FUSEDATTN_PROBE_REGISTER(a), FUSEDATTN_PROBE_REGISTER(b), FUSEDATTN_PROBE_REGISTER(c),
                 FUSEDATTN_PROBE_REGISTER(d));
  }
}

// exp(x) = 2^n * 2^f with n = round(x log2 e): adding 1.5 * 2^23 leaves n in the low mantissa bits, a minimax
// polynomial of degree 5 gives 2^f on [-1/2, 1/2], and n is added to its exponent as an integer. No clamp: x stays in
// [-80, 0].
FUSEDATTN_PROBE_TARGET inline Vector exponential(Vector x) {
  const Vector shifted = x * 1.44269504f + 12582912.0f;
  const Vector f = x * 1.44269504f - (shifted - 12582912.0f);
  Vector p = 1.326472725e-3f * f + 9.671512688e-3f;
  p = p * f + 5.550733744e-2f;
  p = p * f + 2.402224208e-1f;
  p = p * f + 6.931469776e-1f;
  p = p * f + 1.0f;
  return (Vector)((Integers)p + ((Integers)shifted << 23));
}

FUSEDATTN_PROBE_TARGET float exp(const float* x, float* y, std::size_t count) {
  Vector sum[4] = {};
  for (std::size_t i = 0; i < count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int part = 0; part < 4; ++part) {
      const Vector value = exponential(load(x + i + part * kLanes));
      *reinterpret_cast<Vector*>(y + i + part * kLanes) = value;
      sum[part] += value;
    }
  }
  const Vector lanes = sum[0] + sum[1] + sum[2] + sum[3];
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += lanes[lane];
  return total;
}
