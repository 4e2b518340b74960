// The Hadamard product of two matrices of few ranks, tile by tile, so that neither of the two is ever stored: a strip
// of columns of the right factors stays in the first-level cache while the rows pass by.

inline constexpr int64_t kPairBlock = 48;  // rows whose part of a strip is decoded at a time
// The sums of two tiles fit the registers of either instruction set.
inline constexpr int kPairRows = kFp32PanelVectors > 1 ? 6 : 3, kPairVectors = kFp32PanelVectors > 1 ? 2 : 1;

// c[kRows][kVectors] = b[kRows, rank] a[rank, columns of the tile]; `n` elements from row to row of a.
template <int kRows, int kVectors, bool kWhole>
inline void pair_factor_tile(const float* b, const float* a, int64_t rank, int64_t n, int64_t valid,
                             Vec (&c)[kRows][kVectors]) {
  LOWRANK_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LOWRANK_UNROLL
    for (int v = 0; v < kVectors; ++v) c[i][v] = zero();
  }
  for (int64_t k = 0; k < rank; ++k, a += n) {
    Vec row[kVectors];
    LOWRANK_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      [[maybe_unused]] const int64_t left = valid - v * kVector;
      if constexpr (kWhole) {
        row[v] = load(a + v * kVector);
      } else {
        row[v] = left > 0 ? load_first(a + v * kVector, std::min<int64_t>(left, kVector)) : zero();
      }
    }
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Vec factor = broadcast(b[i * rank + k]);
      LOWRANK_UNROLL
      for (int v = 0; v < kVectors; ++v) c[i][v] = fma(factor, row[v], c[i][v]);
    }
  }
}

// Calls each(row, column, count, first, second) with up to sixteen columns of a row of both products.
template <int kRows, int kVectors, bool kWhole, class Each>
inline void pair_tile(const Pair& f, int64_t row, int64_t column, int64_t valid, Each&& each) {
  Vec first[kRows][kVectors], second[kRows][kVectors];
  pair_factor_tile<kRows, kVectors, kWhole>(host(f.b) + row * f.rank, host(f.a) + column, f.rank, f.cols, valid, first);
  pair_factor_tile<kRows, kVectors, kWhole>(host(f.b2) + row * f.rank2, host(f.a2) + column, f.rank2, f.cols, valid,
                                            second);
  LOWRANK_UNROLL
  for (int i = 0; i < kRows; ++i) {
    LOWRANK_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t count = kWhole ? kVector : std::min<int64_t>(valid - v * kVector, kVector);
      if (count > 0) each(row + i, column + v * kVector, count, first[i][v], second[i][v]);
    }
  }
}

template <bool kWhole, class Each>
inline void pair_rows(const Pair& f, int64_t begin, int64_t end, int64_t column, int64_t valid, Each&& each) {
  int64_t row = begin;
  for (; row + kPairRows <= end; row += kPairRows) {
    pair_tile<kPairRows, kPairVectors, kWhole>(f, row, column, valid, each);
  }
  for (; row < end; ++row) pair_tile<1, kPairVectors, kWhole>(f, row, column, valid, each);
}

// Rows [begin, end) of a strip of up to 64 columns.
struct PairBlock {
  int64_t begin, end, column, valid;
};

template <class Body>
inline void for_pair_blocks(Pool& pool, const Pair& f, Body&& body) {
  const int64_t strips = (f.cols + kCodeBlock - 1) / kCodeBlock, blocks = (f.rows + kPairBlock - 1) / kPairBlock;
  pool.for_range(strips * blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t begin = unit % blocks * kPairBlock, column = unit / blocks * kCodeBlock;
      body(PairBlock{begin, std::min(begin + kPairBlock, f.rows), column, std::min(kCodeBlock, f.cols - column)});
    }
  });
}

template <class Each>
inline void for_pair_vectors(const Pair& f, const PairBlock& block, Each&& each) {
  constexpr int64_t kTile = kPairVectors * kVector;
  for (int64_t at = 0; at < block.valid; at += kTile) {
    const int64_t column = block.column + at, valid = std::min(kTile, block.valid - at);
    if (valid == kTile) {
      pair_rows<true>(f, block.begin, block.end, column, valid, each);
    } else {
      pair_rows<false>(f, block.begin, block.end, column, valid, each);
    }
  }
}

void run(const Cpu& cpu, const AddPair& k) {
  const WeightView w = view(cpu, k.base);
  const float* const gains = host(k.row_gains);
  for_pair_blocks(cpu.pool, k.pair, [&](const PairBlock& block) {
    alignas(64) float base[kPairBlock * kCodeBlock];
    if (w.rows == 0) {
      std::fill(std::begin(base), std::end(base), 0.0f);
    } else {
      Slot<float> slots[kCodeBlock / kVector];
      for (int64_t v = 0; v < kCodeBlock / kVector; ++v) slots[v] = {base + v * kVector, kCodeBlock};
      const int64_t rows = block.end - block.begin;
      Fp32::pack_columns(w, block.column, block.valid, {0, block.begin, rows, rows}, slots);
    }
    for_pair_vectors(k.pair, block, [&](int64_t row, int64_t column, int64_t count, Vec first, Vec second) {
      const Vec gain = broadcast(k.scale * (gains == nullptr ? 1 : gains[row]));
      const Vec before = load(base + (row - block.begin) * kCodeBlock + column - block.column);
      const Vec sum = fma(mul(gain, first), second, before);
      float* const to = host(k.out) + row * k.pair.cols + column;
      count == kVector ? store(to, sum) : store_first(to, sum, count);
    });
  });
}

void run(const Cpu& cpu, const SplitPair& k) {
  const float* const gains = host(k.row_gains);
  float *const g = host(k.g), *const second_g = host(k.second);
  for_pair_blocks(cpu.pool, k.pair, [&](const PairBlock& block) {
    for_pair_vectors(k.pair, block, [&](int64_t row, int64_t column, int64_t count, Vec first, Vec second) {
      const int64_t at = row * k.pair.cols + column;
      const Vec change = mul(broadcast(gains == nullptr ? 1 : gains[row]),
                             count == kVector ? load(g + at) : load_first(g + at, count));
      const Vec to_first = mul(change, second), to_second = mul(change, first);
      if (count == kVector) {
        store(g + at, to_first);
        store(second_g + at, to_second);
      } else {
        store_first(g + at, to_first, count);
        store_first(second_g + at, to_second, count);
      }
    });
  });
}
