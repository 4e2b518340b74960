// The tile kernel for AMX: two by two accumulators of 16 x 16, fed by two activation tiles of 16 rows x 32 values and
// two weight tiles of 16 pairs x 16 columns. Every call uses tiles of one height, min(m, 16): a last tile that would be
// shorter starts earlier and computes some rows again, whose results are the same and are not stored twice.

// Layout demanded by LDTILECFG.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

struct AmxTiles : Bf16Panels<2, 32> {
  static constexpr int64_t kHeight = 16;  // rows of one tile register
  static constexpr int64_t kTileRows = 2 * kHeight;
  // Rows of a run and their share of the results fit a first-level cache of 48 KiB, beside which the weights stream.
  static constexpr int64_t kRunLength = 640;
  static constexpr int64_t kSums = kTileRows * kPanelVectors * kVector;
  static_assert(kGroupBytes / (kPanelVectors * kVector * kRunLength * 2) * kSums * 4 <= kCarriedBytes);
  // Cycles per weight decoded, per activation loaded and per product: for splitting work only.
  static constexpr double kDecodeCycles = 0.3, kLoadCycles = 0.2, kMultiplyCycles = 1.0 / 320;

  static void enter(int64_t m) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = 64;
      config.rows[i] = static_cast<uint8_t>(i < 6 ? std::min(m, kHeight) : kHeight);
    }
    asm volatile("" ::"r"(&config) : "memory");  // GCC's intrinsic declares a read of the first eight bytes only
    _tile_loadconfig(&config);
  }
  static void leave() { _tile_release(); }

  static int64_t row_tiles(int64_t m) { return (m + kTileRows - 1) / kTileRows; }
  static TileRows rows_of(int64_t m, int64_t tile, int64_t) {
    const int64_t begin = tile * kTileRows, end = std::min(m, begin + kTileRows);
    return {m >= kHeight ? std::min(begin, end - kHeight) : 0, begin, end};
  }

  // Tile registers: 0 to 3 sums, 4 and 5 activations, 6 and 7 weights.
  template <bool kTwoRows, bool kTwoColumns>
  static void sum_tile(const RowPiece<uint16_t>* pieces, int count, int64_t second, const uint16_t* panel, float* sums,
                       bool load) {
    constexpr int64_t kBytes = kTwoColumns ? 128 : 64;  // of a pair of the reduction in the panel
    asm volatile("" ::: "memory");                      // the tile instructions do not say that they read memory
    constexpr int64_t kSumsBytes = kSumsStride * sizeof(float);
    if (load) {
      _tile_loadd(0, sums, kSumsBytes);
      if constexpr (kTwoColumns) _tile_loadd(1, sums + kVector, kSumsBytes);
      if constexpr (kTwoRows) _tile_loadd(2, sums + kHeight * kSumsStride, kSumsBytes);
      if constexpr (kTwoRows && kTwoColumns) _tile_loadd(3, sums + kHeight * kSumsStride + kVector, kSumsBytes);
    } else {
      _tile_zero(0);
      if constexpr (kTwoColumns) _tile_zero(1);
      if constexpr (kTwoRows) _tile_zero(2);
      if constexpr (kTwoRows && kTwoColumns) _tile_zero(3);
    }
    for (int p = 0; p < count; ++p) {
      const uint16_t* a = pieces[p].data;
      const int64_t stride = pieces[p].ld * static_cast<int64_t>(sizeof(uint16_t));
      const uint16_t* below = a + second * pieces[p].ld;
      for (int64_t steps = pieces[p].steps; steps > 0; --steps) {
        _tile_stream_loadd(6, panel, kBytes);
        _tile_loadd(4, a, stride);
        if constexpr (kTwoColumns) _tile_stream_loadd(7, panel + 32, kBytes);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (kTwoRows) _tile_loadd(5, below, stride);
        if constexpr (kTwoColumns) _tile_dpbf16ps(1, 4, 7);
        if constexpr (kTwoRows) _tile_dpbf16ps(2, 5, 6);
        if constexpr (kTwoRows && kTwoColumns) _tile_dpbf16ps(3, 5, 7);
        a += kStep;
        below += kStep;
        panel += kBytes / 2 * kStep / 2;
      }
    }
    _tile_stored(0, sums, kSumsBytes);
    if constexpr (kTwoColumns) _tile_stored(1, sums + kVector, kSumsBytes);
    if constexpr (kTwoRows) _tile_stored(2, sums + kHeight * kSumsStride, kSumsBytes);
    if constexpr (kTwoRows && kTwoColumns) {
      _tile_stored(3, sums + kHeight * kSumsStride + kVector, kSumsBytes);
    }
    asm volatile("" ::: "memory");
  }

  static void sum(const RowPiece<uint16_t>* pieces, int count, const uint16_t* panel, int width, TileRows tile,
                  float* sums, bool load) {
    const int64_t loaded = tile.end - tile.load;
    if (loaded > kHeight) {
      width == 2 ? sum_tile<true, true>(pieces, count, loaded - kHeight, panel, sums, load)
                 : sum_tile<true, false>(pieces, count, loaded - kHeight, panel, sums, load);
    } else {
      width == 2 ? sum_tile<false, true>(pieces, count, 0, panel, sums, load)
                 : sum_tile<false, false>(pieces, count, 0, panel, sums, load);
    }
  }

  static void finish(const float* sums, int64_t, TileRows tile, int64_t columns, const Output& y, int64_t column) {
    const int64_t loaded = tile.end - tile.load, skipped = tile.begin - tile.load;
    const int64_t upper = std::min(loaded, kHeight);
    finish_tile(sums + skipped * kSumsStride, kSumsStride, upper - skipped, columns, y, tile.begin, column);
    if (loaded <= kHeight) return;
    const int64_t second = loaded - kHeight;  // the second row of tiles starts here, and repeats rows of the first
    finish_tile(sums + (2 * kHeight - second) * kSumsStride, kSumsStride, second, columns, y, tile.begin + kHeight,
                column);
  }

 protected:
  static constexpr int64_t kSumsStride = kPanelVectors * kVector;
};
