// Reductions over tokens at bf16 precision are a product of their own: u^T [r, T] times x [T, n], where x is packed
// like a stored weight. u is transposed, scaled and rounded once; sums are fp32, as everywhere.

inline void transpose_factors(const Matrix& u, int64_t r, int64_t begin, int64_t end, float scale, uint16_t* out,
                              int64_t out_ld) {
  for (int64_t t = begin; t < end; t += kVector) {
    const int64_t tokens = std::min<int64_t>(kVector, end - t);
    for (int64_t i = 0; i < r; i += kVector) {
      const int64_t count = std::min<int64_t>(kVector, r - i);
      Vec block[kVector];
      for (int64_t j = 0; j < kVector; ++j) {
        const int64_t index = (t + j) * u.ld + i;
        if (j >= tokens) {
          block[j] = zero();
        } else if (u.dtype == DType::f32) {
          block[j] = mul(load_first(host(u.data.as<float>()) + index, count), broadcast(scale));
        } else {
          block[j] = mul(load_bf16_first(host(u.data.as<uint16_t>()) + index, count), broadcast(scale));
        }
      }
      transpose(block);
      for (int64_t j = 0; j < count; ++j) store_bf16_first(out + (i + j) * out_ld + t, block[j], tokens);
    }
  }
}

template <class Kernel>
void reduce_tokens_bf16(const Cpu& cpu, const ReduceTokens& k) {
  const int64_t tokens = k.tokens, r = k.r, n = k.n;
  if (tokens <= 0 || r <= 0 || n <= 0) return;
  const int64_t ld = factors_stride(tokens);
  uint16_t* factors = reinterpret_cast<uint16_t*>(cpu.room);
  float* sums = reinterpret_cast<float*>(cpu.room + factors_bytes(tokens, r));
  std::byte* rest = cpu.room + factors_bytes(tokens, r) + sums_bytes(r, n);
  constexpr int64_t kChunk = 256;
  cpu.pool.for_range((tokens + kChunk - 1) / kChunk, 1, [&](int64_t begin, int64_t end) {
    transpose_factors(k.u, r, begin * kChunk, std::min(tokens, end * kChunk), k.scale, factors, ld);
  });
  WeightView weight;
  weight.format = k.x.dtype == DType::f32 ? WeightFormat::f32 : WeightFormat::bf16;
  weight.rows = tokens;
  weight.cols = n;
  weight.data = host(k.x.data);
  weight.ld = k.x.ld;
  const SegmentView segment{{address_of(factors).as<std::byte>(), DType::bf16, ld}, weight};
  const Output y =
      k.transposed ? Output{f32_matrix(address_of(sums), n)} : Output{f32_matrix(k.out, k.ld), {}, k.out, k.ld};
  multiply<Kernel, false>({cpu.pool, rest}, r, n, {&segment, 1}, y);
  if (!k.transposed) return;
  cpu.pool.for_range((n + kChunk - 1) / kChunk, 1, [&](int64_t begin, int64_t end) {
    const int64_t column = begin * kChunk, columns = std::min(n, end * kChunk) - column;
    add_sums<true>(sums + column, n, r, columns, 1, host(k.out) + column * k.ld, k.ld);
  });
}
