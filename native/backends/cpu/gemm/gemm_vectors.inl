// Products of one to four rows (generation): no panels, every weight row is read once, along k, and multiplied with the
// few activation rows, which lie in the first-level cache. Codes are multiplied before they are scaled: a block costs
// one multiply-add by its scale, and one by its offset with the sum of its activations, which all weight rows share.

inline constexpr int64_t kWeightsAhead = 4096;   // bytes between a weight and what is brought to the cache meanwhile
inline constexpr int64_t kActivationsUnit = 32;  // activations are padded to a multiple of it

// Activations of one segment, by row, and for formats with offsets the sums of their groups. Zeros follow both.
struct Activations {
  const void* rows;
  int64_t ld;
  const float* sums;
  int64_t sums_ld;

  template <class Element>
  const Element* row(int64_t i) const {
    return static_cast<const Element*>(rows) + i * ld;
  }
};

template <WeightFormat kFormat, int kRows>
void add_dense_rows(const WeightView& w, int64_t row, int64_t count, const Activations& x,
                    float (&sums)[kRows][kVector]);

// Products of decoded codes with activations, all in fp32.
struct Fp32Dots {
  // True if the activations of a product with the weight are bf16.
  static constexpr bool in_bf16(const WeightView&) { return false; }

  template <int kRows>
  static void add_bf16_rows(const WeightView& w, int64_t row, int64_t count, const Activations& x,
                            float (&sums)[kRows][kVector]) {
    add_dense_rows<WeightFormat::bf16, kRows>(w, row, count, x, sums);
  }

  // 64 codes of four bits.
  struct FourBit {
    using Element = float;
    CodeTable table;
    Vec values[4];
    explicit FourBit(const WeightView& w) : table(code_table(w)) {}
    void load_codes(const uint8_t* codes) {
      values[0] = code_quarter<0>(table, codes);
      values[1] = code_quarter<1>(table, codes);
      values[2] = code_quarter<2>(table, codes);
      values[3] = code_quarter<3>(table, codes);
    }
    Vec dot(const float* x) const {
      const Vec even = fma(values[2], load(x + 2 * kVector), mul(values[0], load(x)));
      return add(even, fma(values[3], load(x + 3 * kVector), mul(values[1], load(x + kVector))));
    }
  };

  // A part of a GGML block.
  template <GgmlType kType>
  struct Part {
    using Element = float;
    Vec values[2];
    void load_codes(const uint8_t* block, int part) {
      Bytes codes[2];
      part_codes<kType>(block, part, codes);
      values[0] = from_i8(codes[0]);
      values[1] = from_i8(codes[1]);
    }
    // sum + its products, scaled.
    Vec add_dot(const float* x, const float* scale, Vec sum) const {
      const Vec first = mul(values[0], load(x));
      if constexpr (kIn16<kType>) {
        sum = fma(first, broadcast(scale[0]), sum);
        return fma(mul(values[1], load(x + kVector)), broadcast(scale[1]), sum);
      }
      return fma(fma(values[1], load(x + kVector), first), broadcast(scale[0]), sum);
    }
  };
};

template <WeightFormat kFormat, int kRows>
void add_dense_rows(const WeightView& w, int64_t row, int64_t count, const Activations& x,
                    float (&sums)[kRows][kVector]) {
  for (int64_t j = 0; j < count; ++j) {
    Vec even[kRows], odd[kRows];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) even[i] = odd[i] = zero();
    const auto add_weights = [&](Vec(&to)[kRows], Vec weights, int64_t k) {
      LOWRANK_UNROLL
      for (int i = 0; i < kRows; ++i) to[i] = fma(weights, load(x.row<float>(i) + k), to[i]);
    };
    int64_t k = 0;
    for (; k + 2 * kVector <= w.cols; k += 2 * kVector) {
      add_weights(even, load_unscaled<kFormat>(w, row + j, k, kVector), k);
      add_weights(odd, load_unscaled<kFormat>(w, row + j, k + kVector, kVector), k + kVector);
    }
    for (; k < w.cols; k += kVector) add_weights(even, load_unscaled<kFormat>(w, row + j, k, w.cols - k), k);
    for (int i = 0; i < kRows; ++i) {
      float product = sum(add(even[i], odd[i]));
      if constexpr (kFormat == WeightFormat::int8) product = product * w.absmax[row + j] * kInt8Step;
      sums[i][j] += product;
    }
  }
}

// Rows whose blocks of codes cross their ends.
template <int kRows>
void add_odd_rows(const WeightView& w, int64_t row, int64_t count, const Activations& x,
                  float (&sums)[kRows][kVector]) {
  float decoded[kDecoded];
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t k = 0; k < w.cols; k += kDecoded) {
      WeightView part;
      part.data = decoded;
      part.rows = 1;
      part.cols = part.ld = std::min(kDecoded, w.cols - k);
      decode_row(w, row + j, k, part.cols, decoded);
      float products[kRows][kVector] = {};
      add_dense_rows<WeightFormat::f32, kRows>(part, 0, 1, {x.row<float>(0) + k, x.ld, nullptr, 0}, products);
      for (int i = 0; i < kRows; ++i) sums[i][j] += products[i][0];
    }
  }
}

// The scales of blocks [block, block + count), in place or in `room`.
inline const float* block_scales(const WeightView& w, int64_t block, int64_t count, float* room) {
  if (w.absmax != nullptr) return w.absmax + block;
  for (int64_t i = 0; i < count;) {
    // Blocks that share a nested scale; the last vector reaches back.
    const int64_t place = block + i + w.nested_skip;
    const int64_t end = std::min(count, i + kNestedBlock - place % kNestedBlock), first = i;
    const Vec nested = broadcast(w.nested_absmax[place / kNestedBlock]), offset = broadcast(w.absmax_offset);
    while (i < end) {
      if (end - first < kVector) {
        room[i] = w.scale_of_block(block + i);
        ++i;
        continue;
      }
      const int64_t at = std::min(i, end - kVector);
      store(room + at, add(mul(floats_at(kDynamicMap, w.absmax_codes + block + at), nested), offset));
      i = at + kVector;
    }
  }
  return room;
}

template <class Dots, int kRows>
void add_code_rows(const WeightView& w, int64_t row, int64_t count, const Activations& x, float (&sums)[kRows][kVector],
                   float* room) {
  const int64_t blocks = w.cols / kCodeBlock;
  const float* scales = block_scales(w, row * blocks, count * blocks, room);
  const uint8_t* codes = block_codes(w, row * blocks);
  using FourBit = typename Dots::FourBit;
  FourBit values(w);
  for (int64_t j = 0; j < count; ++j) {
    Vec totals[kRows];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) totals[i] = zero();
    for (int64_t b = 0; b < blocks; ++b, codes += kCodeBlock / 2, ++scales) {
      __builtin_prefetch(codes + kWeightsAhead);
      values.load_codes(codes);
      const Vec scale = broadcast(*scales);
      LOWRANK_UNROLL
      for (int i = 0; i < kRows; ++i) {
        totals[i] = fma(values.dot(x.row<typename FourBit::Element>(i) + b * kCodeBlock), scale, totals[i]);
      }
    }
    for (int i = 0; i < kRows; ++i) sums[i][j] += sum(totals[i]);
  }
}

template <class Dots, GgmlType kType, int kRows>
void add_block_rows(const WeightView& w, int64_t row, int64_t count, const Activations& x,
                    float (&sums)[kRows][kVector]) {
  constexpr GgmlLayout layout = layout_of(kType);
  constexpr int64_t kBlockParts = layout.elements / kPart, kRunParts = kRun<kType> / kPart;
  using Part = typename Dots::template Part<kType>;
  Part values;
  for (int64_t j = 0; j < count; ++j) {
    const uint8_t* block = w.block_row(row + j);
    Vec even[kRows], odd[kRows], offsets[kRows];
    LOWRANK_UNROLL
    for (int i = 0; i < kRows; ++i) even[i] = odd[i] = offsets[i] = zero();
    RunScales run;
    for (int64_t k = 0; k < w.cols; k += kRun<kType>) {
      const int64_t parts = std::min(kRunParts, (w.cols - k) / kPart), blocks = parts / kBlockParts;
      for (int64_t byte = 0; byte < blocks * layout.bytes; byte += 64) __builtin_prefetch(block + kWeightsAhead + byte);
      decode_scales<kType>(block, parts, run);
      const auto add_part = [&](Vec(&to)[kRows], int64_t part) {
        values.load_codes(block + part / kBlockParts * layout.bytes, static_cast<int>(part % kBlockParts));
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
          to[i] = values.add_dot(x.row<typename Part::Element>(i) + k + part * kPart,
                                 run.scale + part * (kPart / kGroup<kType>), to[i]);
        }
      };
      if constexpr (kBlockParts > 1) {
        LOWRANK_UNROLL
        for (int part = 0; part < kBlockParts; part += 2) {
          add_part(even, part);
          add_part(odd, part + 1);
        }
      } else {
        int64_t part = 0;
        for (; part + 1 < parts; part += 2) {
          add_part(even, part);
          add_part(odd, part + 1);
        }
        if (part < parts) add_part(even, part);
      }
      if constexpr (kHasOffset<kType>) {
        const Vec offset = load(run.offset);
        LOWRANK_UNROLL
        for (int i = 0; i < kRows; ++i) {
          offsets[i] = fma(offset, load(x.sums + i * x.sums_ld + k / kGroup<kType>), offsets[i]);
        }
      }
      block += blocks * layout.bytes;
    }
    for (int i = 0; i < kRows; ++i) sums[i][j] += sum(add(add(even[i], odd[i]), offsets[i]));
  }
}

// sums[i][j] += x[i] . w[row + j] of a segment.
template <class Dots, int kRows>
void add_segment(const WeightView& w, int64_t row, int64_t count, const Activations& x, float (&sums)[kRows][kVector],
                 float* room) {
  switch (w.format) {
    case WeightFormat::f32:
      return add_dense_rows<WeightFormat::f32, kRows>(w, row, count, x, sums);
    case WeightFormat::bf16:
      return Dots::template add_bf16_rows<kRows>(w, row, count, x, sums);
    case WeightFormat::f16:
      return add_dense_rows<WeightFormat::f16, kRows>(w, row, count, x, sums);
    case WeightFormat::int8:
      return add_dense_rows<WeightFormat::int8, kRows>(w, row, count, x, sums);
    case WeightFormat::four_bit:
      return whole_codes(w) ? add_code_rows<Dots, kRows>(w, row, count, x, sums, room)
                            : add_odd_rows<kRows>(w, row, count, x, sums);
    case WeightFormat::ggml:
      return with_type(w.ggml,
                       [&](auto type) { add_block_rows<Dots, decltype(type)::type, kRows>(w, row, count, x, sums); });
  }
}

template <class Dots, int kRows>
void multiply_few(int64_t begin, int64_t end, std::span<const SegmentView> segments, const Activations* x,
                  const Output& y, float* room) {
  for (int64_t first = begin; first < end; first += kVector) {
    const int64_t count = std::min<int64_t>(kVector, end - first);
    alignas(64) float sums[kRows][kVector] = {};
    for (size_t s = 0; s < segments.size(); ++s)
      add_segment<Dots, kRows>(segments[s].w, first, count, x[s], sums, room);
    finish_tile(&sums[0][0], kVector, kRows, count, y, 0, first);
  }
}

constexpr int64_t padded_to(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Layout of converted activations, by row.
struct ActivationLayout {
  int64_t ld, group, sums_ld;  // elements; group 0: no sums
  int64_t bytes;               // of all rows

  template <class Dots>
  static ActivationLayout of(const WeightView& w, int64_t m) {
    ActivationLayout out{padded_to(w.cols, kActivationsUnit), 0, 0, 0};
    if (w.format == WeightFormat::ggml) {
      with_type(w.ggml, [&](auto type) {
        constexpr GgmlType kType = decltype(type)::type;
        if constexpr (kHasOffset<kType>) out.group = kGroup<kType>;
      });
    }
    // A run reads sixteen sums.
    if (out.group != 0) out.sums_ld = padded_to(w.cols / out.group, kVector) + kVector;
    const int64_t element = Dots::in_bf16(w) ? sizeof(uint16_t) : sizeof(float);
    out.bytes = padded_to(m * (out.ld * element + out.sums_ld * static_cast<int64_t>(sizeof(float))), 64);
    return out;
  }
};

// Rounds or widens `count` values of a row, zeros up to `padded`.
template <class Element>
inline void place_row(const Matrix& x, int64_t row, int64_t count, int64_t padded, Element* out) {
  for (int64_t k = 0; k < padded; k += kVector) {
    const int64_t left = count - k;
    Vec values = zero();
    if (x.dtype == DType::f32) {
      const float* from = row_as<float>(x, row) + k;
      if (left > 0) values = left >= kVector ? load(from) : load_first(from, left);
    } else {
      const uint16_t* from = row_as<uint16_t>(x, row) + k;
      if (left > 0) values = left >= kVector ? load_bf16(from) : load_bf16_first(from, left);
    }
    if constexpr (std::is_same_v<Element, float>) {
      store(out + k, values);
    } else {
      store_bf16(out + k, values);
    }
  }
}

template <class Element>
inline Activations place_activations(const SegmentView& segment, int64_t m, const ActivationLayout& layout,
                                     std::byte* at) {
  auto* const rows = reinterpret_cast<Element*>(at);
  auto* const sums = reinterpret_cast<float*>(rows + m * layout.ld);
  for (int64_t i = 0; i < m; ++i) {
    Element* const row = rows + i * layout.ld;
    place_row(segment.x, i, segment.w.cols, layout.ld, row);
    if (layout.group == 0) continue;
    float* const of_row = sums + i * layout.sums_ld;
    std::fill(of_row, of_row + layout.sums_ld, 0.0f);
    for (int64_t g = 0; g < segment.w.cols / layout.group; ++g) {
      Vec total = zero();
      for (int64_t k = g * layout.group; k < (g + 1) * layout.group; k += kVector) {
        if constexpr (std::is_same_v<Element, float>) {
          total = add(total, load(row + k));
        } else {
          total = add(total, load_bf16(row + k));
        }
      }
      of_row[g] = sum(total);
    }
  }
  return {rows, layout.ld, sums, layout.sums_ld};
}

inline constexpr size_t kMostSegments = 32;  // of a product of few rows

// True if `multiply_few_rows` supports a product: few rows, and the activations of so many fit the thread's buffer. The
// answer is the same for any few rows, so each of them has the bits of a product with it alone.
template <class Dots>
inline bool few_rows(int64_t m, std::span<const SegmentView> segments) {
  if (m > kFewRows || segments.size() > kMostSegments) return false;
  int64_t bytes = 0, longest = 0;
  for (const SegmentView& segment : segments) {
    bytes += ActivationLayout::of<Dots>(segment.w, kFewRows).bytes;
    longest = std::max(longest, segment.w.cols);
  }
  // The scales of sixteen rows of blocks take as many bytes as a row has columns.
  return bytes <= kGroupBytes && longest <= kTileBytes;
}

template <class Dots>
inline void multiply_few_rows(const Cpu& cpu, int64_t m, int64_t n, std::span<const SegmentView> segments,
                              const Output& y) {
  cpu.pool.run([&](int thread, int threads) {
    std::byte* const own = cpu.room + thread * kThreadBytes;
    std::byte* at = own;
    Activations x[kMostSegments];
    for (size_t s = 0; s < segments.size(); ++s) {
      const ActivationLayout layout = ActivationLayout::of<Dots>(segments[s].w, m);
      x[s] = Dots::in_bf16(segments[s].w) ? place_activations<uint16_t>(segments[s], m, layout, at)
                                          : place_activations<float>(segments[s], m, layout, at);
      at += layout.bytes;
    }
    float* const room = reinterpret_cast<float*>(own + kGroupBytes);
    const int64_t batches = (n + kVector - 1) / kVector;
    const int64_t begin = part_begin(batches, threads, thread) * kVector;
    const int64_t end = std::min(n, part_begin(batches, threads, thread + 1) * kVector);
    constexpr decltype(&multiply_few<Dots, 1>) kernels[] = {multiply_few<Dots, 1>, multiply_few<Dots, 2>,
                                                            multiply_few<Dots, 3>, multiply_few<Dots, 4>};
    kernels[m - 1](begin, end, segments, x, y, room);
  });
}
