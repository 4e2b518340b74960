// The element-wise and row-wise kernels over the vectors of one instruction set. Included once per level, inside its
// target region and namespace, after vec_<isa>.h and vec_math.inl.

static void embedding(Pool& pool, int64_t tokens, int64_t cols, const int32_t* ids, const Matrix& table,
                      const Matrix& out) {
  for_rows(pool, tokens, cols, [&](int64_t row) {
    float* to = row_as<float>(out, row);
    if (table.dtype == DType::f16) {
      convert_row(row_as<F16>(table, ids[row]), to, cols);
    } else if (table.dtype == DType::bf16) {
      convert_row(row_as<Bf16>(table, ids[row]), to, cols);
    } else {
      std::memcpy(to, row_as<float>(table, ids[row]), static_cast<size_t>(cols) * 4);
    }
  });
}

static void rope(Pool& pool, int64_t rows, int32_t heads, int32_t head_dim, int32_t turned, const Matrix& x,
                 const int32_t* positions, const float* cos, const float* sin, bool inverse) {
  const int64_t half = turned / 2;
  const V sign = set1(inverse ? -1.0f : 1.0f);
  with_type(x.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    for_rows(pool, rows, int64_t{heads} * head_dim, [&](int64_t row) {
      const float* c = cos + positions[row] * half;
      const float* s = sin + positions[row] * half;
      T* data = row_as<T>(x, row);
      for (int64_t head = 0; head < heads; ++head, data += head_dim) {
        for_vectors(0, half, [&](int64_t i, auto lanes) {
          const V cosine = load(c + i, lanes), sine = mul(sign, load(s + i, lanes));
          const V first = load(data + i, lanes), second = load(data + half + i, lanes);
          store(data + i, fnma(second, sine, mul(first, cosine)), lanes);
          store(data + half + i, fma(first, sine, mul(second, cosine)), lanes);
        });
      }
    });
  });
}

/// body(i, lanes, mask of kept lanes) over the elements of a row whose first one has the given index in the tensor.
template <class Body>
static LOWRANK_INLINE void for_draws(uint64_t base, uint32_t threshold, uint64_t index, int64_t cols, Body&& body) {
  int64_t i = 0;
  if ((index & 1) != 0 && cols > 0) {  // pairs share a hash: the odd one first
    body(int64_t{0}, Part{1}, hash_draw(base, index) >= threshold ? lanes_from(0) : lanes_from(W));
    i = 1;
  }
  Counter counter = counter_at(base + ((index + 1) >> 1) * kHashStep);
  for_vectors(i, cols, [&](int64_t at, auto lanes) {
    body(at, lanes, kept(counter, threshold));
    counter = advance(counter);
  });
}

static void dropout(Pool& pool, int64_t rows, int64_t cols, const Matrix& x, float p, uint64_t key, const Matrix& out) {
  const uint64_t base = hash_base(key);
  const uint32_t threshold = drop_threshold(p);
  const V scale = set1(1.0f / (1.0f - p));
  with_type(x.dtype, [&](auto x_tag) {
    with_type(out.dtype, [&](auto out_tag) {
      for_rows(pool, rows, cols, [&](int64_t row) {
        const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(x, row);
        auto* to = row_as<LOWRANK_ELEMENT(out_tag)>(out, row);
        for_draws(base, threshold, static_cast<uint64_t>(row * cols), cols, [&](int64_t i, auto lanes, Mask keep) {
          store(to + i, where(keep, mul(load(in + i, lanes), scale)), lanes);
        });
      });
    });
  });
}

static void dropout_backward_add(Pool& pool, int64_t rows, int64_t cols, const Matrix& x, float p, uint64_t key,
                                 const Matrix& y) {
  const uint64_t base = hash_base(key);
  const uint32_t threshold = drop_threshold(p);
  const V scale = set1(1.0f / (1.0f - p));
  with_type(x.dtype, [&](auto x_tag) {
    with_type(y.dtype, [&](auto y_tag) {
      for_rows(pool, rows, cols, [&](int64_t row) {
        const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(x, row);
        auto* to = row_as<LOWRANK_ELEMENT(y_tag)>(y, row);
        for_draws(base, threshold, static_cast<uint64_t>(row * cols), cols, [&](int64_t i, auto lanes, Mask keep) {
          store(to + i, add(load(to + i, lanes), where(keep, mul(load(in + i, lanes), scale))), lanes);
        });
      });
    });
  });
}

static void gather_rows(Pool& pool, int64_t count, int64_t cols, const Matrix& x, const int32_t* rows,
                        const Matrix& out) {
  with_type(x.dtype, [&](auto x_tag) {
    with_type(out.dtype, [&](auto out_tag) {
      using From = LOWRANK_ELEMENT(x_tag);
      using To = LOWRANK_ELEMENT(out_tag);
      for_rows(pool, count, cols, [&](int64_t row) {
        const From* from = row_as<From>(x, rows != nullptr ? rows[row] : row);
        if constexpr (std::is_same_v<From, To>) {
          std::memcpy(row_as<To>(out, row), from, static_cast<size_t>(cols) * sizeof(To));
        } else {
          convert_row(from, row_as<To>(out, row), cols);
        }
      });
    });
  });
}

static void scatter_add_rows(Pool& pool, int64_t count, int64_t cols, const Matrix& x, const int32_t* rows,
                             const Matrix& out) {
  with_type(x.dtype, [&](auto x_tag) {
    with_type(out.dtype, [&](auto out_tag) {
      for_rows(pool, count, cols, [&](int64_t row) {
        const auto* from = row_as<LOWRANK_ELEMENT(x_tag)>(x, row);
        auto* to = row_as<LOWRANK_ELEMENT(out_tag)>(out, rows != nullptr ? rows[row] : row);
        for_vectors(0, cols, [&](int64_t i, auto lanes) {
          store(to + i, add(load(to + i, lanes), load(from + i, lanes)), lanes);
        });
      });
    });
  });
}

static void scale_columns(Pool& pool, int64_t rows, int64_t cols, const Matrix& x, const float* gain,
                          const float* bias, const Matrix& addend, const Matrix& y) {
  with_type(x.dtype, [&](auto x_tag) {
    with_type(addend.dtype, [&](auto addend_tag) {
      with_type(y.dtype, [&](auto y_tag) {
        for_rows(pool, rows, cols, [&](int64_t row) {
          const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(x, row);
          const auto* more = addend.data == nullptr ? nullptr : row_as<LOWRANK_ELEMENT(addend_tag)>(addend, row);
          auto* to = row_as<LOWRANK_ELEMENT(y_tag)>(y, row);
          for_vectors(0, cols, [&](int64_t i, auto lanes) {
            V value = mul(load(in + i, lanes), load(gain + i, lanes));
            if (bias != nullptr) value = add(value, load(bias + i, lanes));
            if (more != nullptr) value = add(value, load(more + i, lanes));
            store(to + i, value, lanes);
          });
        });
      });
    });
  });
}

static void scale_columns_backward(Pool& pool, int64_t rows, int64_t cols, const Matrix& dy, const Matrix& x,
                                   const float* gain, const float* share, const Matrix& dx, float* dgain) {
  with_type(dy.dtype, [&](auto dy_tag) {
    with_type(x.dtype, [&](auto x_tag) {
      with_type(dx.dtype, [&](auto dx_tag) {
        // Threads take columns, so that each sum over the rows has one order.
        pool.for_range((cols + kColumnChunk - 1) / kColumnChunk, 1, [&](int64_t first, int64_t last) {
          for (int64_t chunk = first; chunk < last; ++chunk) {
            const int64_t begin = chunk * kColumnChunk, count = std::min(kColumnChunk, cols - begin);
            float total[kColumnChunk] = {};
            for (int64_t top = 0; top < rows; top += kRowChunk) {
              float part[kColumnChunk] = {};
              for (int64_t row = top; row < std::min(top + kRowChunk, rows); ++row) {
                const auto* d = row_as<LOWRANK_ELEMENT(dy_tag)>(dy, row) + begin;
                const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(x, row) + begin;
                auto* to = row_as<LOWRANK_ELEMENT(dx_tag)>(dx, row) + begin;
                for_vectors(0, count, [&](int64_t i, auto lanes) {
                  const V gradient = load(d + i, lanes);
                  store(part + i, fma(gradient, load(in + i, lanes), load(part + i, lanes)), lanes);
                  store(to + i, mul(gradient, load(gain + begin + i, lanes)), lanes);
                });
              }
              for (int64_t i = 0; i < count; ++i) total[i] += part[i];
            }
            for (int64_t i = 0; i < count; ++i) dgain[begin + i] += share[begin + i] * total[i];
          }
        });
      });
    });
  });
}

#include "backends/cpu/areas.inl"
#include "backends/cpu/cross_entropy.inl"
#include "backends/cpu/optimizers.inl"
#include "backends/cpu/kronecker.inl"
#include "backends/cpu/rotation.inl"
#include "backends/cpu/short_conv.inl"
#include "backends/cpu/delta_rule.inl"

static constexpr OpKernels table = {
    .embedding = embedding,
    .rope = rope,
    .attention = attention,
    .attention_backward = attention_backward,
    .short_conv = short_conv,
    .silu_conv_slope = silu_conv_slope,
    .short_conv_backward = short_conv_backward,
    .short_conv_gradient = short_conv_gradient,
    .gated_delta_rule = gated_delta_rule,
    .gated_delta_rule_backward = gated_delta_rule_backward,
    .cross_entropy = cross_entropy,
    .dropout = dropout,
    .dropout_backward_add = dropout_backward_add,
    .gather_rows = gather_rows,
    .scatter_add_rows = scatter_add_rows,
    .scale_columns = scale_columns,
    .scale_columns_backward = scale_columns_backward,
    .sum_of_squares = sum_of_squares,
    .adamw = adamw,
    .adamw_8bit = adamw_8bit,
    .sgd = sgd,
    .lion = lion,
    .lion_8bit = lion_8bit,
    .kronecker = kronecker,
    .kronecker_backward = kronecker_backward,
    .cayley_neumann = cayley_neumann,
    .cayley_neumann_backward = cayley_neumann_backward,
    .rotate = rotate,
    .rotate_by_series = rotate_by_series,
    .rotation_gradient = rotation_gradient,
};

#include "backends/cpu/table.inl"

#undef LOWRANK_ELEMENT
