// avx512.h: stands in for <immintrin.h> where AVX-512 is emulated. SIMDe writes its intrinsics in plain C; what SIMDe
// lacks follows here. Force-included (-include) before the source of a lane, whose target regions it also empties.
#ifndef FUSEDATTN_TESTS_EMULATED_AVX512_H
#define FUSEDATTN_TESTS_EMULATED_AVX512_H

#include "kernel/prelude.h"

// Emulated instructions are long: inlined everywhere they take minutes to compile.
#undef FUSEDATTN_INLINE
#define FUSEDATTN_INLINE inline

// The compiler's own header stays out, and so do its types: SIMDe's aliases take their names.
#define _IMMINTRIN_H_INCLUDED
#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>
#pragma GCC diagnostic pop
typedef simde__mmask16 __mmask16;  // older versions do not give these their names
typedef simde__mmask32 __mmask32;
#undef _MM_FROUND_NO_EXC
#define _MM_FROUND_NO_EXC 8

#include <array>
#include <bit>
#include <cmath>

namespace fusedattn_emulated {

// A vector as an array and back.
template <class T, class V>
std::array<T, sizeof(V) / sizeof(T)> elements(V vector) {
  return std::bit_cast<std::array<T, sizeof(V) / sizeof(T)>>(vector);
}

// The vector whose element k is f(k).
template <class V, class T, class F>
V vector_of(const F& f) {
  std::array<T, sizeof(V) / sizeof(T)> values;
  for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<T>(f(k));
  return std::bit_cast<V>(values);
}

template <class T>
T element_at(const void* from, std::size_t k) {
  T value;
  std::memcpy(&value, static_cast<const char*>(from) + k * sizeof(T), sizeof(T));
  return value;
}

// A masked load or store touches only the elements whose bit is set.
template <class V, class T, class M>
V masked_load(M mask, const void* from) {
  return vector_of<V, T>([&](std::size_t k) { return mask >> k & 1 ? element_at<T>(from, k) : T{}; });
}
template <class T, class M, class V>
void masked_store(void* to, M mask, V vector) {
  const auto values = elements<T>(vector);
  for (std::size_t k = 0; k < values.size(); ++k) {
    if (mask >> k & 1) std::memcpy(static_cast<char*>(to) + k * sizeof(T), &values[k], sizeof(T));
  }
}

template <class V, class To, class From, class Narrow>
V converted(Narrow vector) {
  const auto values = elements<From>(vector);
  return vector_of<V, To>([&](std::size_t k) { return values[k]; });
}

// Round to nearest even; a NaN becomes quiet. Unlike the instruction it keeps subnormal numbers.
inline std::uint16_t bf16_of(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  if (x != x) return static_cast<std::uint16_t>(u >> 16 | 0x40);
  return static_cast<std::uint16_t>((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// Sums and maxima as the compiler's header does them: halves of the vector, again and again.
template <class F>
float reduced(__m512 vector, const F& f) {
  auto values = elements<float>(vector);
  for (std::size_t half = 8; half > 0; half /= 2)
    for (std::size_t k = 0; k < half; ++k) values[k] = f(values[k], values[k + half]);
  return values[0];
}

inline __m512 maskz_loadu_ps(__mmask16 mask, const void* from) { return masked_load<__m512, float>(mask, from); }
inline __m512i maskz_loadu_epi16(__mmask32 mask, const void* from) {
  return masked_load<__m512i, std::uint16_t>(mask, from);
}
inline __m256i maskz_loadu_epi16(__mmask16 mask, const void* from) {
  return masked_load<__m256i, std::uint16_t>(mask, from);
}
inline void mask_storeu_ps(void* to, __mmask16 mask, __m512 x) { masked_store<float>(to, mask, x); }
inline void mask_storeu_epi16(void* to, __mmask16 mask, __m256i x) { masked_store<std::uint16_t>(to, mask, x); }
inline __m512i cvtepu16_epi32(__m256i x) { return converted<__m512i, std::uint32_t, std::uint16_t>(x); }
inline __m512i cvtepu8_epi32(__m128i x) { return converted<__m512i, std::uint32_t, std::uint8_t>(x); }
inline __m256i cvtepi32_epi16(__m512i x) {
  const auto values = elements<std::uint32_t>(x);
  return vector_of<__m256i, std::uint16_t>([&](std::size_t k) { return values[k]; });
}
inline __m512 cvtph_ps(__m256i x) {
  const auto halves = elements<simde__m128i>(x);
  const auto quarter = [&](std::size_t k) {
    return simde_mm_cvtph_ps(k % 2 ? simde_mm_unpackhi_epi64(halves[k / 2], halves[k / 2]) : halves[k / 2]);
  };
  return std::bit_cast<__m512>(std::array{quarter(0), quarter(1), quarter(2), quarter(3)});
}
inline __m256i cvtps_ph(__m512 x, int) {
  const auto quarters = elements<simde__m128>(x);
  const auto half = [&](std::size_t k) {
    return simde_mm_unpacklo_epi64(simde_mm_cvtps_ph(quarters[2 * k], 0), simde_mm_cvtps_ph(quarters[2 * k + 1], 0));
  };
  return std::bit_cast<__m256i>(std::array{half(0), half(1)});
}
inline __m512 shuffle_f32x4(__m512 a, __m512 b, int which) {
  const auto from_a = elements<simde__m128>(a), from_b = elements<simde__m128>(b);
  return std::bit_cast<__m512>(
      std::array{from_a[which & 3], from_a[which >> 2 & 3], from_b[which >> 4 & 3], from_b[which >> 6 & 3]});
}
inline __m256bh cvtneps_pbh(__m512 x) {
  const auto values = elements<float>(x);
  return vector_of<__m256bh, std::uint16_t>([&](std::size_t k) { return bf16_of(values[k]); });
}
inline __m512bh cvtne2ps_pbh(__m512 second, __m512 first) {
  const auto low = elements<float>(first), high = elements<float>(second);
  return vector_of<__m512bh, std::uint16_t>([&](std::size_t k) { return bf16_of(k < 16 ? low[k] : high[k - 16]); });
}
inline __m512i permutexvar_epi16(__m512i which, __m512i x) {
  const auto at = elements<std::uint16_t>(which), values = elements<std::uint16_t>(x);
  return vector_of<__m512i, std::uint16_t>([&](std::size_t k) { return values[at[k] & 31]; });
}
inline __m512 roundscale_ps(__m512 x, int) {
  const auto values = elements<float>(x);
  return vector_of<__m512, float>([&](std::size_t k) { return std::nearbyint(values[k]); });
}
// Rounded down, as the only use of it asks for.
inline __m512 add_round_ps(__m512 a, __m512 b, int) {
  const auto first = elements<float>(a), second = elements<float>(b);
  return vector_of<__m512, float>([&](std::size_t k) {
    const float nearest = first[k] + second[k];
    const double exact_rest = static_cast<double>(nearest) - static_cast<double>(second[k]);  // the larger one
    return exact_rest > static_cast<double>(first[k]) ? std::nextafter(nearest, -INFINITY) : nearest;
  });
}
// x less x rounded down to how >> 4 binary places, itself rounded down; 0 of infinities.
inline __m512 reduce_ps(__m512 x, int how) {
  const auto values = elements<float>(x);
  return vector_of<__m512, float>([&](std::size_t k) {
    const double scale = std::ldexp(1.0, how >> 4);
    if (std::isinf(values[k])) return 0.0f;
    const double rest = values[k] - std::floor(values[k] * scale) / scale;
    const float nearest = static_cast<float>(rest);
    return static_cast<double>(nearest) > rest ? std::nextafter(nearest, -INFINITY) : nearest;
  });
}
inline __m512 permutex2var_ps(__m512 a, __m512i which, __m512 b) {
  const auto at = elements<std::uint32_t>(which);
  const auto low = elements<float>(a), high = elements<float>(b);
  return vector_of<__m512, float>([&](std::size_t k) { return at[k] & 16 ? high[at[k] & 15] : low[at[k] & 15]; });
}
// x * 2^floor(n); 0 for n = -inf even if x is NaN.
inline __m512 scalef_ps(__m512 x, __m512 n) {
  const auto values = elements<float>(x), powers = elements<float>(n);
  return vector_of<__m512, float>([&](std::size_t k) {
    if (powers[k] == -INFINITY) return 0.0f;
    return powers[k] != powers[k] ? powers[k] : std::ldexp(values[k], static_cast<int>(std::floor(std::fmin(std::fmax(powers[k], -300.0f), 300.0f))));
  });
}
inline float reduce_add_ps(__m512 x) {
  return reduced(x, [](float a, float b) { return a + b; });
}
inline float reduce_max_ps(__m512 x) {
  return reduced(x, [](float a, float b) { return a > b ? a : b; });
}

}  // namespace fusedattn_emulated

// Whether SIMDe has some of these depends on its version: these take their place in every version.
#undef _mm512_maskz_loadu_ps
#undef _mm512_maskz_loadu_epi16
#undef _mm256_maskz_loadu_epi16
#undef _mm512_mask_storeu_ps
#undef _mm512_stream_ps
#undef _mm256_mask_storeu_epi16
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepi32_epi16
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_ph
#undef _mm512_shuffle_f32x4
#undef _mm512_cvtneps_pbh
#undef _mm512_cvtne2ps_pbh
#undef _mm512_permutexvar_epi16
#undef _mm512_roundscale_ps
#undef _mm512_add_round_ps
#undef _mm512_reduce_ps
#undef _mm512_permutex2var_ps
#undef _mm512_scalef_ps
#undef _mm512_reduce_add_ps
#undef _mm512_reduce_max_ps
#define _mm512_maskz_loadu_ps fusedattn_emulated::maskz_loadu_ps
#define _mm512_maskz_loadu_epi16 fusedattn_emulated::maskz_loadu_epi16
#define _mm256_maskz_loadu_epi16 fusedattn_emulated::maskz_loadu_epi16
#define _mm512_stream_ps _mm512_storeu_ps
#define _mm512_mask_storeu_ps fusedattn_emulated::mask_storeu_ps
#define _mm256_mask_storeu_epi16 fusedattn_emulated::mask_storeu_epi16
#define _mm512_cvtepu16_epi32 fusedattn_emulated::cvtepu16_epi32
#define _mm512_cvtepu8_epi32 fusedattn_emulated::cvtepu8_epi32
#define _mm512_cvtepi32_epi16 fusedattn_emulated::cvtepi32_epi16
#define _mm512_cvtph_ps fusedattn_emulated::cvtph_ps
#define _mm512_cvtps_ph fusedattn_emulated::cvtps_ph
#define _mm512_shuffle_f32x4 fusedattn_emulated::shuffle_f32x4
#define _mm512_cvtneps_pbh fusedattn_emulated::cvtneps_pbh
#define _mm512_cvtne2ps_pbh fusedattn_emulated::cvtne2ps_pbh
#define _mm512_permutexvar_epi16 fusedattn_emulated::permutexvar_epi16
#define _mm512_roundscale_ps fusedattn_emulated::roundscale_ps
#define _mm512_add_round_ps fusedattn_emulated::add_round_ps
#define _mm512_reduce_ps fusedattn_emulated::reduce_ps
#define _mm512_permutex2var_ps fusedattn_emulated::permutex2var_ps
#define _mm512_scalef_ps fusedattn_emulated::scalef_ps
#define _mm512_reduce_add_ps fusedattn_emulated::reduce_add_ps
#define _mm512_reduce_max_ps fusedattn_emulated::reduce_max_ps

// Regions open nothing: no instruction of the lane is used.
#include "isa/region.h"
#undef FUSEDATTN_REGION_OPEN
#undef FUSEDATTN_REGION_CLOSE
#define FUSEDATTN_REGION_OPEN(features)
#define FUSEDATTN_REGION_CLOSE
#endif
