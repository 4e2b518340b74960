// Element-wise kernels, over vectors.
#pragma once

static void run(const Cpu& cpu, const Rope& k) {
  const int64_t half = k.turned / 2;
  const V sign = set1(k.inverse ? -1.0f : 1.0f);
  with_type(k.x.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    for_rows(cpu.pool, k.rows, int64_t{k.heads} * k.head_dim, [&](int64_t row) {
      const float* c = host(k.cos) + host(k.positions)[row] * half;
      const float* s = host(k.sin) + host(k.positions)[row] * half;
      T* data = row_as<T>(k.x, row);
      for (int64_t head = 0; head < k.heads; ++head, data += k.head_dim) {
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

static void run(const Cpu& cpu, const Dropout& k) {
  const uint64_t base = hash_base(k.key);
  const uint32_t threshold = drop_threshold(k.p);
  const V scale = set1(1.0f / (1.0f - k.p));
  with_type(k.x.dtype, [&](auto x_tag) {
    with_type(k.out.dtype, [&](auto out_tag) {
      for_rows(cpu.pool, k.rows, k.cols, [&](int64_t row) {
        const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(k.x, row);
        auto* to = row_as<LOWRANK_ELEMENT(out_tag)>(k.out, row);
        for_draws(base, threshold, static_cast<uint64_t>(row * k.cols), k.cols, [&](int64_t i, auto lanes, Mask keep) {
          store(to + i, where(keep, mul(load(in + i, lanes), scale)), lanes);
        });
      });
    });
  });
}

static void run(const Cpu& cpu, const DropoutBackward& k) {
  const uint64_t base = hash_base(k.key);
  const uint32_t threshold = drop_threshold(k.p);
  const V scale = set1(1.0f / (1.0f - k.p));
  with_type(k.x.dtype, [&](auto x_tag) {
    with_type(k.y.dtype, [&](auto y_tag) {
      for_rows(cpu.pool, k.rows, k.cols, [&](int64_t row) {
        const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(k.x, row);
        auto* to = row_as<LOWRANK_ELEMENT(y_tag)>(k.y, row);
        for_draws(base, threshold, static_cast<uint64_t>(row * k.cols), k.cols, [&](int64_t i, auto lanes, Mask keep) {
          store(to + i, add(load(to + i, lanes), where(keep, mul(load(in + i, lanes), scale))), lanes);
        });
      });
    });
  });
}

static void run(const Cpu& cpu, const GatherRows& k) {
  with_type(k.x.dtype, [&](auto x_tag) {
    with_type(k.out.dtype, [&](auto out_tag) {
      using From = LOWRANK_ELEMENT(x_tag);
      using To = LOWRANK_ELEMENT(out_tag);
      for_rows(cpu.pool, k.count, k.cols, [&](int64_t row) {
        const From* from = row_as<From>(k.x, k.rows ? host(k.rows)[row] : row);
        if constexpr (std::is_same_v<From, To>) {
          std::memcpy(row_as<To>(k.out, row), from, static_cast<size_t>(k.cols) * sizeof(To));
        } else {
          convert_row(from, row_as<To>(k.out, row), k.cols);
        }
      });
    });
  });
}

static void run(const Cpu& cpu, const ScatterAddRows& k) {
  with_type(k.x.dtype, [&](auto x_tag) {
    with_type(k.out.dtype, [&](auto out_tag) {
      for_rows(cpu.pool, k.count, k.cols, [&](int64_t row) {
        const auto* from = row_as<LOWRANK_ELEMENT(x_tag)>(k.x, row);
        auto* to = row_as<LOWRANK_ELEMENT(out_tag)>(k.out, k.rows ? host(k.rows)[row] : row);
        for_vectors(0, k.cols, [&](int64_t i, auto lanes) {
          store(to + i, add(load(to + i, lanes), load(from + i, lanes)), lanes);
        });
      });
    });
  });
}

static void run(const Cpu& cpu, const ScaleColumns& k) {
  with_type(k.x.dtype, [&](auto x_tag) {
    with_type(k.addend.dtype, [&](auto addend_tag) {
      with_type(k.y.dtype, [&](auto y_tag) {
        const float *gain = host(k.gain), *bias = host(k.bias);
        for_rows(cpu.pool, k.rows, k.cols, [&](int64_t row) {
          const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(k.x, row);
          const auto* more = !k.addend.data ? nullptr : row_as<LOWRANK_ELEMENT(addend_tag)>(k.addend, row);
          auto* to = row_as<LOWRANK_ELEMENT(y_tag)>(k.y, row);
          for_vectors(0, k.cols, [&](int64_t i, auto lanes) {
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
