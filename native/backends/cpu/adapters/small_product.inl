// Small products of matrices in the first levels of cache, over vectors, and room for their operands.
#pragma once

/// c[R, N vectors] (+)= sum over steps of a[i, step] b[step, :]; the last vector has `lanes` columns if kPart.
template <int R, int N, bool kPart>
static LOWRANK_INLINE void small_tile(int64_t steps, const float* a, int64_t a_row, int64_t a_step, const float* b,
                                      int64_t b_ld, float* c, int64_t c_ld, bool adds, int64_t lanes) {
  V sums[R][N];
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < N; ++j) {
      const bool part = kPart && j == N - 1;
      const float* from = c + i * c_ld + j * W;
      sums[i][j] = !adds ? zero() : part ? load(from, lanes) : load(from);
    }
  for (int64_t step = 0; step < steps; ++step) {
    V row[N];
#pragma GCC unroll 3
    for (int j = 0; j < N; ++j)
      row[j] = kPart && j == N - 1 ? load(b + step * b_ld + j * W, lanes) : load(b + step * b_ld + j * W);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const V factor = set1(a[i * a_row + step * a_step]);
#pragma GCC unroll 3
      for (int j = 0; j < N; ++j) sums[i][j] = fma(factor, row[j], sums[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i)
#pragma GCC unroll 3
    for (int j = 0; j < N; ++j) {
      float* to = c + i * c_ld + j * W;
      if (kPart && j == N - 1)
        store(to, sums[i][j], lanes);
      else
        store(to, sums[i][j]);
    }
}

/// A matrix by the distances between its rows and between its columns.
struct Strided {
  const float* data;
  int64_t row, column;
};
static Strided plain(const float* data, int64_t cols) { return {data, cols, 1}; }
static Strided transposed(const float* data, int64_t cols) { return {data, 1, cols}; }

template <int R, int N, bool kPart>
static void small_panel(int64_t rows, int64_t steps, const Strided& a, const float* b, int64_t b_ld, float* c,
                        int64_t c_ld, bool adds, int64_t lanes) {
  int64_t i = 0;
  for (; i + R <= rows; i += R)
    small_tile<R, N, kPart>(steps, a.data + i * a.row, a.row, a.column, b, b_ld, c + i * c_ld, c_ld, adds, lanes);
  for (; i < rows; ++i)
    small_tile<1, N, kPart>(steps, a.data + i * a.row, a.row, a.column, b, b_ld, c + i * c_ld, c_ld, adds, lanes);
}

/// c[rows, cols] (+)= a[rows, steps] b[steps, cols]; b and c are dense.
static void small_product(int64_t rows, int64_t cols, int64_t steps, const Strided& a, const float* b, float* c,
                          bool adds) {
  for (int64_t at = 0; at < cols; at += 3 * W) {
    const int64_t left = std::min(cols - at, 3 * W), vectors = (left + W - 1) / W, lanes = left - (vectors - 1) * W;
    const auto panel = [&](auto count, auto part) {
      small_panel<4, decltype(count)::value, decltype(part)::value>(rows, steps, a, b + at, cols, c + at, cols, adds,
                                                                    lanes);
    };
    const auto wide = [&](auto count) {
      if (lanes == W)
        panel(count, std::false_type{});
      else
        panel(count, std::true_type{});
    };
    if (vectors == 3)
      wide(std::integral_constant<int, 3>{});
    else if (vectors == 2)
      wide(std::integral_constant<int, 2>{});
    else
      wide(std::integral_constant<int, 1>{});
  }
}

/// out[cols, rows] = in[rows, cols].
static void transpose_into(int64_t rows, int64_t cols, const float* in, float* out) {
  const int64_t whole_rows = rows / W * W, whole_cols = cols / W * W;
  for (int64_t i = 0; i < whole_rows; i += W)
    for (int64_t j = 0; j < whole_cols; j += W) {
      V square[W];
      for (int64_t v = 0; v < W; ++v) square[v] = load(in + (i + v) * cols + j);
      transpose(square);
      for (int64_t v = 0; v < W; ++v) store(out + (j + v) * rows + i, square[v]);
    }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = i < whole_rows ? whole_cols : 0; j < cols; ++j) out[j * rows + i] = in[i * cols + j];
}

/// Hands out the workspace in pieces of whole cache lines.
struct Room {
  float* at;
  float* take(int64_t floats) {
    float* const taken = at;
    at += whole_lines(floats);
    return taken;
  }
};
