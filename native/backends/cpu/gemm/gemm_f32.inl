// The fp32 kernels, written against sixteen-value vectors: panels of kPanelVectors * 16 columns, [k][columns], and
// tiles of up to kFp32TileRows rows. Forward and backward weights end up in the same layout, so one tile kernel serves
// both.

struct Fp32 {
  using Element = float;
  static constexpr DType kType = DType::f32;
  static constexpr int64_t kStep = 1;
  static constexpr int64_t kInterleave = 1;
  static constexpr int kPanelVectors = kFp32PanelVectors;
  static constexpr int64_t kTileRows = kFp32TileRows;
  static constexpr int64_t kAhead = 2048 / sizeof(Element);  // from the second-level cache, where the panels lie
  static constexpr int64_t kRunLength = kReductionBytes / static_cast<int64_t>(sizeof(Element));  // never cut
  static constexpr int64_t kSums = kTileRows * kPanelVectors * kVector;
  // Cycles per weight decoded, per activation loaded and per product: for splitting work only.
  static constexpr double kDecodeCycles = 0.5, kLoadCycles = 0.3, kMultiplyCycles = 1.0 / 32;

  static void enter(int64_t) {}
  static void leave() {}

  static int64_t row_tiles(int64_t m) { return (m + kTileRows - 1) / kTileRows; }
  static TileRows rows_of(int64_t m, int64_t tile, int64_t tiles) {
    const int64_t begin = part_begin(m, tiles, tile);
    return {begin, begin, part_begin(m, tiles, tile + 1)};
  }

  static void copy_row(const Matrix& x, int64_t row, const Piece& piece, float* out) {
    const int64_t first = row * x.ld + piece.begin;
    if (x.dtype == DType::f32) {
      std::memcpy(out, host(x.data.as<float>()) + first, static_cast<size_t>(piece.count) * sizeof(float));
      return;
    }
    const uint16_t* in = host(x.data.as<uint16_t>()) + first;
    int64_t k = 0;
    for (; k + kVector <= piece.count; k += kVector) store(out + k, load_bf16(in + k));
    for (; k < piece.count; ++k) out[k] = f32_from_bf16(in[k]);
  }

  // Rows [row, row + valid) of w become sixteen columns (zeros after the valid ones).
  static void pack_rows(const WeightView& w, int64_t row, int64_t valid, const Piece& piece, Slot<float> slot) {
    switch (w.format) {
      case WeightFormat::f32:
        return transpose_dense<WeightFormat::f32>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::bf16:
        return transpose_dense<WeightFormat::bf16>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::f16:
        return transpose_dense<WeightFormat::f16>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::int8:
        return transpose_dense<WeightFormat::int8>(w, row, valid, piece.begin, piece.count, slot);
      case WeightFormat::four_bit:
      case WeightFormat::ggml:
        break;
    }
    if (whole_codes(w)) return transpose_codes(w, row, valid, piece, slot);
    alignas(64) float rows[kVector][kDecoded];
    for (int64_t k = 0; k < piece.count; k += kDecoded) {
      const int64_t count = std::min(kDecoded, piece.count - k);
      decode_rows(w, row, valid, piece.begin + k, count, rows);
      transpose_dense<WeightFormat::f32>(decoded_view(rows), 0, valid, 0, count,
                                         {slot.data + k * slot.stride, slot.stride});
    }
  }

  template <WeightFormat kFormat>
  static void transpose_dense(const WeightView& w, int64_t row, int64_t valid, int64_t begin, int64_t count,
                              Slot<float> slot) {
    for (int64_t k = 0; k < count; k += kVector) {
      const int64_t left = std::min<int64_t>(kVector, count - k);
      Vec block[kVector];
      LOWRANK_UNROLL
      for (int i = 0; i < kVector; ++i)
        block[i] = i < valid ? load_dense<kFormat>(w, row + i, begin + k, left) : zero();
      store_block(block, left, slot.data + k * slot.stride, slot.stride);
    }
  }

  static void store_block(Vec (&block)[kVector], int64_t count, float* out, int64_t stride) {
    transpose(block);
    if (count == kVector) {
      LOWRANK_UNROLL
      for (int i = 0; i < kVector; ++i) store(out + i * stride, block[i]);
    } else {
      LOWRANK_UNROLL
      for (int i = 0; i < kVector; ++i) {
        if (i < count) store(out + i * stride, block[i]);
      }
    }
  }

  static void transpose_codes(const WeightView& w, int64_t row, int64_t valid, const Piece& piece, Slot<float> slot) {
    const CodeTable table = code_table(w);
    const int64_t row_blocks = w.cols / kCodeBlock;
    for (int64_t k = 0; k < piece.count; k += kCodeBlock) {
      const uint8_t* codes[kVector];
      float scales[kVector];
      for (int64_t i = 0; i < kVector; ++i) {
        const int64_t block = (row + std::min(i, valid - 1)) * row_blocks + (piece.begin + k) / kCodeBlock;
        codes[i] = block_codes(w, block);
        scales[i] = i < valid ? w.scale_of_block(block) : 0.0f;
      }
      float* out = slot.data + k * slot.stride;
      transpose_quarter<0>(table, codes, scales, out, slot.stride);
      transpose_quarter<1>(table, codes, scales, out, slot.stride);
      transpose_quarter<2>(table, codes, scales, out, slot.stride);
      transpose_quarter<3>(table, codes, scales, out, slot.stride);
    }
  }

  template <int kQuarter>
  static void transpose_quarter(CodeTable table, const uint8_t* const (&codes)[kVector], const float (&scales)[kVector],
                                float* out, int64_t stride) {
    Vec block[kVector];
    LOWRANK_UNROLL
    for (int i = 0; i < kVector; ++i) block[i] = mul(code_quarter<kQuarter>(table, codes[i]), broadcast(scales[i]));
    store_block(block, kVector, out + kQuarter * kVector * stride, stride);
  }

  // Columns [column, column + valid) of w, at most one quantization block of 64.
  static void pack_columns(const WeightView& w, int64_t column, int64_t valid, const Piece& piece,
                           const Slot<float>* slots) {
    switch (w.format) {
      case WeightFormat::f32:
        return copy_dense<WeightFormat::f32>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::bf16:
        return copy_dense<WeightFormat::bf16>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::f16:
        return copy_dense<WeightFormat::f16>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::int8:
        return copy_dense<WeightFormat::int8>(w, piece.begin, piece.count, column, valid, slots, 0);
      case WeightFormat::four_bit:
      case WeightFormat::ggml:
        break;
    }
    if (whole_codes(w)) return copy_codes(w, column, valid, piece, slots);
    alignas(64) float rows[kVector][kDecoded];
    for (int64_t k = 0; k < piece.count; k += kVector) {
      const int64_t count = std::min<int64_t>(kVector, piece.count - k);
      decode_rows(w, piece.begin + k, count, column, valid, rows);
      copy_dense<WeightFormat::f32>(decoded_view(rows), 0, count, 0, valid, slots, k);
    }
  }

  template <WeightFormat kFormat>
  static void copy_dense(const WeightView& w, int64_t row, int64_t rows, int64_t column, int64_t valid,
                         const Slot<float>* slots, int64_t k) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t v = 0; v * kVector < valid; ++v) {
        store(slots[v].data + (k + i) * slots[v].stride,
              load_dense<kFormat>(w, row + i, column + v * kVector, valid - v * kVector));
      }
    }
  }

  static void copy_codes(const WeightView& w, int64_t column, int64_t valid, const Piece& piece,
                         const Slot<float>* slots) {
    const CodeTable table = code_table(w);
    const int64_t row_blocks = w.cols / kCodeBlock;
    const int64_t quarter = column % kCodeBlock / kVector, count = (valid + kVector - 1) / kVector;
    for (int64_t i = 0; i < piece.count; ++i) {
      const int64_t block = (piece.begin + i) * row_blocks + column / kCodeBlock;
      const uint8_t* codes = block_codes(w, block);
      const Vec scale = broadcast(w.scale_of_block(block));
      const auto place = [&](int64_t q, Vec values) {
        if (q < quarter || q >= quarter + count) return;
        const Slot<float>& slot = slots[q - quarter];
        store(slot.data + i * slot.stride, mul(values, scale));
      };
      place(0, code_quarter<0>(table, codes));
      place(1, code_quarter<1>(table, codes));
      place(2, code_quarter<2>(table, codes));
      place(3, code_quarter<3>(table, codes));
    }
  }

  template <int kRows, int kVectors>
  static void sum_tile(const RowPiece<float>* pieces, int count, const float* panel, float* sums) {
    Vec c[kRows][kVectors];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
      LOWRANK_UNROLL
      for (int v = 0; v < kVectors; ++v) c[i][v] = zero();
    }
    for (int p = 0; p < count; ++p) {
      const float* a = pieces[p].data;
      const int64_t ld = pieces[p].ld;
#pragma GCC unroll kFp32Steps
      for (int64_t steps = pieces[p].steps; steps > 0; --steps, ++a, panel += kVectors * kVector) {
        Vec b[kVectors];
        LOWRANK_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          b[v] = load(panel + v * kVector);
          __builtin_prefetch(panel + kAhead + v * kVector, 0, 3);
        }
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
          const Vec x = broadcast(a[i * ld]);
          LOWRANK_UNROLL
          for (int v = 0; v < kVectors; ++v) c[i][v] = fma(x, b[v], c[i][v]);
        }
      }
    }
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
      LOWRANK_UNROLL
      for (int v = 0; v < kVectors; ++v) store(sums + (i * kVectors + v) * kVector, c[i][v]);
    }
  }

  template <int kVectors>
  static void sum_rows(int64_t rows, const RowPiece<float>* pieces, int count, const float* panel, float* sums) {
    constexpr decltype(&sum_tile<1, kVectors>) kernels[] = {sum_tile<1, kVectors>, sum_tile<2, kVectors>,
                                                            sum_tile<3, kVectors>, sum_tile<4, kVectors>,
                                                            sum_tile<5, kVectors>, sum_tile<6, kVectors>};
    kernels[rows - 1](pieces, count, panel, sums);
  }

  static void sum(const RowPiece<float>* pieces, int count, const float* panel, int width, TileRows tile, float* sums,
                  bool) {
    const int64_t rows = tile.end - tile.begin;
    if constexpr (kPanelVectors == 1) {
      sum_rows<1>(rows, pieces, count, panel, sums);
    } else {
      constexpr decltype(&sum_rows<1>) kernels[] = {sum_rows<1>, sum_rows<2>, sum_rows<3>, sum_rows<4>};
      kernels[width - 1](rows, pieces, count, panel, sums);
    }
  }

  static void finish(const float* sums, int64_t width, TileRows tile, int64_t columns, const Output& y,
                     int64_t column) {
    finish_tile(sums, width, tile.end - tile.begin, columns, y, tile.begin, column);
  }
};
