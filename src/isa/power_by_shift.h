// How lanes without an instruction for it make 2^x: x = n + f, |f| <= 1/2, 2^x = 2^n p(f).
//
// Adding 1.5 * 2^23 + 127 to x leaves n + 127 in the lowest bits of the sum; shifted there, they are the exponent of 2^n, and of 0 for n = -127.
constexpr float kPower[] = {0x1.5bba14p-10f, 0x1.3cea88p-7f, 0x1.c6b752p-5f, 0x1.ebf9bcp-3f, 0x1.62e42ap-1f, 1.0f};  // relative error 1.7e-7

FUSEDATTN_INLINE F32 take_whole(F32& x) {
  const F32 magic = broadcast(12582912.0f + 127.0f), least = max(broadcast(-127.0f), x), whole = add(least, magic);
  x = sub(least, sub(whole, magic));
  return whole;
}
FUSEDATTN_INLINE F32 times_power(F32 p, F32 whole) { return mul(p, shift_to_exponent(whole)); }
