// The tile kernel for CPUs with bf16 dot products (vdpbf16ps): six rows by 64 columns, a pair of the reduction a step.

struct DotTiles : Bf16Panels<4, 2> {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kAhead = 2048 / sizeof(Element);  // from the second-level cache, where the panels lie
  static constexpr int64_t kRunLength = kReductionBytes / static_cast<int64_t>(sizeof(Element));  // never cut
  static constexpr int64_t kSums = kTileRows * kPanelVectors * kVector;
  // Cycles per weight decoded, per activation loaded and per product: for splitting work only.
  static constexpr double kDecodeCycles = 0.3, kLoadCycles = 0.2, kMultiplyCycles = 1.0 / 32;

  static void enter(int64_t) {}
  static void leave() {}

  static int64_t row_tiles(int64_t m) { return (m + kTileRows - 1) / kTileRows; }
  static TileRows rows_of(int64_t m, int64_t tile, int64_t tiles) {
    const int64_t begin = part_begin(m, tiles, tile);
    return {begin, begin, part_begin(m, tiles, tile + 1)};
  }

  template <int kRows, int kVectors>
  static void sum_tile(const RowPiece<uint16_t>* pieces, int count, const uint16_t* panel, float* sums) {
    Vec c[kRows][kVectors];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
      LOWRANK_UNROLL
      for (int v = 0; v < kVectors; ++v) c[i][v] = zero();
    }
    for (int p = 0; p < count; ++p) {
      const uint16_t* a = pieces[p].data;
      const int64_t ld = pieces[p].ld;
      for (int64_t steps = pieces[p].steps; steps > 0; --steps, a += 2, panel += kVectors * 2 * kVector) {
        __m512bh b[kVectors];
        LOWRANK_UNROLL
        for (int v = 0; v < kVectors; ++v) {
          b[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + v * 2 * kVector));
          _mm_prefetch(panel + kAhead + v * 2 * kVector, _MM_HINT_T0);
        }
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
          int pair;
          std::memcpy(&pair, a + i * ld, sizeof(pair));
          const __m512bh x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
          LOWRANK_UNROLL
          for (int v = 0; v < kVectors; ++v) c[i][v] = _mm512_dpbf16_ps(c[i][v], x, b[v]);
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
  static void sum_rows(int64_t rows, const RowPiece<uint16_t>* pieces, int count, const uint16_t* panel, float* sums) {
    constexpr decltype(&sum_tile<1, kVectors>) kernels[] = {sum_tile<1, kVectors>, sum_tile<2, kVectors>,
                                                            sum_tile<3, kVectors>, sum_tile<4, kVectors>,
                                                            sum_tile<5, kVectors>, sum_tile<6, kVectors>};
    kernels[rows - 1](pieces, count, panel, sums);
  }

  static void sum(const RowPiece<uint16_t>* pieces, int count, const uint16_t* panel, int width, TileRows tile,
                  float* sums, bool) {
    constexpr decltype(&sum_rows<1>) kernels[] = {sum_rows<1>, sum_rows<2>, sum_rows<3>, sum_rows<4>};
    kernels[width - 1](tile.end - tile.begin, pieces, count, panel, sums);
  }

  static void finish(const float* sums, int64_t width, TileRows tile, int64_t columns, const Output& y,
                     int64_t column) {
    finish_tile(sums, width, tile.end - tile.begin, columns, y, tile.begin, column);
  }
};
