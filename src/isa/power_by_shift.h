// How lanes without an instruction for it make 2^x: x = n + f, |f| <= 1/2, 2^x = 2^n p(f).
//
// Adding 1.5 * 2^23 + 127 to x leaves n + 127 in the lowest bits of the sum; shifted there, they are the exponent of 2^n, and of 0 for n = -127.

FUSEDATTN_INLINE F32 take_whole(F32& x) {
  const F32 magic = broadcast(12582912.0f + 127.0f), least = max(broadcast(-127.0f), x), whole = add(least, magic);
  x = sub(least, sub(whole, magic));
  return whole;
}
FUSEDATTN_INLINE F32 times_power(F32 p, F32 whole) { return mul(p, shift_to_exponent(whole)); }
