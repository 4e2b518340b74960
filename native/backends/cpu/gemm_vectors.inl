// Products of one to four rows (generation): no panels, every weight row is read once, along k, and multiplied with the
// few activation rows, which lie in the first-level cache as fp32.

template <int kRows>
struct RowProducts {
  const float* x[kRows];  // activations of this segment
  Vec sums[kRows][2];     // two chains each, so that the latency of the multiply-add is hidden

  template <int kChain>
  void add_weights(Vec weights, int64_t k) {
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) sums[i][kChain] = fma(weights, load(x[i] + k), sums[i][kChain]);
  }
};

template <WeightFormat kFormat, int kRows>
inline void add_dense_row(const WeightView& w, int64_t row, RowProducts<kRows>& out) {
  int64_t k = 0;
  for (; k + 2 * kVector <= w.cols; k += 2 * kVector) {
    out.template add_weights<0>(load_dense<kFormat>(w, row, k, kVector), k);
    out.template add_weights<1>(load_dense<kFormat>(w, row, k + kVector, kVector), k + kVector);
  }
  for (; k < w.cols; k += kVector) out.template add_weights<0>(load_dense<kFormat>(w, row, k, w.cols - k), k);
}

template <int kRows>
inline void add_code_row(const WeightView& w, int64_t row, RowProducts<kRows>& out) {
  if (!whole_codes(w)) {
    float decoded[kDecoded];
    for (int64_t k = 0; k < w.cols; k += kDecoded) {
      const int64_t count = std::min(kDecoded, w.cols - k);
      decode_row(w, row, k, count, decoded);
      for (int64_t i = 0; i < count; i += kVector) {
        out.template add_weights<0>(load_first(decoded + i, std::min<int64_t>(kVector, count - i)), k + i);
      }
    }
    return;
  }
  const CodeTable table = code_table(w);
  const int64_t blocks = w.cols / kCodeBlock;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t block = row * blocks + b;
    const uint8_t* codes = block_codes(w, block);
    __builtin_prefetch(codes + 2048);
    const Vec scale = broadcast(w.scale_of_block(block));
    const int64_t k = b * kCodeBlock;
    out.template add_weights<0>(mul(code_quarter<0>(table, codes), scale), k);
    out.template add_weights<1>(mul(code_quarter<1>(table, codes), scale), k + kVector);
    out.template add_weights<0>(mul(code_quarter<2>(table, codes), scale), k + 2 * kVector);
    out.template add_weights<1>(mul(code_quarter<3>(table, codes), scale), k + 3 * kVector);
  }
}

template <int kRows>
inline void add_block_row(const WeightView& w, int64_t row, RowProducts<kRows>& out) {
  const uint8_t* const blocks = w.block_row(row);
  with_type(w.ggml, [&](auto type) {
    for_parts<decltype(type)::type>(blocks, 0, w.cols, [&](int64_t k, const Vec(&values)[2]) {
      out.template add_weights<0>(values[0], k);
      out.template add_weights<1>(values[1], k + kVector);
    });
  });
}

template <int kRows>
void multiply_few(int64_t begin, int64_t end, std::span<const Segment> segments, const float* x, int64_t ld,
                  const Output& y) {
  constexpr int64_t kBatch = kVector;
  alignas(64) float sums[kRows][kBatch] = {};
  for (int64_t first = begin; first < end; first += kBatch) {
    const int64_t count = std::min(kBatch, end - first);
    for (int64_t j = 0; j < count; ++j) {
      RowProducts<kRows> products;
      for (int i = 0; i < kRows; ++i) {
        products.x[i] = x + i * ld;
        products.sums[i][0] = products.sums[i][1] = zero();
      }
      for (const Segment& segment : segments) {
        switch (segment.w.format) {
          case WeightFormat::f32:
            add_dense_row<WeightFormat::f32>(segment.w, first + j, products);
            break;
          case WeightFormat::bf16:
            add_dense_row<WeightFormat::bf16>(segment.w, first + j, products);
            break;
          case WeightFormat::f16:
            add_dense_row<WeightFormat::f16>(segment.w, first + j, products);
            break;
          case WeightFormat::int8:
            add_dense_row<WeightFormat::int8>(segment.w, first + j, products);
            break;
          case WeightFormat::four_bit:
            add_code_row(segment.w, first + j, products);
            break;
          case WeightFormat::ggml:
            add_block_row(segment.w, first + j, products);
            break;
        }
        const int64_t padded = (segment.w.cols + kVector - 1) / kVector * kVector;
        for (int i = 0; i < kRows; ++i) products.x[i] += padded;
      }
      for (int i = 0; i < kRows; ++i) sums[i][j] = sum(add(products.sums[i][0], products.sums[i][1]));
    }
    finish_tile(&sums[0][0], kBatch, kRows, count, y, 0, first);
  }
}

// Whether `multiply_few_rows` can take a product: few rows, and their activations fit the thread's buffer.
inline bool few_rows(int64_t m, std::span<const Segment> segments) {
  if (m > kFewRows) return false;
  int64_t length = 0;
  for (const Segment& segment : segments) length += segment.w.cols + kVector;
  return m * length * static_cast<int64_t>(sizeof(float)) <= kGroupBytes;
}

inline void multiply_few_rows(Pool& pool, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
                              std::byte* workspace) {
  int64_t ld = 0;
  for (const Segment& segment : segments) ld += (segment.w.cols + kVector - 1) / kVector * kVector;
  pool.run([&](int thread, int threads) {
    float* x = reinterpret_cast<float*>(workspace + thread * kThreadBytes);
    for (int64_t i = 0; i < m; ++i) {
      float* out = x + i * ld;
      for (const Segment& segment : segments) {
        const int64_t count = segment.w.cols, padded = (count + kVector - 1) / kVector * kVector;
        Fp32::copy_row(segment.x, i, {0, 0, count, padded}, out);
        std::fill(out + count, out + padded, 0.0f);
        out += padded;
      }
    }
    const int64_t batches = (n + kVector - 1) / kVector;
    const int64_t begin = part_begin(batches, threads, thread) * kVector;
    const int64_t end = std::min(n, part_begin(batches, threads, thread + 1) * kVector);
    switch (m) {
      case 1:
        return multiply_few<1>(begin, end, segments, x, ld, y);
      case 2:
        return multiply_few<2>(begin, end, segments, x, ld, y);
      case 3:
        return multiply_few<3>(begin, end, segments, x, ld, y);
      default:
        return multiply_few<4>(begin, end, segments, x, ld, y);
    }
  });
}
