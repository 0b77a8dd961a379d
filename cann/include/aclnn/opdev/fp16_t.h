/* fp16_t.h: op::fp16_t, a half that behaves like a number. Arithmetic is done in float and rounded to nearest even.
 *
 * From uint16_t it takes the bits; from every other arithmetic type, int literals included, the value.
 */
#ifndef ACLNN_OPDEV_FP16_T_H_
#define ACLNN_OPDEV_FP16_T_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace op {

struct tagFp16 {
  uint16_t val;

  tagFp16() : val(0) {}
  tagFp16(const uint16_t& bits) : val(bits) {}
  template <typename Number, typename = typename std::enable_if<std::is_arithmetic<Number>::value>::type>
  tagFp16(const Number& value) : val(BitsOf(static_cast<float>(value))) {}

  /* Assigning is by value for every type, uint16_t included. */
  template <typename Number, typename = typename std::enable_if<std::is_arithmetic<Number>::value>::type>
  tagFp16& operator=(const Number& value) {
    val = BitsOf(static_cast<float>(value));
    return *this;
  }

  operator float() const { return toFloat(); }
  operator double() const { return toDouble(); }
  operator bool() const { return (val & 0x7FFF) != 0; }
  operator int8_t() const { return toInt8(); }
  operator uint8_t() const { return toUInt8(); }
  operator int16_t() const { return toInt16(); }
  operator uint16_t() const { return toUInt16(); }
  operator int32_t() const { return toInt32(); }
  operator uint32_t() const { return toUInt32(); }
  operator int64_t() const { return static_cast<int64_t>(toFloat()); }
  operator uint64_t() const { return static_cast<uint64_t>(toFloat()); }

  float toFloat() const {
    const uint32_t sign = static_cast<uint32_t>(val & 0x8000) << 16;
    const uint32_t exponent = (val >> 10) & 0x1F;
    const uint32_t fraction = val & 0x3FF;
    if (exponent == 0) {
      const float size = std::ldexp(static_cast<float>(fraction), -24);
      return sign != 0 ? -size : size;
    }
    const uint32_t bits = sign | (exponent == 0x1F ? 0x7F800000u : (exponent + 112) << 23) | (fraction << 13);
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  double toDouble() const { return static_cast<double>(toFloat()); }
  int8_t toInt8() const { return static_cast<int8_t>(toFloat()); }
  uint8_t toUInt8() const { return static_cast<uint8_t>(toFloat()); }
  int16_t toInt16() const { return static_cast<int16_t>(toFloat()); }
  uint16_t toUInt16() const { return static_cast<uint16_t>(toFloat()); }
  int32_t toInt32() const { return static_cast<int32_t>(toFloat()); }
  uint32_t toUInt32() const { return static_cast<uint32_t>(toFloat()); }
  bool IsInf() const { return (val & 0x7FFF) == 0x7C00; }

  tagFp16 operator-() const {
    tagFp16 negated;
    negated.val = static_cast<uint16_t>(val ^ 0x8000);
    return negated;
  }
  tagFp16& operator+=(const tagFp16& other) { return *this = toFloat() + other.toFloat(); }
  tagFp16& operator-=(const tagFp16& other) { return *this = toFloat() - other.toFloat(); }
  tagFp16& operator*=(const tagFp16& other) { return *this = toFloat() * other.toFloat(); }
  tagFp16& operator/=(const tagFp16& other) { return *this = toFloat() / other.toFloat(); }
  friend tagFp16 operator+(tagFp16 a, const tagFp16& b) { return a += b; }
  friend tagFp16 operator-(tagFp16 a, const tagFp16& b) { return a -= b; }
  friend tagFp16 operator*(tagFp16 a, const tagFp16& b) { return a *= b; }
  friend tagFp16 operator/(tagFp16 a, const tagFp16& b) { return a /= b; }
  friend bool operator==(const tagFp16& a, const tagFp16& b) { return a.toFloat() == b.toFloat(); }
  friend bool operator!=(const tagFp16& a, const tagFp16& b) { return a.toFloat() != b.toFloat(); }
  friend bool operator<(const tagFp16& a, const tagFp16& b) { return a.toFloat() < b.toFloat(); }
  friend bool operator<=(const tagFp16& a, const tagFp16& b) { return a.toFloat() <= b.toFloat(); }
  friend bool operator>(const tagFp16& a, const tagFp16& b) { return a.toFloat() > b.toFloat(); }
  friend bool operator>=(const tagFp16& a, const tagFp16& b) { return a.toFloat() >= b.toFloat(); }

 private:
  /* The half nearest to a float, ties to even; infinities and NaN stay what they are. */
  static uint16_t BitsOf(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
    const float size = std::fabs(value);
    if (std::isnan(value)) return static_cast<uint16_t>(sign | 0x7E00);
    if (size >= 65520.0f) return static_cast<uint16_t>(sign | 0x7C00);
    const int exponent = size == 0 ? -14 : std::max(std::ilogb(size), -14);
    const uint32_t steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return static_cast<uint16_t>(sign | (static_cast<uint32_t>(exponent + 14) * 0x400 + steps));
  }
};

typedef tagFp16 fp16_t;

static_assert(sizeof(fp16_t) == 2 && std::is_trivially_copyable<fp16_t>::value, "a half is two bytes, and nothing but those");

}  // namespace op

namespace std {
inline bool isnan(const op::fp16_t& value) { return (value.val & 0x7FFF) > 0x7C00; }
inline op::fp16_t abs(const op::fp16_t& value) {
  op::fp16_t size;
  size.val = static_cast<uint16_t>(value.val & 0x7FFF);
  return size;
}
}  // namespace std

#endif
