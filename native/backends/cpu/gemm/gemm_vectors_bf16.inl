// Products of one to four rows with bf16 dot instructions: codes are looked up as bf16, which holds them all, and meet
// activations in bf16. Only NF4's and FP4's tables are rounded. Q8_0 has too many codes for a table, and fp32 is as
// fast.

inline __m512 dot_pairs(__m512i weights, const uint16_t* x, __m512 sum) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(weights), reinterpret_cast<__m512bh>(_mm512_loadu_si512(x)));
}
// Thirty-two signed bytes as bf16.
inline __m512i bf16_of(Bytes low, Bytes high) { return narrow_pair(from_i8(high), from_i8(low)); }

// The codes of a part as bf16. A lookup takes five bits of each word as the index and ignores those above, so that
// formats of fewer bits repeat their table.
template <GgmlType k>
struct PartTable {
  __m512i low, high;  // of codes without their top bit and with it, where that lies apart

  PartTable() {
    const Bytes numbers = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    if constexpr (k == GgmlType::iq4_nl || k == GgmlType::iq4_xs) {
      low = high = twice(bytes_at(kIq4Values));
    } else if constexpr (k == GgmlType::q6_k) {
      low = bf16_of(less(numbers, 32), less(numbers, 16));
      high = bf16_of(numbers, less(numbers, -16));
    } else if constexpr (k == GgmlType::q2_k || k == GgmlType::q3_k) {
      const Bytes two = bits_of(numbers, 0, 3);
      low = twice(k == GgmlType::q3_k ? less(two, 4) : two);
      high = twice(two);
    } else {
      constexpr char offset = k == GgmlType::q4_0 ? 8 : k == GgmlType::q5_0 ? 16 : 0;
      low = twice(less(numbers, offset));
      high = twice(less(numbers, offset - 16));
    }
  }

  __m512i values(const uint8_t* block, int part) const {
    if constexpr (k == GgmlType::q4_0 || k == GgmlType::q4_1 || k == GgmlType::iq4_nl) {
      return _mm512_permutexvar_epi16(both_nibbles(block + (k == GgmlType::q4_1 ? 4 : 2)), low);
    } else if constexpr (k == GgmlType::q5_0 || k == GgmlType::q5_1) {
      constexpr int at = k == GgmlType::q5_1 ? 4 : 2;
      return of_five(both_nibbles(block + at + 4), word_at(block + at));
    } else if constexpr (k == GgmlType::q2_k || k == GgmlType::q3_k) {
      const uint8_t* const codes = block + (k == GgmlType::q2_k ? 16 : 32) + part / 4 * 32;
      const __m512i words = _mm512_srli_epi16(words_at(codes), static_cast<unsigned>(part % 4 * 2));
      return k == GgmlType::q2_k ? _mm512_permutexvar_epi16(words, low) : of_five(words, bit_of(block, part));
    } else if constexpr (k == GgmlType::q4_k || k == GgmlType::q5_k) {
      const uint8_t* const codes = block + (k == GgmlType::q4_k ? 16 : 48) + part / 2 * 32;
      const __m512i words = _mm512_srli_epi16(words_at(codes), static_cast<unsigned>(part % 2 * 4));
      return k == GgmlType::q4_k ? _mm512_permutexvar_epi16(words, low) : of_five(words, bit_of(block + 16, part));
    } else if constexpr (k == GgmlType::q6_k) {
      const __m512i four =
          _mm512_srli_epi16(words_at(block + part / 4 * 64 + part % 2 * 32), static_cast<unsigned>(part % 4 / 2 * 4));
      const __m512i top = words_at(block + 128 + part / 4 * 32);
      const int up = 4 - part % 4 * 2;  // to bits 4 and 5
      const __m512i two = up >= 0 ? _mm512_slli_epi16(top, static_cast<unsigned>(up)) : _mm512_srli_epi16(top, 2);
      const __m512i index = _mm512_ternarylogic_epi64(_mm512_set1_epi16(15), four, two, 0xca);  // by bit: a ? b : c
      return _mm512_permutex2var_epi16(low, index, high);
    } else {
      static_assert(k == GgmlType::iq4_xs);
      return _mm512_permutexvar_epi16(both_nibbles(block + 8 + part * 16), low);
    }
  }

 private:
  static __m512i twice(Bytes table) { return bf16_of(table, table); }
  static __m512i words_at(const uint8_t* p) { return code_words(p); }
  // The low nibbles of sixteen bytes, then the high ones, each the lowest of a word.
  static __m512i both_nibbles(const uint8_t* p) {
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 0x40004, 0x40004, 0x40004, 0x40004);
    return _mm512_cvtepu8_epi16(_mm256_srlv_epi16(_mm256_broadcastsi128_si256(bytes_at(p)), shift));
  }
  // Mask of the bytes, of thirty-two, in which one bit is set.
  static __mmask32 bit_of(const uint8_t* p, int bit) {
    return _mm256_test_epi8_mask(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                                 _mm256_set1_epi8(static_cast<char>(1 << bit)));
  }
  __m512i of_five(__m512i words, __mmask32 top) const {
    return _mm512_mask_permutexvar_epi16(_mm512_permutexvar_epi16(words, low), top, words, high);
  }
};

struct Bf16Dots {
  static bool in_bf16(const WeightView& w) {
    return w.format == WeightFormat::bf16 || whole_codes(w) ||
           (w.format == WeightFormat::ggml && w.ggml != GgmlType::q8_0);
  }

  template <int kRows>
  static void add_bf16_rows(const WeightView& w, int64_t row, int64_t count, const Activations& x,
                            float (&sums)[kRows][kVector]) {
    constexpr int64_t kWide = 2 * kVector;
    for (int64_t j = 0; j < count; ++j) {
      Vec even[kRows], odd[kRows];
      LOWRANK_UNROLL
      for (int i = 0; i < kRows; ++i) even[i] = odd[i] = zero();
      const auto add_weights = [&](Vec(&to)[kRows], int64_t k, int64_t columns) {
        const __m512i weights = load_wide<WeightFormat::bf16>(w, row + j, k, columns);
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) to[i] = dot_pairs(weights, x.row<uint16_t>(i) + k, to[i]);
      };
      const char* const ahead = static_cast<const char*>(w.data) + (row + j) * w.ld * 2 + kWeightsAhead;
      int64_t k = 0;
      for (; k + 2 * kWide <= w.cols; k += 2 * kWide) {
        _mm_prefetch(ahead + k * 2, _MM_HINT_T0);
        _mm_prefetch(ahead + k * 2 + 64, _MM_HINT_T0);
        add_weights(even, k, kWide);
        add_weights(odd, k + kWide, kWide);
      }
      for (; k < w.cols; k += kWide) add_weights(even, k, w.cols - k);
      for (int i = 0; i < kRows; ++i) sums[i][j] += sum(add(even[i], odd[i]));
    }
  }

  struct FourBit {
    using Element = uint16_t;
    __m512i table, low, high;
    explicit FourBit(const WeightView& w) : table(code_table_bf16(code_table(w), 1)) {}
    void load_codes(const uint8_t* codes) {
      const __m512i words = code_words(codes);
      low = _mm512_permutexvar_epi16(words, table);
      high = _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), table);
    }
    Vec dot(const uint16_t* x) const { return dot_pairs(high, x + kCodeBlock / 2, dot_pairs(low, x, zero())); }
  };

  template <GgmlType kType>
  struct Bf16Part {
    using Element = uint16_t;
    PartTable<kType> table;
    __m512i values;
    void load_codes(const uint8_t* block, int part) { values = table.values(block, part); }
    Vec add_dot(const uint16_t* x, const float* scale, Vec sum) const {
      const Vec dot = dot_pairs(values, x, zero());
      if constexpr (!kIn16<kType>) return fma(dot, broadcast(scale[0]), sum);
      return fma(dot, _mm512_mask_broadcastss_ps(broadcast(scale[0]), 0xff00, _mm_load_ss(scale + 1)), sum);
    }
  };
  template <GgmlType kType>
  using Part = std::conditional_t<kType == GgmlType::q8_0, Fp32Dots::Part<kType>, Bf16Part<kType>>;
};
