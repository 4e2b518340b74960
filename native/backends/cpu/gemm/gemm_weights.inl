// Reading stored weights: sixteen values of a dense row, and the codes of a quantized block.

inline constexpr int kVector = 16;

// Asks for columns [column, column + columns) of some rows to be brought into the second-level cache.
inline void prefetch_weights(const WeightView& w, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  const bool blocks = w.format == WeightFormat::ggml, quantized = w.format == WeightFormat::four_bit;
  const int64_t ld = quantized ? w.cols : w.ld;
  const int64_t bits = quantized ? 4 : w.format == WeightFormat::int8 ? 8 : w.format == WeightFormat::f32 ? 32 : 16;
  const int64_t bytes = blocks ? layout_of(w.ggml).row_bytes(columns) : columns * bits / 8;
  for (int64_t i = row; i < row + rows; ++i) {
    const auto* first = blocks ? w.block_row(i) + layout_of(w.ggml).row_bytes(column)
                               : static_cast<const uint8_t*>(w.data) + (i * ld + column) * bits / 8;
    for (int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(first + byte, 0, 2);
  }
}

// Columns [column, column + count) of one row of a dense weight as fp32, zeros after them; those of int8 still to be
// scaled.
template <WeightFormat kFormat>
inline Vec load_unscaled(const WeightView& w, int64_t row, int64_t column, int64_t count) {
  const int64_t index = row * w.ld + column;
  if constexpr (kFormat == WeightFormat::f32) {
    const float* p = static_cast<const float*>(w.data) + index;
    return count >= kVector ? load(p) : load_first(p, count);
  } else if constexpr (kFormat == WeightFormat::int8) {
    const int8_t* p = static_cast<const int8_t*>(w.data) + index;
    int8_t first[kVector] = {};
    if (count < kVector) std::memcpy(first, p, static_cast<size_t>(count));
    return from_i8(bytes_at(count >= kVector ? p : first));
  } else {
    const uint16_t* p = static_cast<const uint16_t*>(w.data) + index;
    if constexpr (kFormat == WeightFormat::bf16) return count >= kVector ? load_bf16(p) : load_bf16_first(p, count);
    return count >= kVector ? load_f16(p) : load_f16_first(p, count);
  }
}
template <WeightFormat kFormat>
inline Vec load_dense(const WeightView& w, int64_t row, int64_t column, int64_t count) {
  const Vec values = load_unscaled<kFormat>(w, row, column, count);
  // In the order of the reference decoder, so that rounding is the same.
  if constexpr (kFormat == WeightFormat::int8) return mul(mul(values, broadcast(w.absmax[row])), broadcast(kInt8Step));
  return values;
}

// 64 codes start at column `column` of row `row`; only for rows made of whole blocks.
inline const uint8_t* block_codes(const WeightView& w, int64_t block) {
  return static_cast<const uint8_t*>(w.data) + block * (kCodeBlock / 2);
}

// True if a weight consists of such rows.
inline bool whole_codes(const WeightView& w) { return w.format == WeightFormat::four_bit && w.cols % kCodeBlock == 0; }

// Quarter q of a block: elements 16 q .. 16 q + 15.
template <int kQuarter>
inline Vec code_quarter(CodeTable table, const uint8_t* codes) {
  return code_values<(kQuarter / 2) * 4>(table, codes + (kQuarter % 2) * kVector);
}
