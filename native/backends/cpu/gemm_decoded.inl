// Rows decoded to fp32 before they are packed: GGML blocks, and odd shapes whose 4-bit blocks cross rows.

// Values [32 part, 32 part + 32) of a GGML block, in the order of operations of the reference decoders (quant/ggml.cpp
// says what lies where), so that the values are the same to the bit.

inline constexpr int64_t kPart = 32;

inline Bytes nibbles(const uint8_t* p, int shift) { return bits_of(bytes_at(p), shift, 15); }
inline Vec scaled(Bytes codes, float scale) { return mul(from_i8(codes), broadcast(scale)); }
inline Vec scaled(Bytes codes, float scale, float offset) { return add(scaled(codes, scale), broadcast(offset)); }

template <GgmlType kType>
inline void decode_part(const uint8_t* block, int part, Vec (&out)[2]) {
  constexpr GgmlType k = kType;
  constexpr bool has_minimum = k == GgmlType::q4_1 || k == GgmlType::q5_1;
  if constexpr (k == GgmlType::q8_0) {
    const float d = half_at(block);
    for (int v = 0; v < 2; ++v) out[v] = scaled(bytes_at(block + 2 + v * 16), d);
  } else if constexpr (k == GgmlType::q4_0 || k == GgmlType::q4_1 || k == GgmlType::q5_0 || k == GgmlType::q5_1 ||
                       k == GgmlType::iq4_nl) {
    constexpr bool has_fifth = k == GgmlType::q5_0 || k == GgmlType::q5_1;
    constexpr int at_fifth = has_minimum ? 4 : 2, at_nibbles = at_fifth + (has_fifth ? 4 : 0);
    const float d = half_at(block);
    for (int v = 0; v < 2; ++v) {
      Bytes codes = nibbles(block + at_nibbles, v * 4);
      if constexpr (has_fifth) codes = either(codes, fifth_bits(block + at_fifth + v * 2));
      if constexpr (k == GgmlType::iq4_nl) codes = look_up(kIq4Values, codes);
      if constexpr (has_minimum) {
        out[v] = scaled(codes, d, half_at(block + 2));
      } else {
        constexpr char offset = k == GgmlType::q4_0 ? 8 : k == GgmlType::q5_0 ? 16 : 0;
        out[v] = scaled(less(codes, offset), d);
      }
    }
  } else if constexpr (k == GgmlType::q2_k || k == GgmlType::q3_k) {
    const uint8_t* const codes = block + (k == GgmlType::q2_k ? 16 : 32) + part / 4 * 32;
    for (int v = 0; v < 2; ++v) {
      const int sub = part * 2 + v;
      const Bytes two = bits_of(bytes_at(codes + v * 16), part % 4 * 2, 3);
      if constexpr (k == GgmlType::q2_k) {
        out[v] = scaled(two, half_at(block + 80) * static_cast<float>(block[sub] & 15),
                        -(half_at(block + 82) * static_cast<float>(block[sub] >> 4)));
      } else {
        const Bytes third = where_set(bytes_at(block + v * 16), every(static_cast<char>(1 << part)), 4);
        out[v] = scaled(less(either(two, third), 4),
                        half_at(block + 108) * static_cast<float>(q3_k_scale(block + 96, sub)));
      }
    }
  } else if constexpr (k == GgmlType::q4_k || k == GgmlType::q5_k) {
    const ScaleMin s = scale_min(block + 4, part);
    const float scale = half_at(block) * static_cast<float>(s.scale);
    const float offset = -(half_at(block + 2) * static_cast<float>(s.min));
    const uint8_t* const low = block + (k == GgmlType::q4_k ? 16 : 48) + part / 2 * 32;
    for (int v = 0; v < 2; ++v) {
      Bytes codes = nibbles(low + v * 16, part % 2 * 4);
      if constexpr (k == GgmlType::q5_k) {
        const Bytes bit = every(static_cast<char>(1 << part));
        codes = either(codes, where_set(bytes_at(block + 16 + v * 16), bit, 16));
      }
      out[v] = scaled(codes, scale, offset);
    }
  } else if constexpr (k == GgmlType::q6_k) {
    const float d = half_at(block + 208);
    const uint8_t* const low = block + part / 4 * 64 + part % 2 * 32;
    const uint8_t* const high = block + 128 + part / 4 * 32;
    for (int v = 0; v < 2; ++v) {
      const Bytes top = times_16(bits_of(bytes_at(high + v * 16), part % 4 * 2, 3));
      const Bytes codes = less(either(nibbles(low + v * 16, part % 4 / 2 * 4), top), 32);
      out[v] = scaled(codes, d * static_cast<float>(static_cast<int8_t>(block[192 + part * 2 + v])));
    }
  } else {
    static_assert(k == GgmlType::iq4_xs);
    const float scale = half_at(block) * static_cast<float>(iq4_xs_scale(block, part));
    const uint8_t* const low = block + 8 + part * 16;
    for (int v = 0; v < 2; ++v) out[v] = scaled(look_up(kIq4Values, nibbles(low, v * 4)), scale);
  }
}

// body(column, values) for the parts of a row that hold columns [column, column + columns); column is that of a part.
template <GgmlType kType, class Body>
inline void for_parts(const uint8_t* row, int64_t column, int64_t columns, Body&& body) {
  constexpr GgmlLayout layout = layout_of(kType);
  for (int64_t at = column; at < column + columns; at += kPart) {
    Vec values[2];
    decode_part<kType>(row + at / layout.elements * layout.bytes, static_cast<int>(at % layout.elements / kPart), values);
    body(at, values);
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
        for_parts<decltype(blocks)::type>(w.block_row(row + i), column, columns, [&](int64_t at, const Vec(&values)[2]) {
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
