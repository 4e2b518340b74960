// Adds the sums of a reduction over tokens, [r, n], to a gradient that is stored as [r, n] or transposed.

// out[i, j] += scale * sums[i, j] of `columns` columns, or with kTransposed out[j, i].
template <bool kTransposed>
inline void add_sums(const float* sums, int64_t sums_ld, int64_t r, int64_t columns, float scale, float* out,
                     int64_t out_ld) {
  const Vec factor = broadcast(scale);
  const auto add_vector = [&](float* to, Vec value, int64_t count) {
    if (count >= kVector) {
      store(to, fma(factor, value, load(to)));
    } else {
      store_first(to, fma(factor, value, load_first(to, count)), count);
    }
  };
  const auto vector_at = [&](int64_t i, int64_t j) {
    const float* const from = sums + i * sums_ld + j;
    return columns - j >= kVector ? load(from) : load_first(from, columns - j);
  };
  if constexpr (!kTransposed) {
    for (int64_t i = 0; i < r; ++i) {
      for (int64_t j = 0; j < columns; j += kVector) add_vector(out + i * out_ld + j, vector_at(i, j), columns - j);
    }
  } else {
    // Squares are turned in registers, so that both sides are read and written along their rows.
    for (int64_t j = 0; j < columns; j += kVector) {
      for (int64_t i = 0; i < r; i += kVector) {
        Vec square[kVector];
        for (int64_t k = 0; k < kVector; ++k) square[k] = i + k < r ? vector_at(i + k, j) : zero();
        transpose(square);
        for (int64_t k = 0; k < std::min<int64_t>(kVector, columns - j); ++k) {
          add_vector(out + (j + k) * out_ld + i, square[k], r - i);
        }
      }
    }
  }
}
