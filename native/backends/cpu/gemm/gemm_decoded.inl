// Rows decoded to fp32 before they are packed: GGML blocks, and odd shapes whose 4-bit blocks cross rows.

// GGML blocks, in parts of 32 values. An element is scale * code, or scale * code + offset, where a group of elements
// shares scale and offset; quant/ggml.cpp says what lies where. The order of operations is that of the reference
// decoders, so that the values are the same to the bit.

inline constexpr int64_t kPart = 32;

template <GgmlType k>
inline constexpr bool kIn16 = k == GgmlType::q2_k || k == GgmlType::q3_k || k == GgmlType::q6_k;
template <GgmlType k>
inline constexpr int64_t kGroup = kIn16<k> ? 16 : 32;  // elements that share a scale
template <GgmlType k>
inline constexpr bool kHasOffset =
    k == GgmlType::q4_1 || k == GgmlType::q5_1 || k == GgmlType::q2_k || k == GgmlType::q4_k || k == GgmlType::q5_k;
// Elements whose scales are decoded at a time: those of a super-block, or of sixteen plain blocks.
template <GgmlType k>
inline constexpr int64_t kRun = layout_of(k).elements == kGgmlSuperBlock ? kGgmlSuperBlock : kVector * kGgmlBlock;

inline Bytes nibbles(const uint8_t* p, int shift) { return bits_of(bytes_at(p), shift, 15); }

// The codes of a part, signed.
template <GgmlType k>
inline void part_codes(const uint8_t* block, int part, Bytes (&codes)[2]) {
  for (int v = 0; v < 2; ++v) {
    if constexpr (k == GgmlType::q8_0) {
      codes[v] = bytes_at(block + 2 + v * 16);
    } else if constexpr (k == GgmlType::q4_0 || k == GgmlType::q4_1 || k == GgmlType::q5_0 || k == GgmlType::q5_1 ||
                         k == GgmlType::iq4_nl) {
      constexpr bool has_fifth = k == GgmlType::q5_0 || k == GgmlType::q5_1;
      constexpr int at_fifth = kHasOffset<k> ? 4 : 2, at_nibbles = at_fifth + (has_fifth ? 4 : 0);
      codes[v] = nibbles(block + at_nibbles, v * 4);
      if constexpr (has_fifth) codes[v] = either(codes[v], fifth_bits(block + at_fifth + v * 2));
      if constexpr (k == GgmlType::iq4_nl) codes[v] = look_up(kIq4Values, codes[v]);
      if constexpr (k == GgmlType::q4_0) codes[v] = less(codes[v], 8);
      if constexpr (k == GgmlType::q5_0) codes[v] = less(codes[v], 16);
    } else if constexpr (k == GgmlType::q2_k || k == GgmlType::q3_k) {
      const uint8_t* const two = block + (k == GgmlType::q2_k ? 16 : 32) + part / 4 * 32;
      codes[v] = bits_of(bytes_at(two + v * 16), part % 4 * 2, 3);
      if constexpr (k == GgmlType::q3_k) {
        const Bytes third = where_set(bytes_at(block + v * 16), every(static_cast<char>(1 << part)), 4);
        codes[v] = less(either(codes[v], third), 4);
      }
    } else if constexpr (k == GgmlType::q4_k || k == GgmlType::q5_k) {
      codes[v] = nibbles(block + (k == GgmlType::q4_k ? 16 : 48) + part / 2 * 32 + v * 16, part % 2 * 4);
      if constexpr (k == GgmlType::q5_k) {
        const Bytes bit = every(static_cast<char>(1 << part));
        codes[v] = either(codes[v], where_set(bytes_at(block + 16 + v * 16), bit, 16));
      }
    } else if constexpr (k == GgmlType::q6_k) {
      const uint8_t* const low = block + part / 4 * 64 + part % 2 * 32;
      const uint8_t* const high = block + 128 + part / 4 * 32;
      const Bytes top = times_16(bits_of(bytes_at(high + v * 16), part % 4 * 2, 3));
      codes[v] = less(either(nibbles(low + v * 16, part % 4 / 2 * 4), top), 32);
    } else {
      static_assert(k == GgmlType::iq4_xs);
      codes[v] = look_up(kIq4Values, nibbles(block + 8 + part * 16, v * 4));
    }
  }
}

// Scales of the groups of a run; those past its end are zero.
struct RunScales {
  alignas(64) float scale[kVector] = {};
  alignas(64) float offset[kVector] = {};
};

inline uint32_t word_at(const uint8_t* p) {
  uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}
// Sixteen bytes, four to a word.
struct Sixteen {
  uint8_t at[16];
  void set(int i, uint32_t word) { std::memcpy(at + 4 * i, &word, sizeof word); }
};
// The 6-bit scales and minima of Q4_K and Q5_K, see `scale_min`: eight of the one, then eight of the other.
inline Sixteen six_bits(const uint8_t* packed) {
  const uint32_t a = word_at(packed), b = word_at(packed + 4), c = word_at(packed + 8);
  Sixteen out;
  out.set(0, a & 0x3f3f3f3f);
  out.set(1, (c & 0x0f0f0f0f) | (a >> 2 & 0x30303030));
  out.set(2, b & 0x3f3f3f3f);
  out.set(3, (c >> 4 & 0x0f0f0f0f) | (b >> 2 & 0x30303030));
  return out;
}
// The 6-bit scales of Q3_K plus 32, see `q3_k_scale`.
inline Sixteen q3_k_scales(const uint8_t* packed) {
  const uint32_t a = word_at(packed), b = word_at(packed + 4), c = word_at(packed + 8);
  Sixteen out;
  out.set(0, (a & 0x0f0f0f0f) | (c << 4 & 0x30303030));
  out.set(1, (b & 0x0f0f0f0f) | (c << 2 & 0x30303030));
  out.set(2, (a >> 4 & 0x0f0f0f0f) | (c & 0x30303030));
  out.set(3, (b >> 4 & 0x0f0f0f0f) | (c >> 2 & 0x30303030));
  return out;
}

// Scales of the run that starts with a block and has `parts` parts.
template <GgmlType k>
inline void decode_scales(const uint8_t* block, int64_t parts, RunScales& out) {
  if constexpr (layout_of(k).elements == kGgmlBlock) {
    Vec scale, offset;
    halves_at(block, layout_of(k).bytes, parts, scale, offset);
    store(out.scale, scale);
    if constexpr (kHasOffset<k>) store(out.offset, offset);
  } else if constexpr (k == GgmlType::q2_k) {
    const float d = half_at(block + 80), least = half_at(block + 82);
    for (int i = 0; i < kVector; ++i) {
      out.scale[i] = d * static_cast<float>(block[i] & 15);
      out.offset[i] = -(least * static_cast<float>(block[i] >> 4));
    }
  } else if constexpr (k == GgmlType::q3_k) {
    const float d = half_at(block + 108);
    const Sixteen packed = q3_k_scales(block + 96);
    for (int i = 0; i < kVector; ++i) out.scale[i] = d * static_cast<float>(packed.at[i] - 32);
  } else if constexpr (k == GgmlType::q4_k || k == GgmlType::q5_k) {
    const float d = half_at(block), least = half_at(block + 2);
    const Sixteen packed = six_bits(block + 4);
    for (int i = 0; i < 8; ++i) out.scale[i] = d * static_cast<float>(packed.at[i]);
    for (int i = 0; i < 8; ++i) out.offset[i] = -(least * static_cast<float>(packed.at[8 + i]));
  } else if constexpr (k == GgmlType::q6_k) {
    const float d = half_at(block + 208);
    for (int i = 0; i < kVector; ++i) out.scale[i] = d * static_cast<float>(static_cast<int8_t>(block[192 + i]));
  } else {
    static_assert(k == GgmlType::iq4_xs);
    const float d = half_at(block);
    const uint32_t low = word_at(block + 4), high = word_at(block) >> 16;
    for (int i = 0; i < 8; ++i) {
      const uint32_t six = (low >> (4 * i) & 15) | (high >> (2 * i) & 3) << 4;
      out.scale[i] = d * static_cast<float>(static_cast<int>(six) - 32);
    }
  }
}

// body(column, values) for the parts of a row that hold columns [column, column + columns); column is that of a part.
template <GgmlType kType, class Body>
inline void for_parts(const uint8_t* row, int64_t column, int64_t columns, Body&& body) {
  constexpr GgmlLayout layout = layout_of(kType);
  constexpr int64_t kBlockParts = layout.elements / kPart;
  for (int64_t at = column, end = column + columns; at < end;) {
    const uint8_t* const first = row + at / layout.elements * layout.bytes;
    const int64_t before = at % layout.elements / kPart;  // parts of the run
    const int64_t parts = std::min(kRun<kType> / kPart, before + (end - at + kPart - 1) / kPart);
    RunScales run;
    decode_scales<kType>(first, parts, run);
    for (int64_t part = before; part < parts; ++part, at += kPart) {
      Bytes codes[2];
      part_codes<kType>(first + part / kBlockParts * layout.bytes, static_cast<int>(part % kBlockParts), codes);
      Vec values[2];
      for (int v = 0; v < 2; ++v) {
        const int64_t group = kIn16<kType> ? 2 * part + v : part;
        values[v] = mul(from_i8(codes[v]), broadcast(run.scale[group]));
        if constexpr (kHasOffset<kType>) values[v] = add(values[v], broadcast(run.offset[group]));
      }
      body(at, values);
    }
  }
}

// body(a GgmlType as a type).
template <GgmlType kType>
struct Blocks {
  static constexpr GgmlType type = kType;
};
template <class Body>
inline void with_type(GgmlType type, Body&& body) {
  switch (type) {
    case GgmlType::q8_0:
      return body(Blocks<GgmlType::q8_0>{});
    case GgmlType::q4_0:
      return body(Blocks<GgmlType::q4_0>{});
    case GgmlType::q4_1:
      return body(Blocks<GgmlType::q4_1>{});
    case GgmlType::q5_0:
      return body(Blocks<GgmlType::q5_0>{});
    case GgmlType::q5_1:
      return body(Blocks<GgmlType::q5_1>{});
    case GgmlType::iq4_nl:
      return body(Blocks<GgmlType::iq4_nl>{});
    case GgmlType::q2_k:
      return body(Blocks<GgmlType::q2_k>{});
    case GgmlType::q3_k:
      return body(Blocks<GgmlType::q3_k>{});
    case GgmlType::q4_k:
      return body(Blocks<GgmlType::q4_k>{});
    case GgmlType::q5_k:
      return body(Blocks<GgmlType::q5_k>{});
    case GgmlType::q6_k:
      return body(Blocks<GgmlType::q6_k>{});
    case GgmlType::iq4_xs:
      return body(Blocks<GgmlType::iq4_xs>{});
  }
}

// Columns [column, column + columns), at most 64, of up to sixteen rows.
constexpr int64_t kDecoded = 64;
inline void decode_rows(const WeightView& w, int64_t row, int64_t rows, int64_t column, int64_t columns,
                        float (&out)[kVector][kDecoded]) {
  if (w.format == WeightFormat::ggml && column % kPart == 0) {
    with_type(w.ggml, [&](auto blocks) {
      for (int64_t i = 0; i < rows; ++i) {
        for_parts<decltype(blocks)::type>(w.block_row(row + i), column, columns,
                                          [&](int64_t at, const Vec(&values)[2]) {
                                            store(out[i] + at - column, values[0]);
                                            store(out[i] + at - column + kVector, values[1]);
                                          });
      }
    });
    return;
  }
  for (int64_t i = 0; i < rows; ++i) decode_row(w, row + i, column, columns, out[i]);
}
inline WeightView decoded_view(const float (&rows)[kVector][kDecoded]) {
  WeightView view;
  view.data = rows;
  view.ld = kDecoded;
  return view;
}
