// Packing for bf16 products: pairs of the reduction side by side, [k / 2][columns][2], which is what both the dot
// instruction and the tile unit want of their second operand. Scaled NF4 tables are rounded before the lookup, so a
// decoded weight is rounded exactly once.

inline __m512i narrow_pair(Vec high, Vec low) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)); }

// Columns [column, column + count) of one row of a dense weight as 32 bf16 values, zeros after them.
template <WeightFormat kFormat>
inline __m512i load_wide(const WeightView& w, int64_t row, int64_t column, int64_t count) {
  if constexpr (kFormat == WeightFormat::bf16) {
    const uint16_t* p = static_cast<const uint16_t*>(w.data) + row * w.ld + column;
    return count >= 32 ? _mm512_loadu_si512(p)
                       : _mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << count) - 1), p);
  } else {
    const Vec low = load_dense<kFormat>(w, row, column, count);
    const Vec high = count > kVector ? load_dense<kFormat>(w, row, column + kVector, count - kVector) : zero();
    return narrow_pair(high, low);
  }
}

// An NF4 block's sixteen values as bf16, twice: the fifth index bit then does not matter, nor what lies above it.
inline __m512i code_table_bf16(CodeTable table, float scale) {
  const Vec values = mul(table, broadcast(scale));
  return narrow_pair(values, values);
}
inline __m512i code_words(const uint8_t* codes) {
  return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
}

template <int kPanelVectorsOfLevel, int64_t kStepOfLevel>
struct Bf16Panels {
  using Element = uint16_t;
  static constexpr DType kType = DType::bf16;
  static constexpr int64_t kStep = kStepOfLevel;
  static constexpr int64_t kInterleave = 2;
  static constexpr int kPanelVectors = kPanelVectorsOfLevel;
  static constexpr int64_t kWide = 32;  // values of one register

  static void copy_row(const Matrix& x, int64_t row, const Piece& piece, uint16_t* out) {
    const int64_t first = row * x.ld + piece.begin;
    if (x.dtype == DType::bf16) {
      std::memcpy(out, host(x.data.as<uint16_t>()) + first, static_cast<size_t>(piece.count) * sizeof(uint16_t));
    } else {
      const float* in = host(x.data.as<float>()) + first;
      int64_t k = 0;
      for (; k + kWide <= piece.count; k += kWide) {
        _mm512_storeu_si512(out + k, narrow_pair(load(in + k + kVector), load(in + k)));
      }
      for (; k < piece.count; k += kVector) {
        const int64_t left = std::min<int64_t>(kVector, piece.count - k);
        store_bf16_first(out + k, load_first(in + k, left), left);
      }
    }
    std::fill(out + piece.count, out + piece.padded, uint16_t{0});
  }

  // Rows [row, row + valid) of w become sixteen columns (zeros after the valid ones).
  static void pack_rows(const WeightView& w, int64_t row, int64_t valid, const Piece& piece, Slot<uint16_t> slot) {
    switch (w.format) {
      case WeightFormat::f32:
        return transpose_dense<WeightFormat::f32>(w, row, valid, piece.begin, piece.count, piece.padded, slot);
      case WeightFormat::bf16:
        return transpose_dense<WeightFormat::bf16>(w, row, valid, piece.begin, piece.count, piece.padded, slot);
      case WeightFormat::f16:
        return transpose_dense<WeightFormat::f16>(w, row, valid, piece.begin, piece.count, piece.padded, slot);
      case WeightFormat::int8:
        return transpose_dense<WeightFormat::int8>(w, row, valid, piece.begin, piece.count, piece.padded, slot);
      case WeightFormat::four_bit:
      case WeightFormat::ggml:
        break;
    }
    if (whole_codes(w)) return transpose_codes(w, row, valid, piece, slot);
    alignas(64) float rows[kVector][kDecoded];
    for (int64_t k = 0; k < piece.count; k += kDecoded) {
      const int64_t count = std::min(kDecoded, piece.count - k), padded = std::min(kDecoded, piece.padded - k);
      decode_rows(w, row, valid, piece.begin + k, count, rows);
      transpose_dense<WeightFormat::f32>(decoded_view(rows), 0, valid, 0, count, padded,
                                         {slot.data + k / 2 * slot.stride, slot.stride});
    }
  }

  template <WeightFormat kFormat>
  static void transpose_dense(const WeightView& w, int64_t row, int64_t valid, int64_t begin, int64_t count,
                              int64_t padded, Slot<uint16_t> slot) {
    for (int64_t k = 0; k < padded; k += kWide) {
      Vec block[kVector];
      LOWRANK_UNROLL
      for (int i = 0; i < kVector; ++i) {
        block[i] = i < valid ? _mm512_castsi512_ps(load_wide<kFormat>(w, row + i, begin + k, count - k)) : zero();
      }
      store_block(block, std::min<int64_t>(kVector, (padded - k) / 2), slot.data + k / 2 * slot.stride, slot.stride);
    }
  }

  // Sixteen rows of sixteen pairs, transposed; the first `pairs` of the result are stored.
  static void store_block(Vec (&block)[kVector], int64_t pairs, uint16_t* out, int64_t stride) {
    transpose(block);
    if (pairs == kVector) {
      LOWRANK_UNROLL
      for (int i = 0; i < kVector; ++i) _mm512_storeu_ps(out + i * stride, block[i]);
    } else {
      LOWRANK_UNROLL
      for (int i = 0; i < kVector; ++i) {
        if (i < pairs) _mm512_storeu_ps(out + i * stride, block[i]);
      }
    }
  }

  static void transpose_codes(const WeightView& w, int64_t row, int64_t valid, const Piece& piece,
                              Slot<uint16_t> slot) {
    const CodeTable table = code_table(w);
    const int64_t row_blocks = w.cols / kCodeBlock;
    for (int64_t k = 0; k < piece.count; k += kCodeBlock) {
      const int64_t first = row * row_blocks + (piece.begin + k) / kCodeBlock;
      Vec low[kVector], high[kVector];
      LOWRANK_UNROLL
      for (int i = 0; i < kVector; ++i) {
        if (i < valid) {
          const int64_t block = first + i * row_blocks;
          const __m512i values = code_table_bf16(table, w.scale_of_block(block));
          const __m512i words = code_words(block_codes(w, block));
          low[i] = _mm512_castsi512_ps(_mm512_permutexvar_epi16(words, values));
          high[i] = _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), values));
        } else {
          low[i] = high[i] = zero();
        }
      }
      uint16_t* out = slot.data + k / 2 * slot.stride;
      store_block(low, kVector, out, slot.stride);
      store_block(high, kVector, out + kVector * slot.stride, slot.stride);
    }
  }

  // Columns [column, column + valid) of w, at most one quantization block of 64; rows in pairs, the last padded by
  // zeros.
  static void pack_columns(const WeightView& w, int64_t column, int64_t valid, const Piece& piece,
                           const Slot<uint16_t>* slots) {
    switch (w.format) {
      case WeightFormat::f32:
        copy_dense<WeightFormat::f32>(w, piece.begin, piece.count, column, valid, slots, 0);
        break;
      case WeightFormat::bf16:
        copy_dense<WeightFormat::bf16>(w, piece.begin, piece.count, column, valid, slots, 0);
        break;
      case WeightFormat::f16:
        copy_dense<WeightFormat::f16>(w, piece.begin, piece.count, column, valid, slots, 0);
        break;
      case WeightFormat::int8:
        copy_dense<WeightFormat::int8>(w, piece.begin, piece.count, column, valid, slots, 0);
        break;
      case WeightFormat::four_bit:
      case WeightFormat::ggml:
        if (whole_codes(w)) {
          copy_codes(w, column, valid, piece, slots);
        } else {
          alignas(64) float rows[kVector][kDecoded];
          for (int64_t k = 0; k < piece.count; k += kVector) {
            const int64_t count = std::min<int64_t>(kVector, piece.count - k);
            decode_rows(w, piece.begin + k, count, column, valid, rows);
            copy_dense<WeightFormat::f32>(decoded_view(rows), 0, count, 0, valid, slots, k);
          }
        }
    }
    for (int64_t pair = (piece.count + 1) / 2; pair < piece.padded / 2; ++pair) {
      for (int64_t v = 0; v * kVector < valid; ++v) {
        _mm512_storeu_si512(slots[v].data + pair * slots[v].stride, _mm512_setzero_si512());
      }
    }
  }

  template <WeightFormat kFormat>
  static void copy_dense(const WeightView& w, int64_t row, int64_t rows, int64_t column, int64_t valid,
                         const Slot<uint16_t>* slots, int64_t k) {
    // Quarter-registers ordered so that unpacking within 128 bits leaves columns in order.
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    for (int64_t i = 0; i < rows; i += 2) {
      const int64_t pair = (k + i) / 2;
      for (int64_t v = 0; v * kVector < valid; v += 2) {
        const int64_t first = column + v * kVector, left = valid - v * kVector;
        const __m512i even = load_wide<kFormat>(w, row + i, first, left);
        const __m512i odd = i + 1 < rows ? load_wide<kFormat>(w, row + i + 1, first, left) : _mm512_setzero_si512();
        const __m512i a = _mm512_permutexvar_epi64(order, even), b = _mm512_permutexvar_epi64(order, odd);
        _mm512_storeu_si512(slots[v].data + pair * slots[v].stride, _mm512_unpacklo_epi16(a, b));
        if (left > kVector) {
          _mm512_storeu_si512(slots[v + 1].data + pair * slots[v + 1].stride, _mm512_unpackhi_epi16(a, b));
        }
      }
    }
  }

  static void copy_codes(const WeightView& w, int64_t column, int64_t valid, const Piece& piece,
                         const Slot<uint16_t>* slots) {
    const CodeTable table = code_table(w);
    const int64_t row_blocks = w.cols / kCodeBlock;
    const int64_t quarter = column % kCodeBlock / kVector, count = (valid + kVector - 1) / kVector;
    // Words alternate between two rows; the second row's values follow the first's in the table.
    const __m512i second = _mm512_set1_epi32(16 << 16), nibble = _mm512_set1_epi16(15);
    for (int64_t i = 0; i < piece.count; i += 2) {
      const int64_t block = (piece.begin + i) * row_blocks + column / kCodeBlock;
      const bool alone = i + 1 == piece.count;
      const int64_t next = alone ? block : block + row_blocks;
      const Vec values_a = mul(table, broadcast(w.scale_of_block(block)));
      const Vec values_b = alone ? zero() : mul(table, broadcast(w.scale_of_block(next)));
      const __m512i values = narrow_pair(values_b, values_a);
      const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block_codes(w, block)));
      const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block_codes(w, next)));
      const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
      const __m512i first = _mm512_cvtepu8_epi16(_mm256_permute2x128_si256(low, high, 0x20));
      const __m512i last = _mm512_cvtepu8_epi16(_mm256_permute2x128_si256(low, high, 0x31));
      const auto place = [&](int64_t q, __m512i index) {
        if (q < quarter || q >= quarter + count) return;
        const Slot<uint16_t>& slot = slots[q - quarter];
        _mm512_storeu_si512(slot.data + i / 2 * slot.stride, _mm512_permutexvar_epi16(index, values));
      };
      place(0, _mm512_ternarylogic_epi64(first, nibble, second, 0xea));
      place(1, _mm512_ternarylogic_epi64(last, nibble, second, 0xea));
      place(2, _mm512_or_si512(_mm512_srli_epi16(first, 4), second));
      place(3, _mm512_or_si512(_mm512_srli_epi16(last, 4), second));
    }
  }
};
