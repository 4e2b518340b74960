// Products of bf16 matrices with the instruction that multiplies two rows of four values by two columns (BFMMLA). A
// panel is [k / 4][columns][4]: a register has four values of the reduction of two columns, one after the other.
// Weights are decoded as for fp32 and rounded once.

// Sixteen values of a row, four at a time: `fours` of them (1 to 4), `stride` elements apart.
LOWRANK_INLINE void place_fours(Vec values, int64_t fours, uint16_t* out, int64_t stride) {
  vst1_u16(out, narrow_bf16(values.a));
  if (fours > 1) vst1_u16(out + stride, narrow_bf16(values.b));
  if (fours > 2) vst1_u16(out + 2 * stride, narrow_bf16(values.c));
  if (fours > 3) vst1_u16(out + 3 * stride, narrow_bf16(values.d));
}

// Eight columns of four rows, one column's values after the other's.
LOWRANK_INLINE void place_columns(const uint16x8_t (&rows)[4], uint16_t* out) {
  const auto store_pairs = [&](uint16x8_t first, uint16x8_t second, uint16_t* to) LOWRANK_INLINE_LAMBDA {
    const uint32x4_t a = vreinterpretq_u32_u16(first), b = vreinterpretq_u32_u16(second);
    vst1q_u16(to, vreinterpretq_u16_u32(vzip1q_u32(a, b)));
    vst1q_u16(to + 8, vreinterpretq_u16_u32(vzip2q_u32(a, b)));
  };
  store_pairs(vzip1q_u16(rows[0], rows[1]), vzip1q_u16(rows[2], rows[3]), out);
  store_pairs(vzip2q_u16(rows[0], rows[1]), vzip2q_u16(rows[2], rows[3]), out + 16);
}
LOWRANK_INLINE void place_columns(const Vec (&rows)[4], uint16_t* out) {
  uint16x8_t low[4], high[4];
  LOWRANK_UNROLL
  for (int i = 0; i < 4; ++i) {
    low[i] = vcombine_u16(narrow_bf16(rows[i].a), narrow_bf16(rows[i].b));
    high[i] = vcombine_u16(narrow_bf16(rows[i].c), narrow_bf16(rows[i].d));
  }
  place_columns(low, out);
  place_columns(high, out + 32);
}

struct MmlaTiles {
  using Element = uint16_t;
  static constexpr DType kType = DType::bf16;
  static constexpr int64_t kStep = 4;
  static constexpr int64_t kInterleave = 4;
  static constexpr int kPanelVectors = 1;
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kAhead = 2048 / sizeof(Element);  // from the second-level cache, where the panels lie
  static constexpr int64_t kRunLength = kReductionBytes / static_cast<int64_t>(sizeof(Element));  // never cut
  static constexpr int64_t kSums = kTileRows * kPanelVectors * kVector;
  // Cycles per weight decoded, per activation loaded and per product: for splitting work only.
  static constexpr double kDecodeCycles = 0.5, kLoadCycles = 0.3, kMultiplyCycles = 1.0 / 64;

  static void enter(int64_t) {}
  static void leave() {}

  static int64_t row_tiles(int64_t m) { return (m + kTileRows - 1) / kTileRows; }
  static TileRows rows_of(int64_t m, int64_t tile, int64_t tiles) {
    const int64_t begin = part_begin(m, tiles, tile);
    return {begin, begin, part_begin(m, tiles, tile + 1)};
  }

  static void copy_row(const Matrix& x, int64_t row, const Piece& piece, uint16_t* out) {
    const int64_t first = row * x.ld + piece.begin;
    if (x.dtype == DType::bf16) {
      std::memcpy(out, host(x.data.as<uint16_t>()) + first, static_cast<size_t>(piece.count) * sizeof(uint16_t));
    } else {
      const float* const in = host(x.data.as<float>()) + first;
      int64_t k = 0;
      for (; k + kVector <= piece.count; k += kVector) store_bf16(out + k, load(in + k));
      if (k < piece.count) store_bf16_first(out + k, load_first(in + k, piece.count - k), piece.count - k);
    }
    std::fill(out + piece.count, out + piece.padded, uint16_t{0});
  }

  // Rows [row, row + valid) of w become sixteen columns (zeros after the valid ones).
  static void pack_rows(const WeightView& w, int64_t row, int64_t valid, const Piece& piece, Slot<uint16_t> slot) {
    switch (w.format) {
      case WeightFormat::f32:
        return place_rows<WeightFormat::f32>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::bf16:
        return place_rows<WeightFormat::bf16>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::f16:
        return place_rows<WeightFormat::f16>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::int8:
        return place_rows<WeightFormat::int8>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::four_bit:
      case WeightFormat::ggml:
        break;
    }
    if (whole_codes(w)) return place_code_rows(w, row, valid, piece, slot);
    alignas(64) float rows[kVector][kDecoded];
    for (int64_t k = 0; k < piece.count; k += kDecoded) {
      const int64_t count = std::min(kDecoded, piece.count - k);
      decode_rows(w, row, valid, piece.begin + k, count, rows);
      place_rows<WeightFormat::f32>(decoded_view(rows), 0, valid, 0, count,
                                    {slot.data + k / 4 * slot.stride, slot.stride});
    }
  }

  template <WeightFormat kFormat>
  static void place_rows(const WeightView& w, int64_t row, int64_t valid, int64_t begin, int64_t count,
                         Slot<uint16_t> slot) {
    for (int64_t i = 0; i < kVector; ++i) {
      for (int64_t k = 0; k < count; k += kVector) {
        const Vec values = i < valid ? load_dense<kFormat>(w, row + i, begin + k, count - k) : zero();
        place_fours(values, (count - k + 3) / 4, slot.data + k / 4 * slot.stride + i * 4, slot.stride);
      }
    }
  }

  static void place_code_rows(const WeightView& w, int64_t row, int64_t valid, const Piece& piece,
                              Slot<uint16_t> slot) {
    const CodeTable table = code_table(w);
    const int64_t row_blocks = w.cols / kCodeBlock;
    for (int64_t i = 0; i < kVector; ++i) {
      for (int64_t k = 0; k < piece.count; k += kCodeBlock) {
        const int64_t block = (row + std::min(i, valid - 1)) * row_blocks + (piece.begin + k) / kCodeBlock;
        const uint8_t* const codes = block_codes(w, block);
        const Vec scale = broadcast(i < valid ? w.scale_of_block(block) : 0.0f);
        uint16_t* const out = slot.data + k / 4 * slot.stride + i * 4;
        place_fours(mul(code_quarter<0>(table, codes), scale), 4, out, slot.stride);
        place_fours(mul(code_quarter<1>(table, codes), scale), 4, out + 4 * slot.stride, slot.stride);
        place_fours(mul(code_quarter<2>(table, codes), scale), 4, out + 8 * slot.stride, slot.stride);
        place_fours(mul(code_quarter<3>(table, codes), scale), 4, out + 12 * slot.stride, slot.stride);
      }
    }
  }

  // Columns [column, column + valid) of w, at most one quantization block of 64; rows in fours, the last padded by
  // zeros.
  static void pack_columns(const WeightView& w, int64_t column, int64_t valid, const Piece& piece,
                           const Slot<uint16_t>* slots) {
    switch (w.format) {
      case WeightFormat::f32:
        return place_dense<WeightFormat::f32>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::bf16:
        return place_dense<WeightFormat::bf16>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::f16:
        return place_dense<WeightFormat::f16>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::int8:
        return place_dense<WeightFormat::int8>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::four_bit:
      case WeightFormat::ggml:
        break;
    }
    if (whole_codes(w)) return place_codes(w, column, valid, piece, slots);
    alignas(64) float rows[kVector][kDecoded];
    for (int64_t k = 0; k < piece.count; k += kVector) {
      const int64_t count = std::min<int64_t>(kVector, piece.count - k);
      decode_rows(w, piece.begin + k, count, column, valid, rows);
      place_dense<WeightFormat::f32>(decoded_view(rows), 0, count, 0, valid, slots, k);
    }
  }

  template <WeightFormat kFormat>
  static void place_dense(const WeightView& w, int64_t row, int64_t rows, int64_t column, int64_t valid,
                          const Slot<uint16_t>* slots, int64_t k) {
    for (int64_t i = 0; i < rows; i += 4) {
      for (int64_t v = 0; v * kVector < valid; ++v) {
        Vec four[4];
        LOWRANK_UNROLL
        for (int j = 0; j < 4; ++j) {
          four[j] =
              i + j < rows ? load_dense<kFormat>(w, row + i + j, column + v * kVector, valid - v * kVector) : zero();
        }
        place_columns(four, slots[v].data + (k + i) / 4 * slots[v].stride);
      }
    }
  }

  static void place_codes(const WeightView& w, int64_t column, int64_t valid, const Piece& piece,
                          const Slot<uint16_t>* slots) {
    const int64_t quarter = column % kCodeBlock / kVector, end = quarter + (valid + kVector - 1) / kVector;
    if (quarter == 0) place_quarter<0>(w, column, piece, slots[0]);
    if (quarter <= 1 && end > 1) place_quarter<1>(w, column, piece, slots[1 - quarter]);
    if (quarter <= 2 && end > 2) place_quarter<2>(w, column, piece, slots[2 - quarter]);
    if (end > 3) place_quarter<3>(w, column, piece, slots[3 - quarter]);
  }

  template <int kQuarter>
  static void place_quarter(const WeightView& w, int64_t column, const Piece& piece, Slot<uint16_t> slot) {
    const CodeTable table = code_table(w);
    const int64_t row_blocks = w.cols / kCodeBlock;
    for (int64_t i = 0; i < piece.count; i += 4) {
      Vec four[4];
      LOWRANK_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int64_t row = std::min(i + j, piece.count - 1),
                      block = (piece.begin + row) * row_blocks + column / kCodeBlock;
        const Vec scale = broadcast(i + j < piece.count ? w.scale_of_block(block) : 0.0f);
        four[j] = mul(code_quarter<kQuarter>(table, block_codes(w, block)), scale);
      }
      place_columns(four, slot.data + i / 4 * slot.stride);
    }
  }

  // Sums of two rows by two columns to a register.
  template <int kRows>
  static void sum_tile(const RowPiece<uint16_t>* pieces, int count, const uint16_t* panel, float* sums) {
    constexpr int kRowPairs = (kRows + 1) / 2, kColumnPairs = kVector / 2;
    float32x4_t c[kRowPairs][kColumnPairs];
    LOWRANK_UNROLL
    for (int i = 0; i < kRowPairs; ++i) {
      LOWRANK_UNROLL
      for (int j = 0; j < kColumnPairs; ++j) c[i][j] = vdupq_n_f32(0);
    }
    for (int p = 0; p < count; ++p) {
      const uint16_t* a = pieces[p].data;
      const int64_t ld = pieces[p].ld;
      for (int64_t steps = pieces[p].steps; steps > 0; --steps, a += 4, panel += 4 * kVector) {
        bfloat16x8_t x[kRowPairs];
        LOWRANK_UNROLL
        for (int i = 0; i < kRowPairs; ++i) {
          // The second row of the last pair may be none: then the first one counts twice, and is stored once.
          const uint16_t* const row = a + 2 * i * ld;
          x[i] = vreinterpretq_bf16_u16(vcombine_u16(vld1_u16(row), vld1_u16(2 * i + 1 < kRows ? row + ld : row)));
        }
        __builtin_prefetch(panel + kAhead, 0, 3);
        __builtin_prefetch(panel + kAhead + 2 * kVector, 0, 3);
        LOWRANK_UNROLL
        for (int j = 0; j < kColumnPairs; ++j) {
          // Not all columns at once: the sums leave registers for four of them.
          if (j % 4 == 0) asm volatile("" ::: "memory");
          const bfloat16x8_t b = vreinterpretq_bf16_u16(vld1q_u16(panel + 8 * j));
          LOWRANK_UNROLL
          for (int i = 0; i < kRowPairs; ++i) c[i][j] = vbfmmlaq_f32(c[i][j], x[i], b);
        }
      }
    }
    LOWRANK_UNROLL
    for (int i = 0; i < kRowPairs; ++i) {
      LOWRANK_UNROLL
      for (int j = 0; j < kColumnPairs; ++j) {
        vst1_f32(sums + 2 * i * kVector + 2 * j, vget_low_f32(c[i][j]));
        if (2 * i + 1 < kRows) vst1_f32(sums + (2 * i + 1) * kVector + 2 * j, vget_high_f32(c[i][j]));
      }
    }
  }

  static void sum(const RowPiece<uint16_t>* pieces, int count, const uint16_t* panel, int, TileRows tile, float* sums,
                  bool) {
    constexpr decltype(&sum_tile<1>) kernels[] = {sum_tile<1>, sum_tile<2>, sum_tile<3>,
                                                  sum_tile<4>, sum_tile<5>, sum_tile<6>};
    kernels[tile.end - tile.begin - 1](pieces, count, panel, sums);
  }

  static void finish(const float* sums, int64_t width, TileRows tile, int64_t columns, const Output& y,
                     int64_t column) {
    finish_tile(sums, width, tile.end - tile.begin, columns, y, tile.begin, column);
  }
};
