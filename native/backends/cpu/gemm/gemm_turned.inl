// y^T = w x^T on AMX, for products of fewer tokens than outputs. The tile unit wants pairs of the reduction side by
// side of its second operand only, and takes the rows of the first as they lie in memory. Turned, that is the weight:
// bf16 weights are not packed at all, others are decoded row by row, and the activations are packed in their place.
// Every sum has the same terms in the same order, so the results have the same bits.

// The factors of a part of the reduction: weight rows are read as they lie, tokens are packed.
struct TurnedSegment {
  WeightView x;
  WeightView w;
};

inline WeightView view_of(const Matrix& x, int64_t tokens, int64_t cols) {
  WeightView view;
  view.format = x.dtype == DType::bf16 ? WeightFormat::bf16 : WeightFormat::f32;
  view.rows = tokens;
  view.cols = cols;
  view.data = host(x.data);
  view.ld = x.ld;
  return view;
}

struct TurnedTiles : AmxTiles {
  static void copy_row(const WeightView& w, int64_t row, const Piece& piece, uint16_t* out) {
    switch (w.format) {
      case WeightFormat::f32:
        return copy_dense<WeightFormat::f32>(w, row, piece, out);
      case WeightFormat::bf16:
        return copy_dense<WeightFormat::bf16>(w, row, piece, out);
      case WeightFormat::f16:
        return copy_dense<WeightFormat::f16>(w, row, piece, out);
      case WeightFormat::int8:
        return copy_dense<WeightFormat::int8>(w, row, piece, out);
      case WeightFormat::four_bit:
        if (whole_codes(w)) return copy_codes(w, row, piece, out);
        break;
      case WeightFormat::ggml:
        if (piece.begin % kPart == 0) return copy_blocks(w, row, piece, out);
        break;
    }
    alignas(64) float decoded[kDecoded] = {};
    for (int64_t k = 0; k < piece.padded; k += kDecoded) {
      const int64_t count = std::min(kDecoded, piece.count - k);
      decode_row(w, row, piece.begin + k, count, decoded);
      std::fill(decoded + count, decoded + kDecoded, 0.0f);
      for (int64_t i = 0; i < std::min(kDecoded, piece.padded - k); i += kWide) {
        _mm512_storeu_si512(out + k + i, narrow_pair(load(decoded + i + kVector), load(decoded + i)));
      }
    }
  }

  // Rows of the sums are outputs; those of y are tokens.
  static void finish(const float* sums, int64_t width, TileRows tile, int64_t tokens, const Output& y, int64_t token) {
    alignas(64) float turned[kPanelVectors * kVector * kTileRows];
    const int64_t loaded = tile.end - tile.load, skipped = tile.begin - tile.load;
    for (int64_t row = 0; row < loaded; row += kVector) {
      for (int64_t column = 0; column < width; column += kVector) {
        Vec square[kVector];
        LOWRANK_UNROLL
        for (int i = 0; i < kVector; ++i) square[i] = load(sums + (row + i) * kSumsStride + column);
        transpose(square);
        LOWRANK_UNROLL
        for (int i = 0; i < kVector; ++i) store(turned + (column + i) * kTileRows + row, square[i]);
      }
    }
    const int64_t upper = std::min(loaded, kHeight);
    finish_tile(turned + skipped, kTileRows, tokens, upper - skipped, y, token, tile.begin);
    if (loaded <= kHeight) return;
    const int64_t second = loaded - kHeight;  // the second row of tiles starts here, and repeats rows of the first
    finish_tile(turned + 2 * kHeight - second, kTileRows, tokens, second, y, token, tile.begin + kHeight);
  }

 private:
  template <WeightFormat kFormat>
  static void copy_dense(const WeightView& w, int64_t row, const Piece& piece, uint16_t* out) {
    for (int64_t k = 0; k < piece.padded; k += kWide) {
      _mm512_storeu_si512(out + k, load_wide<kFormat>(w, row, piece.begin + k, piece.count - k));
    }
  }

  static void copy_codes(const WeightView& w, int64_t row, const Piece& piece, uint16_t* out) {
    const CodeTable table = code_table(w);
    const int64_t first = (row * w.cols + piece.begin) / kCodeBlock;
    for (int64_t k = 0; k < piece.count; k += kCodeBlock) {
      const int64_t block = first + k / kCodeBlock;
      const __m512i values = code_table_bf16(table, w.scale_of_block(block));
      const __m512i words = code_words(block_codes(w, block));
      _mm512_storeu_si512(out + k, _mm512_permutexvar_epi16(words, values));
      _mm512_storeu_si512(out + k + kWide, _mm512_permutexvar_epi16(_mm512_srli_epi16(words, 4), values));
    }
  }

  static void copy_blocks(const WeightView& w, int64_t row, const Piece& piece, uint16_t* out) {
    with_type(w.ggml, [&](auto blocks) {
      for_parts<decltype(blocks)::type>(
          w.block_row(row), piece.begin, piece.count, [&](int64_t at, const Vec(&values)[2]) {
            _mm512_storeu_si512(out + at - piece.begin, narrow_pair(values[1], values[0]));
          });
    });
  }
};

// True if packing tokens and turning the sums of each block of the reduction costs less than packing weights. Weights
// that have to be decoded gain less. A function of the shape and the format alone.
inline bool turned(int64_t m, int64_t n, std::span<const SegmentView> segments) {
  int64_t k = 0;
  for (const SegmentView& segment : segments) k += segment.w.cols;
  const int64_t longest = kReductionBytes / static_cast<int64_t>(sizeof(uint16_t));
  const int64_t blocks = k <= longest ? 1 : (4 * k + longest - 1) / longest;
  const int64_t gain = segments.front().w.format == WeightFormat::bf16 ? 10 : 6;
  return 15 * m * (k + n * blocks) <= gain * n * k;
}

inline void multiply_turned(const Cpu& cpu, int64_t m, int64_t n, std::span<const SegmentView> segments,
                            const Output& y) {
  if (m <= 0 || n <= 0) return;
  std::vector<TurnedSegment> parts;
  for (const SegmentView& segment : segments) parts.push_back({segment.w, view_of(segment.x, m, segment.w.cols)});
  float* partial = reinterpret_cast<float*>(cpu.room + cpu.pool.threads() * kThreadBytes);
  Product<TurnedTiles, true, TurnedSegment>(n, m, parts, y, cpu.pool.threads(), partial, n).run(cpu);
}
