// Sixteen bytes for the levels of x86-64: what decoding GGML blocks takes. The NEON file has the same functions.

using Bytes = __m128i;
inline Bytes bytes_at(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline Bytes every(char value) { return _mm_set1_epi8(value); }
inline Bytes either(Bytes a, Bytes b) { return _mm_or_si128(a, b); }
inline Bytes less(Bytes codes, char offset) { return _mm_sub_epi8(codes, every(offset)); }
// Bits [shift, shift + n) of each, where `mask` has n bits set.
inline Bytes bits_of(Bytes bytes, int shift, char mask) {
  return _mm_and_si128(_mm_srl_epi16(bytes, _mm_cvtsi32_si128(shift)), every(mask));
}
// Values are below 16.
inline Bytes times_16(Bytes values) { return _mm_slli_epi16(values, 4); }
// `value` in the bytes that have a bit of `bit` set.
inline Bytes where_set(Bytes bytes, Bytes bit, char value) {
  return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(bytes, bit), bit), every(value));
}
// 16 in byte j where bit j of the word is set.
inline Bytes fifth_bits(const uint8_t* word) {
  uint16_t bits;
  std::memcpy(&bits, word, sizeof bits);
  const Bytes spread = _mm_shuffle_epi8(_mm_set1_epi16(static_cast<short>(bits)),
                                        _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
  return where_set(spread, _mm_set1_epi64x(static_cast<int64_t>(0x8040201008040201u)), 16);
}
// table[codes] of codes below 16.
inline Bytes look_up(const int8_t* table, Bytes codes) { return _mm_shuffle_epi8(bytes_at(table), codes); }
inline float half_at(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof bits);
  return _cvtsh_ss(bits);
}
