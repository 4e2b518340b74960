// The loops around a tile kernel, the same for every instruction set and precision. A thread decodes a group of weight
// panels for a whole block of the reduction into its private buffer, then runs every row tile over the panels of the
// group; each tile's sums stay in registers over all segments. A dense copy of a weight never exists.

// One piece of the reduction of a row tile: `ld` elements from row to row, `steps` steps of the kernel.
template <class Element>
struct RowPiece {
  const Element* data;
  int64_t ld;
  int64_t steps;
};

// Start of the packed columns 16 v .. 16 v + 15 of a group, and the distance to the next step of the reduction.
template <class Element>
struct Slot {
  Element* data;
  int64_t stride;
};

// Rows a tile stores, [begin, end), and the first row it reads: kernels of fixed height read earlier rows again.
struct TileRows {
  int64_t load, begin, end;
};

inline constexpr int64_t kBand = 32;  // stored rows decoded at a time when they lie along the reduction

template <bool kBias, bool kResidual>
inline void finish_rows(const float* sums, int64_t stride, int64_t rows, int64_t columns, const Output& y, int64_t row,
                        int64_t column) {
  const float* const bias = kBias ? host(y.bias) + column : nullptr;
  const float* residual = kResidual ? host(y.residual) + row * y.residual_ld + column : nullptr;
  const int64_t ld = y.y.ld, residual_ld = y.residual_ld;
  int64_t first = row * ld + column;
  for (int64_t i = 0; i < rows; ++i, sums += stride, first += ld) {
    const auto whole = [&](int64_t j) {
      Vec value = load(sums + j);
      if constexpr (kBias) value = add(value, load(bias + j));
      if constexpr (kResidual) value = add(value, load(residual + j));
      return value;
    };
    const auto partial = [&](int64_t j, int64_t left) {
      Vec value = load(sums + j);
      if constexpr (kBias) value = add(value, load_first(bias + j, left));
      if constexpr (kResidual) value = add(value, load_first(residual + j, left));
      return value;
    };
    int64_t j = 0;
    if (y.y.dtype == DType::f32) {
      float* const out = host(y.y.data.as<float>()) + first;
      for (; j + kVector <= columns; j += kVector) store(out + j, whole(j));
      if (j < columns) store_first(out + j, partial(j, columns - j), columns - j);
    } else {
      uint16_t* const out = host(y.y.data.as<uint16_t>()) + first;
      for (; j + 2 * kVector <= columns; j += 2 * kVector) store_bf16(out + j, whole(j), whole(j + kVector));
      if (j + kVector <= columns) {
        store_bf16(out + j, whole(j));
        j += kVector;
      }
      if (j < columns) store_bf16_first(out + j, partial(j, columns - j), columns - j);
    }
    if constexpr (kResidual) residual += residual_ld;
  }
}

// Adds bias and residual to finished sums and stores them in the output's type: rows `row`.. and columns `column`.. of
// y, read from sums[rows][stride].
__attribute__((noinline)) void finish_tile(const float* sums, int64_t stride, int64_t rows, int64_t columns,
                                           const Output& y, int64_t row, int64_t column) {
  if (!y.bias) {
    !y.residual ? finish_rows<false, false>(sums, stride, rows, columns, y, row, column)
                : finish_rows<false, true>(sums, stride, rows, columns, y, row, column);
  } else {
    !y.residual ? finish_rows<true, false>(sums, stride, rows, columns, y, row, column)
                : finish_rows<true, true>(sums, stride, rows, columns, y, row, column);
  }
}

template <class Kernel, bool kTransposed, class Factors = SegmentView>
struct Product {
  using Element = typename Kernel::Element;
  static constexpr int64_t kPanelColumns = Kernel::kPanelVectors * kVector;

  int64_t m, n;
  std::span<const Factors> segments;
  std::vector<ReductionBlock> blocks;
  std::vector<Output> outputs;  // where each block of the reduction leaves its sums
  int64_t longest = 0;          // longest padded block
  int64_t vectors, panels, tiles;
  Grid grid;

  // Rows of `partial`, the sums between blocks, are `partial_ld` elements apart.
  Product(int64_t rows, int64_t columns, std::span<const Factors> parts, const Output& y, int threads, float* partial,
          int64_t partial_ld)
      : m(rows), n(columns), segments(parts) {
    std::vector<int64_t> reductions;
    for (const Factors& segment : segments) reductions.push_back(kTransposed ? segment.w.cols : segment.w.rows);
    blocks = reduction_blocks(reductions, Kernel::kStep, kReductionBytes / static_cast<int64_t>(sizeof(Element)));
    for (const ReductionBlock& block : blocks) longest = std::max(longest, block.padded);
    chain_outputs(y, partial, partial_ld);
    vectors = (n + kVector - 1) / kVector;
    panels = (vectors + Kernel::kPanelVectors - 1) / Kernel::kPanelVectors;
    tiles = Kernel::row_tiles(m);
    const double tile_rows = static_cast<double>(m) / static_cast<double>(tiles);
    grid = choose_grid(threads, panels, tiles, kPanelColumns * Kernel::kDecodeCycles, tile_rows * Kernel::kLoadCycles,
                       kPanelColumns * tile_rows * Kernel::kMultiplyCycles);
  }

  // Sums of a block go where the next block finds them: into y itself when it is fp32, else into `partial`.
  void chain_outputs(const Output& y, float* partial, int64_t partial_ld) {
    const size_t count = blocks.size();
    outputs.assign(count, y);
    if (count == 1) return;
    const bool direct = y.y.dtype == DType::f32;
    const Output sums{direct ? y.y : f32_matrix(address_of(partial), partial_ld)};
    for (size_t i = 0; i < count; ++i) {
      Output& output = outputs[i];
      if (i + 1 < count || direct) output = sums;
      if (i > 0) {
        output.residual = sums.y.data.as<float>();
        output.residual_ld = sums.y.ld;
      } else {
        output.residual = y.residual;
        output.residual_ld = y.residual_ld;
      }
      output.bias = i + 1 == count ? y.bias : Ptr<float>();
    }
  }

  // A product of one part wakes no other thread.
  void run(const Cpu& cpu) const {
    if (grid.columns * grid.rows == 1) return run(0, cpu.room);
    cpu.pool.run([&](int thread, int) { run(thread, cpu.room); });
  }

  void run(int thread, std::byte* workspace) const {
    if (thread >= grid.columns * grid.rows) return;
    const int64_t column_part = thread % grid.columns, row_part = thread / grid.columns;
    const int64_t panel_begin = part_begin(panels, grid.columns, column_part);
    const int64_t panel_end = part_begin(panels, grid.columns, column_part + 1);
    const int64_t tile_begin = part_begin(tiles, grid.rows, row_part);
    const int64_t tile_end = part_begin(tiles, grid.rows, row_part + 1);
    std::byte* own = workspace + thread * kThreadBytes;
    Element* group = reinterpret_cast<Element*>(own);
    const int64_t panel_bytes = kPanelColumns * longest * static_cast<int64_t>(sizeof(Element));
    const int64_t fitting = std::max<int64_t>(1, kGroupBytes / panel_bytes);
    const int64_t count = panel_end - panel_begin;
    const int64_t groups = (count + fitting - 1) / fitting;
    Kernel::enter(m);
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t first = panel_begin + part_begin(count, groups, g);
      const int64_t last = panel_begin + part_begin(count, groups, g + 1);
      for (size_t b = 0; b < blocks.size(); ++b) {
        decode(blocks[b], first, last, group);
        for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
          multiply(blocks[b], outputs[b], tile, tile_end, first, last, group, own);
        }
      }
    }
    Kernel::leave();
  }

  int64_t panel_width(int64_t panel) const {
    return std::min<int64_t>(Kernel::kPanelVectors, vectors - panel * Kernel::kPanelVectors);
  }

  // Decodes the block's part of every weight for the panels [first_panel, last_panel). Stored rows are read in bands,
  // and the next band is on its way to the cache meanwhile: the hardware does not foresee rows this short.
  void decode(const ReductionBlock& block, int64_t first_panel, int64_t last_panel, Element* group) const {
    const int64_t begin = first_panel * Kernel::kPanelVectors,
                  end = std::min(last_panel * Kernel::kPanelVectors, vectors);
    const int64_t first = begin * kVector, columns = std::min(n, end * kVector) - first;
    int64_t before = 0;
    for (const Piece& piece : block.pieces) {
      const WeightView& weight = segments[static_cast<size_t>(piece.segment)].w;
      if constexpr (kTransposed) {
        for (int64_t v = begin; v < end; ++v) {
          prefetch_weights(weight, (v + 1) * kVector, v + 1 < end ? kVector : 0, piece.begin, piece.count);
          Kernel::pack_rows(weight, v * kVector, std::min<int64_t>(kVector, n - v * kVector), piece,
                            slot(group, block, first_panel, v, before));
        }
      } else {
        for (int64_t row = 0; row < piece.count; row += kBand) {
          const int64_t last = row + kBand;
          Piece band{piece.segment, piece.begin + row, kBand, kBand};
          if (last >= piece.count) band.count = piece.count - row, band.padded = piece.padded - row;
          prefetch_weights(weight, piece.begin + last, std::clamp<int64_t>(piece.count - last, 0, kBand), first,
                           columns);
          decode_band(weight, band, block, begin, end, first_panel, before + row, group);
        }
      }
      before += piece.padded;
    }
  }

  void decode_band(const WeightView& weight, const Piece& band, const ReductionBlock& block, int64_t begin, int64_t end,
                   int64_t first_panel, int64_t before, Element* group) const {
    constexpr int64_t kQuantized = kCodeBlock / kVector;  // column vectors that share one block of codes
    for (int64_t v = begin; v < end;) {
      const int64_t count = std::min(kQuantized - v % kQuantized, end - v);
      Slot<Element> slots[kQuantized];
      for (int64_t i = 0; i < count; ++i) slots[i] = slot(group, block, first_panel, v + i, before);
      Kernel::pack_columns(weight, v * kVector, std::min(count * kVector, n - v * kVector), band, slots);
      v += count;
    }
  }

  // Slot in which column vector v of the output keeps the reduction from element `before` of the block on.
  Slot<Element> slot(Element* group, const ReductionBlock& block, int64_t first_panel, int64_t v,
                     int64_t before) const {
    const int64_t panel = v / Kernel::kPanelVectors, stride = panel_width(panel) * kVector * Kernel::kInterleave;
    return {group + (panel - first_panel) * kPanelColumns * block.padded +
                v % Kernel::kPanelVectors * kVector * Kernel::kInterleave + before / Kernel::kInterleave * stride,
            stride};
  }

  // One row tile over the panels of the group. Where the kernel asks for it, the tile's part of the reduction is cut
  // into runs, all panels of a run before the next run: the activations of a run then stay in the first-level cache, at
  // the price of carrying the sums from run to run through a buffer.
  void multiply(const ReductionBlock& block, const Output& output, int64_t tile_index, int64_t last_tile,
                int64_t first_panel, int64_t last_panel, const Element* group, std::byte* own) const {
    const TileRows tile = Kernel::rows_of(m, tile_index, tiles);
    RowPiece<Element> pieces[kMostPieces + kMostRuns];
    int run_end[kMostRuns];
    const int runs = cut_rows(block, tile, pieces, run_end, reinterpret_cast<Element*>(own + kGroupBytes));
    float* carried = reinterpret_cast<float*>(own + kGroupBytes + kTileBytes);
    alignas(64) float sums[2][Kernel::kSums];
    const TileRows next = tile_index + 1 < last_tile ? Kernel::rows_of(m, tile_index + 1, tiles) : TileRows{0, 0, 0};
    const int64_t passes = runs * (last_panel - first_panel);
    int64_t pass = 0, before = 0;
    const float* finished = nullptr;
    int piece = 0;
    for (int run = 0; run < runs; ++run) {
      for (int64_t panel = first_panel; panel < last_panel; ++panel, ++pass) {
        const int64_t rows = next.end - next.begin;
        prefetch_rows(block, next.begin + part_begin(rows, passes, pass),
                      next.begin + part_begin(rows, passes, pass + 1));
        const int64_t index = panel - first_panel, width = panel_width(panel);
        const Element* weights = group + index * kPanelColumns * block.padded + before * width * kVector;
        float* target = runs == 1 ? sums[pass % 2] : carried + index * Kernel::kSums;
        Kernel::sum(pieces + piece, run_end[run] - piece, weights, static_cast<int>(width), tile, target, run > 0);
        if (run + 1 < runs) continue;
        // One panel late: the sums just asked for are still being computed.
        if (finished != nullptr) finish(finished, panel - 1, tile, output);
        finished = target;
      }
      for (; piece < run_end[run]; ++piece) before += pieces[piece].steps * Kernel::kStep;
    }
    finish(finished, last_panel - 1, tile, output);
  }

  void finish(const float* sums, int64_t panel, TileRows tile, const Output& output) const {
    const int64_t column = panel * kPanelColumns, width = panel_width(panel) * kVector;
    Kernel::finish(sums, width, tile, std::min(width, n - column), output, column);
  }

  // The rows of a tile, in place or copied, piece by piece in runs of about equal length. Returns the number of runs.
  int cut_rows(const ReductionBlock& block, TileRows tile, RowPiece<Element>* pieces, int* run_end,
               Element* copies) const {
    const int64_t runs = (block.padded + Kernel::kRunLength - 1) / Kernel::kRunLength;
    const int64_t longest_run = (block.padded / Kernel::kStep + runs - 1) / runs;  // in steps
    int count = 0, run = 0;
    int64_t room = longest_run;
    for (const Piece& piece : block.pieces) {
      const auto& x = segments[static_cast<size_t>(piece.segment)].x;
      RowPiece<Element> rows{row_as<Element>(x, tile.load) + piece.begin, x.ld, piece.padded / Kernel::kStep};
      if (!in_place(x, piece)) {
        rows.data = copies;
        rows.ld = piece.padded + kRowPadding / static_cast<int64_t>(sizeof(Element));
        for (int64_t row = tile.load; row < tile.end; ++row, copies += rows.ld) Kernel::copy_row(x, row, piece, copies);
      }
      for (int64_t left = rows.steps; left > 0;) {
        if (room == 0) {
          run_end[run++] = count;
          room = longest_run;
        }
        rows.steps = std::min(left, room);
        pieces[count++] = rows;
        rows.data += rows.steps * Kernel::kStep;
        left -= rows.steps;
        room -= rows.steps;
      }
    }
    run_end[run++] = count;
    return run;
  }

  static bool in_place(const Matrix& x, const Piece& piece) {
    return x.dtype == Kernel::kType && piece.count == piece.padded;
  }
  static bool in_place(const WeightView& w, const Piece& piece) {
    return w.format == WeightFormat::bf16 && Kernel::kType == DType::bf16 && piece.count == piece.padded;
  }

  // Rows of the next tile, on their way to the second-level cache while this tile is computed.
  void prefetch_rows(const ReductionBlock& block, int64_t begin, int64_t end) const {
    for (const Piece& piece : block.pieces) {
      prefetch(segments[static_cast<size_t>(piece.segment)].x, begin, end - begin, piece);
    }
  }
  static void prefetch(const Matrix& x, int64_t row, int64_t rows, const Piece& piece) {
    const int64_t size = size_of(x.dtype);
    for (int64_t i = row; i < row + rows; ++i) {
      const char* first = host(x.data.as<char>()) + (i * x.ld + piece.begin) * size;
      for (int64_t byte = 0; byte < piece.count * size; byte += 64) __builtin_prefetch(first + byte, 0, 2);
    }
  }
  static void prefetch(const WeightView& w, int64_t row, int64_t rows, const Piece& piece) {
    prefetch_weights(w, row, rows, piece.begin, piece.count);
  }
};

template <class Kernel, bool kTransposed>
void multiply(const Cpu& cpu, int64_t m, int64_t n, std::span<const SegmentView> segments, const Output& y) {
  if (m <= 0 || n <= 0) return;
  float* partial = reinterpret_cast<float*>(cpu.room + cpu.pool.threads() * kThreadBytes);
  Product<Kernel, kTransposed>(m, n, segments, y, cpu.pool.threads(), partial, n).run(cpu);
}

void run(const Cpu& cpu, const GemmNt& k);
void run(const Cpu& cpu, const GroupedGemmNt& k) {
  for (const GemmNt& each : k.products) run(cpu, each);
}
