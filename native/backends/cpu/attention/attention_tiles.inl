// Products of attention tiles and the packing they need, over the vectors of one instruction set.
//
// Scores are kept transposed, keys by queries: queries are the lanes. Softmax statistics are then one vector per
// sixteen (or eight) queries, and the broadcast operand of every product is K, V, P^T or dS^T as they lie in memory, so
// that only the query side is ever packed, once per query tile.
//
// A "word" is 32 bits: one fp32 value, or two bf16 values that the dot instruction reduces together.
#pragma once

/// Score of a key that a query must not see: far below any score, yet finite, so that differences are no NaN. A query
/// whose largest score is below `kLowest` has seen nothing.
inline constexpr float kUnseen = -1e30f, kLowest = -1e20f;

/// Hands out aligned pieces of a workspace.
struct Carver {
  std::byte* at;
  float* take(int64_t bytes) {
    std::byte* piece = at;
    at += round_up(bytes, 64);
    return reinterpret_cast<float*>(piece);
  }
};

/// Words a(m, k) at data + m * row + k * step bytes, broadcast one by one; k runs over `steps`.
struct Broadcast {
  const std::byte* data;
  int64_t row, step, steps;
};

struct MultiplyAdd {
  static LOWRANK_INLINE V step(V a, V b, V sum) { return fma(a, b, sum); }
};

inline constexpr int kTileRows = 6;
/// Queries that fill the columns of a register tile.
inline constexpr int64_t kStrip = kTileVectors * W;

/// `tiles` register tiles of kRows rows, one below the other.
template <class Dot, int kRows, int kVectors>
static void micro_kernel(int64_t tiles, const Broadcast& a, const float* b, int64_t b_row, float* c, int64_t c_row,
                         bool accumulate) {
  const int64_t row = a.row, step = a.step;
  const std::byte* rows = a.data;
  for (; tiles > 0; --tiles, rows += kRows * row, c += kRows * c_row) {
    V sums[kRows][kVectors];
    if (accumulate) {
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
        for (int n = 0; n < kVectors; ++n) sums[m][n] = load(c + m * c_row + n * W);
      }
    } else {
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
        for (int n = 0; n < kVectors; ++n) sums[m][n] = zero();
      }
    }
    const std::byte* at = rows;
    const float* line = b;
#pragma GCC unroll kTileSteps
    for (int64_t k = a.steps; k > 0; --k) {
      V columns[kVectors];
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) columns[n] = load(line + n * W);
#pragma GCC unroll 6
      for (int m = 0; m < kRows; ++m) {
        float word;
        std::memcpy(&word, at + m * row, 4);
        const V value = set1(word);
#pragma GCC unroll 4
        for (int n = 0; n < kVectors; ++n) sums[m][n] = Dot::step(value, columns[n], sums[m][n]);
      }
      at += step;
      line += b_row;
    }
#pragma GCC unroll 6
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < kVectors; ++n) store(c + m * c_row + n * W, sums[m][n]);
    }
  }
}

using MicroKernel = void (*)(int64_t tiles, const Broadcast& a, const float* b, int64_t b_row, float* c, int64_t c_row,
                             bool accumulate);

template <class Dot, int kVectors>
static constexpr MicroKernel kMicroKernels[kTileRows] = {
    micro_kernel<Dot, 1, kVectors>, micro_kernel<Dot, 2, kVectors>, micro_kernel<Dot, 3, kVectors>,
    micro_kernel<Dot, 4, kVectors>, micro_kernel<Dot, 5, kVectors>, micro_kernel<Dot, 6, kVectors>,
};

/// c[m][n] (+)= sum over k of a(m, k) b[k][n] for m < rows and n < vectors * W. The rows are split evenly over tiles,
/// so that no tile is a small remainder: some of one height come first, the others have a row less.
template <class Dot>
static void multiply(int64_t rows, int64_t vectors, const Broadcast& a, const float* b, int64_t b_row, float* c,
                     int64_t c_row, bool accumulate) {
  if (rows == 0) return;
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows, low = rows / tiles, high_tiles = rows % tiles;
  const int64_t high_rows = high_tiles * (low + 1);
  const Broadcast rest = {a.data + high_rows * a.row, a.row, a.step, a.steps};
  for (int64_t n = 0; n < vectors; n += kTileVectors) {
    const MicroKernel* kernels = kMicroKernels<Dot, kTileVectors>;
    if constexpr (kTileVectors == 4) {
      if (vectors - n == 3) kernels = kMicroKernels<Dot, 3>;
      if (vectors - n == 2) kernels = kMicroKernels<Dot, 2>;
    }
    if (vectors - n == 1) kernels = kMicroKernels<Dot, 1>;
    if (high_tiles > 0) kernels[low](high_tiles, a, b + n * W, b_row, c + n * W, c_row, accumulate);
    kernels[low - 1](tiles - high_tiles, rest, b + n * W, b_row, c + high_rows * c_row + n * W, c_row, accumulate);
  }
}

/// As `multiply` with accumulation, where row m of a is zero before element m + first; kElements of them are one step.
template <class Dot, int64_t kElements>
static void multiply_triangle(int64_t rows, int64_t vectors, const Broadcast& a, int64_t first, const float* b,
                              int64_t b_row, float* c, int64_t c_row) {
  if (first + rows <= 1) return multiply<Dot>(rows, vectors, a, b, b_row, c, c_row, true);
  for (int64_t row = 0; row < rows; row += kTileRows) {
    const int64_t zeros = std::clamp<int64_t>((row + first) / kElements, 0, a.steps);
    const Broadcast part = {a.data + row * a.row + zeros * a.step, a.row, a.step, a.steps - zeros};
    multiply<Dot>(std::min<int64_t>(kTileRows, rows - row), vectors, part, b + zeros * b_row, b_row, c + row * c_row,
                  c_row, true);
  }
}

/// out[c][r] = word c of row r for r < 64 and c < words; absent rows give zeros. Rows are `row_bytes` apart.
static void transpose_words(const void* rows, int64_t row_bytes, int64_t count, int64_t words, float* out) {
  const auto* bytes = static_cast<const std::byte*>(rows);
  for (int64_t r = 0; r < count; r += W) {
    for (int64_t c = 0; c < words; c += W) {
      V block[W];
      for (int64_t i = 0; i < W; ++i) {
        const auto* from = reinterpret_cast<const float*>(bytes + (r + i) * row_bytes) + c;
        block[i] = r + i >= count ? zero() : c + W <= words ? load(from) : load(from, words - c);
      }
      transpose(block);
      const int64_t present = std::min(W, words - c);
      for (int64_t i = 0; i < present; ++i) store(out + (c + i) * kTile + r, block[i]);
    }
  }
}

/// The inverse for results: row r of `out` gets in[c][r] * factor[r], c < cols.
template <class T>
static void store_transposed(const float* in, const float* factors, int64_t count, int64_t cols, T* out, int64_t ld) {
  for (int64_t r = 0; r < count; r += W) {
    const V factor = load(factors + r);
    for (int64_t c = 0; c < cols; c += W) {
      V block[W];
      for (int64_t i = 0; i < W; ++i) block[i] = c + i < cols ? mul(load(in + (c + i) * kTile + r), factor) : zero();
      transpose(block);
      const int64_t present = std::min(W, count - r);
      for (int64_t i = 0; i < present; ++i) {
        T* row = out + (r + i) * ld + c;
        if (c + W <= cols) {
          store(row, block[i]);
        } else {
          store(row, block[i], cols - c);
        }
      }
    }
  }
}

/// Rows that are a multiple of this many bytes apart fall into an eighth of the sets of a first-level cache, or fewer.
inline constexpr int64_t kSharedSets = 512;

/// Product of operands of element type T. In fp32, bf16 operands are widened first.
template <class T>
struct Fp32Scheme {
  using Element = T;
  using Dot = MultiplyAdd;
  static constexpr bool kPairs = false;

  static void widen(const T* rows, int64_t ld, int64_t count, int64_t cols, float* out) {
    const int64_t padded = padded_head_dim(cols);
    for (int64_t r = 0; r < count; ++r) {
      // absent lanes load as zeros and are stored as padding
      for_vectors(0, cols, [&](int64_t i, auto lanes) { store(out + r * padded + i, load(rows + r * ld + i, lanes)); });
      for (int64_t i = round_up(cols, W); i < padded; i += W) store(out + r * padded + i, zero());
    }
  }
  /// Key rows as the broadcast operand of products that reduce over the head (`along`) and over keys (`across`).
  static Broadcast along(const T* rows, int64_t ld, int64_t count, int64_t cols, float* scratch) {
    if constexpr (std::is_same_v<T, float>) {
      return {reinterpret_cast<const std::byte*>(rows), ld * 4, 4, cols};
    } else {
      widen(rows, ld, count, cols, scratch);
      return {reinterpret_cast<const std::byte*>(scratch), padded_head_dim(cols) * 4, 4, cols};
    }
  }
  /// One column is read down all keys. In the tensor those may share a few sets of the cache: then the tile is a copy.
  static Broadcast across(const T* rows, int64_t ld, int64_t count, int64_t cols, float* scratch) {
    if constexpr (std::is_same_v<T, float>) {
      if (ld * 4 % kSharedSets != 0) return {reinterpret_cast<const std::byte*>(rows), 4, ld * 4, count};
    }
    widen(rows, ld, count, cols, scratch);
    return {reinterpret_cast<const std::byte*>(scratch), 4, padded_head_dim(cols) * 4, count};
  }
  /// Steps of a reduction over `count` keys or queries.
  static constexpr int64_t steps(int64_t count) { return count; }
  /// Query rows as the packed operand: [cols][64], and [count][padded cols].
  static int64_t pack_transposed(const T* rows, int64_t ld, int64_t count, int64_t cols, float* out, float* scratch) {
    const Broadcast a = along(rows, ld, count, cols, scratch);
    transpose_words(a.data, a.row, count, cols, out);
    return cols;
  }
  static void pack_rows(const T* rows, int64_t ld, int64_t count, int64_t cols, float* out) {
    widen(rows, ld, count, cols, out);
  }
};

#if LOWRANK_VEC_BF16
/// bf16 operands, two of a reduction at a time. Heads of odd size take the other scheme.
struct PairScheme {
  using Element = Bf16;
  struct Dot {
    static LOWRANK_INLINE V step(V a, V b, V sum) { return dot_pairs(a, b, sum); }
  };
  static constexpr bool kPairs = true;

  /// Two keys of P^T or dS^T as words, and as bf16 rows too.
  static LOWRANK_INLINE V two_keys(V low, V high) { return pairs(round_both(low, high)); }
  static LOWRANK_INLINE V two_keys(V low, V high, Bf16* low_row, Bf16* high_row) {
    const auto both = round_both(low, high);
    store_both(low_row, high_row, both);
    return pairs(both);
  }

  static Broadcast along(const Bf16* rows, int64_t ld, int64_t, int64_t cols, float*) {
    return {reinterpret_cast<const std::byte*>(rows), ld * 2, 4, cols / 2};
  }
  static Broadcast across(const Bf16* rows, int64_t ld, int64_t count, int64_t cols, float* scratch) {
    pack_rows(rows, ld, count, cols, scratch);
    return {reinterpret_cast<const std::byte*>(scratch), 4, padded_head_dim(cols) * 4, steps(count)};
  }
  static constexpr int64_t steps(int64_t count) { return (count + 1) / 2; }
  static int64_t pack_transposed(const Bf16* rows, int64_t ld, int64_t count, int64_t cols, float* out, float*) {
    transpose_words(rows, ld * 2, count, cols / 2, out);
    return cols / 2;
  }
  static void pack_rows(const Bf16* rows, int64_t ld, int64_t count, int64_t cols, float* out) {
    const int64_t padded = padded_head_dim(cols);
    for (int64_t r = 0; r < count; r += 2, out += padded) {
      const Bf16* low = rows + r * ld;
      const Bf16* high = r + 1 < count ? low + ld : nullptr;
      for (int64_t c = 0; c < cols; c += W) {
        store(out + c, pairs(low + c, high != nullptr ? high + c : nullptr, std::min(W, cols - c)));
      }
    }
  }
};
#endif
