// Products of rows of which each may have low-rank parts of its own: every weight row is read once for all of them, and
// each row is summed as `multiply_few` sums it alone.

inline constexpr int64_t kRowsAtOnce = 32;

// body(number, first) for rows [begin, end), at most eight at a time, which share what is decoded; the number is a
// constant.
template <class Body>
inline void each_few(int64_t begin, int64_t end, Body&& body) {
  for (; end - begin >= 8; begin += 8) body(std::integral_constant<int, 8>(), begin);
  for (; end - begin >= 4; begin += 4) body(std::integral_constant<int, 4>(), begin);
  if (end - begin == 3) body(std::integral_constant<int, 3>(), begin);
  if (end - begin == 2) body(std::integral_constant<int, 2>(), begin);
  if (end - begin == 1) body(std::integral_constant<int, 1>(), begin);
}

// Rows of sums from `first` on.
template <int kRows>
inline auto& sums_of(float (&sums)[kRowsAtOnce][kVector], int64_t first) {
  return *reinterpret_cast<float (*)[kRows][kVector]>(&sums[first]);
}

// The operand x a^T of kRows rows of a part, of which `first` is the first, as activations.
template <class Dots, int kRows>
inline void make_hidden(const Cpu& cpu, const GemmNtByRow& k, const LowRankPart& part, int64_t first, float* hidden,
                        std::byte* own) {
  const SegmentView segment{k.base.x.rows(part.row + first), view(cpu, part.a)};
  const ActivationLayout layout = ActivationLayout::of<Dots>(segment.w, kRows);
  const Activations x = place_activations<float>(segment, kRows, layout, own);
  const Matrix operand{address_of(own + layout.bytes), operand_of(k.precision), part.a.rows};
  multiply_few<Dots, kRows>(0, part.a.rows, {&segment, 1}, &x, {operand}, reinterpret_cast<float*>(own + kGroupBytes));
  const int64_t ld = hidden_ld(part);
  for (int64_t i = 0; i < kRows; ++i) place_row(operand, i, part.a.rows, ld, hidden + (first + i) * ld);
}

// Those of all parts, dealt out to the threads a few rows at a time.
template <class Dots>
inline void make_all_hidden(const Cpu& cpu, const GemmNtByRow& k, float* hidden) {
  cpu.pool.run([&](int thread, int threads) {
    int64_t unit = 0;
    float* at = hidden;
    for (const LowRankPart& part : k.parts) {
      each_few(0, part.rows, [&](auto rows, int64_t first) {
        if (unit++ % threads == thread)
          make_hidden<Dots, rows()>(cpu, k, part, first, at, cpu.room + thread * kThreadBytes);
      });
      at += part.rows * hidden_ld(part);
    }
  });
}

// Folded rows of b from `first` on; what is only scaled takes whole vectors. Those that follow are on their way then.
inline void fold_strip(const ScaledB& b, int64_t first, int64_t count, float* out) {
  const float* const from = b.b + first * b.rank;
  const int64_t values = count * b.rank;
  const char* const next = reinterpret_cast<const char*>(from + values);
  for (int64_t byte = 0; byte < values * static_cast<int64_t>(sizeof(float)); byte += 64)
    __builtin_prefetch(next + byte);
  if (b.d || b.mask || b.b_gain || b.row_gains || b.active != b.rank)
    return fold_rows(b, first, first + count, out - first * b.active);
  const Vec factor = broadcast(b.weight * b.scale);
  int64_t i = 0;
  for (; i + kVector <= values; i += kVector) store(out + i, mul(factor, load(from + i)));
  if (i < values) store_first(out + i, mul(factor, load_first(from + i, values - i)), values - i);
}

// sums[i] += x[i] b^T for the outputs from `first` on and those of the rows from `begin` on that have the part.
inline void add_part(const LowRankPart& part, const float* hidden, int64_t begin, int64_t end, int64_t first,
                     int64_t count, float* folded, float (&sums)[kRowsAtOnce][kVector]) {
  const int64_t from = std::max(begin, part.row), to = std::min(end, part.row + part.rows), rank = part.b.active;
  if (from >= to) return;
  fold_strip(scaled_b(part.b), first, count, folded);
  WeightView factor;
  factor.data = folded;
  factor.rows = count;
  factor.cols = factor.ld = rank;
  const int64_t ld = hidden_ld(part);
  each_few(from, to, [&](auto rows, int64_t row) {
    add_dense_rows<WeightFormat::f32, rows()>(factor, 0, count, {hidden + (row - part.row) * ld, ld, nullptr, 0},
                                              sums_of<rows()>(sums, row - begin));
  });
}

// Rows [begin, end) of y, and its columns that are those of a thread.
template <class Dots>
inline void multiply_rows(const Cpu& cpu, const GemmNtByRow& k, const float* hidden, int64_t begin, int64_t end,
                          int thread, int threads) {
  std::byte* const own = cpu.room + thread * kThreadBytes;
  float* const room = reinterpret_cast<float*>(own + kGroupBytes);
  const SegmentView base{k.base.x.rows(begin), view(cpu, k.base.w)};
  const int64_t rows = end - begin;
  const ActivationLayout layout = ActivationLayout::of<Dots>(base.w, rows);
  const Activations x = Dots::in_bf16(base.w) ? place_activations<uint16_t>(base, rows, layout, own)
                                              : place_activations<float>(base, rows, layout, own);
  const int64_t element = Dots::in_bf16(base.w) ? sizeof(uint16_t) : sizeof(float);
  float* const folded = reinterpret_cast<float*>(own + layout.bytes);
  const int64_t batches = (k.n + kVector - 1) / kVector;
  const int64_t last = std::min(k.n, part_begin(batches, threads, thread + 1) * kVector);
  for (int64_t first = part_begin(batches, threads, thread) * kVector; first < last; first += kVector) {
    const int64_t count = std::min<int64_t>(kVector, last - first);
    alignas(64) float sums[kRowsAtOnce][kVector];
    std::fill_n(&sums[0][0], rows * kVector, 0.0f);
    each_few(0, rows, [&](auto few, int64_t i) {
      const Activations tile{static_cast<const std::byte*>(x.rows) + i * x.ld * element, x.ld, x.sums + i * x.sums_ld,
                             x.sums_ld};
      add_segment<Dots, few()>(base.w, first, count, tile, sums_of<few()>(sums, i), room);
    });
    const float* at = hidden;
    for (const LowRankPart& part : k.parts) {
      add_part(part, at, begin, end, first, count, folded, sums);
      at += part.rows * hidden_ld(part);
    }
    finish_tile(&sums[0][0], kVector, rows, count, k.to, begin, first);
  }
}

// Rows whose activations fit the thread's buffer beside a strip of the widest part.
template <class Dots>
inline int64_t rows_at_once(const Cpu& cpu, const GemmNtByRow& k) {
  int64_t widest = 0;
  for (const LowRankPart& part : k.parts) widest = std::max(widest, part.b.active);
  const int64_t bytes = ActivationLayout::of<Dots>(view(cpu, k.base.w), kRowsAtOnce).bytes / kRowsAtOnce;
  const int64_t left = kGroupBytes - widest * kVector * static_cast<int64_t>(sizeof(float));
  return std::clamp(left / bytes, kFewRows, kRowsAtOnce);
}

template <class Dots>
inline void multiply_by_row(const Cpu& cpu, const GemmNtByRow& k) {
  float* const hidden = reinterpret_cast<float*>(cpu.room + cpu.pool.threads() * kThreadBytes);
  if (!k.parts.empty()) make_all_hidden<Dots>(cpu, k, hidden);
  const int64_t at_once = rows_at_once<Dots>(cpu, k);
  cpu.pool.run([&](int thread, int threads) {
    for (int64_t begin = 0; begin < k.m; begin += at_once)
      multiply_rows<Dots>(cpu, k, hidden, begin, std::min(k.m, begin + at_once), thread, threads);
  });
}
