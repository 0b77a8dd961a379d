// Which probabilities dropout keeps, as data: one 16-bit word per column; a word below the threshold keeps.
//
// Words come from a caller's bits or from Philox4x32 with 7 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as
// 1, 2, 3; SC 2011), whose every block of 8 words is a pure function of seed, offset and position: the same for every lane, tiling
// and number of threads. 64-bit lanes hold one counter each; a product leaves garbage in the upper half of a word, which
// the next product does not read.
class Philox {
 public:
  Philox(std::uint64_t seed, std::uint64_t offset) : offset_low_(broadcast_wide(offset)), offset_high_(broadcast_wide(offset >> 32)) {
    auto low = static_cast<std::uint32_t>(seed), high = static_cast<std::uint32_t>(seed >> 32);
    for (int round = 0; round < kRounds; ++round) {
      key_low_[round] = broadcast_wide(low), key_high_[round] = broadcast_wide(high);
      low += 0x9E3779B9u, high += 0xBB67AE85u;
    }
  }

  static constexpr std::int64_t kWords = 8 * kWideLanes;  // that one call makes

  // Words 8 * block to 8 * block + kWords - 1 of the stream.
  FUSEDATTN_INLINE void words(std::uint64_t block, std::uint16_t* to) const {
    const Wide counter = count_from(block);
    Wide c0 = counter, c1 = upper_half(counter), c2 = offset_low_, c3 = offset_high_;
    const Wide m0 = broadcast_wide(0xD2511F53u), m1 = broadcast_wide(0xCD9E8D57u);
#pragma GCC unroll 7
    for (int round = 0; round < kRounds; ++round) {
      const Wide p0 = multiply_lower(c0, m0), p1 = multiply_lower(c2, m1);
      c0 = exclusive_or(exclusive_or(upper_half(p1), c1), key_low_[round]);
      c2 = exclusive_or(exclusive_or(upper_half(p0), c3), key_high_[round]);
      c1 = p1, c3 = p0;
    }
    store_blocks(to, c0, c1, c2, c3);
  }

 private:
  static constexpr int kRounds = 7;
  Wide key_low_[kRounds], key_high_[kRounds], offset_low_, offset_high_;
};

// The words that stand for eight bits: 0 keeps, 65535 drops.
struct WordsOfByte {
  std::uint16_t of[256][8];
  constexpr WordsOfByte() : of{} {
    for (int byte = 0; byte < 256; ++byte)
      for (int bit = 0; bit < 8; ++bit) of[byte][bit] = byte >> bit & 1 ? 0 : 65535;
  }
};
constexpr WordsOfByte kWordsOfByte;

// What dropout does to the rows of one sequence.
class Keeping {
 public:
  Keeping(const Problem& p, const Sequence& seq, std::int64_t scores_before)
      : dropout_(p.dropout),
        kv_len_(seq.kv_len),
        q_len_(seq.q_len),
        first_(p.q_heads * scores_before),
        philox_(p.dropout.seed, p.dropout.offset) {}

  bool active() const { return dropout_.active(); }
  float inverse() const { return std::min(1.0f / dropout_.keep_prob, FLT_MAX); }
  std::int32_t threshold() const { return dropout_.bits ? 1 : threshold_of(dropout_.keep_prob); }
  static std::int32_t threshold_of(float keep_prob) { return static_cast<std::int32_t>(static_cast<double>(keep_prob) * 65536.0 + 0.5); }

  // Room for the words of a row of a block.
  static std::int64_t room(std::int64_t cols) { return kBefore + cols + Philox::kWords + kPanel; }

  // The words of a row, so that the one of column j of the block is at [j]; only those of `seen` are made.
  const std::uint16_t* words(std::int64_t head, std::int64_t row, Range block, Range seen, std::uint16_t* room) const {
    std::uint16_t* const words = room + kBefore;
    const std::int64_t element = first_ + (head * q_len_ + row) * kv_len_ + block.begin + seen.begin;
    if (dropout_.bits != nullptr)
      for (std::int64_t j = seen.begin - element % 8, e = element / 8; j < seen.end; j += 8, ++e)
        std::memcpy(words + j, kWordsOfByte.of[dropout_.bits[e]], 8 * sizeof *words);
    else
      for (std::int64_t j = seen.begin - element % 8, e = element / 8; j < seen.end; j += Philox::kWords, e += kWideLanes)
        philox_.words(static_cast<std::uint64_t>(e), words + j);
    return words;
  }

 private:
  static constexpr std::int64_t kBefore = 8;
  const Dropout& dropout_;
  const std::int64_t kv_len_, q_len_, first_;
  const Philox philox_;
};

// Bits of the elements [0, count): what a caller's bits would have to be.
inline void dropout_bits(const Dropout& dropout, std::int64_t count, std::uint8_t* bits) {
  const Philox philox(dropout.seed, dropout.offset);
  const std::int32_t threshold = Keeping::threshold_of(dropout.keep_prob);
  std::uint16_t words[Philox::kWords];
  for (std::int64_t e = 0; e < count; e += 8) {
    if (e % Philox::kWords == 0) philox.words(static_cast<std::uint64_t>(e / 8), words);
    std::uint8_t byte = 0;
    for (std::int64_t n = 0; n < std::min<std::int64_t>(8, count - e); ++n)
      byte = static_cast<std::uint8_t>(byte | (words[e % Philox::kWords + n] < threshold) << n);
    bits[e / 8] = byte;
  }
}

// Every probability, or those that dropout keeps.
struct KeepAll {
  FUSEDATTN_INLINE F32 operator()(F32 p, std::int64_t) const { return p; }
};
struct KeepSome {
  const std::uint16_t* words;
  std::int32_t threshold;
  FUSEDATTN_INLINE F32 operator()(F32 p, std::int64_t j) const { return keep_below(p, words + j, threshold); }
};
