// Products with a Kronecker product over vectors: small products of matrices, of which one operand is the same for all
// tokens.
#pragma once

#include "backends/cpu/adapters/small_product.inl"

/// Factors as the small products want them on their right.
struct TurnedFactors {
  const float *c, *c_turned, *d, *d_turned, *d2, *d2_turned;
};
static TurnedFactors turn(const KroneckerPair& pair, Room& room) {
  const KroneckerShape& s = pair.shape;
  const float *own_c = host(pair.c), *own_d = host(pair.d), *own_d2 = host(pair.d2);
  float* const c = room.take(s.l * s.p);
  float* const d = room.take(s.k * std::max(s.r, s.q));
  float* const d2 = room.take(s.r * s.q);
  transpose_into(s.l, s.p, own_c, c);
  transpose_into(s.k, s.r > 0 ? s.r : s.q, own_d, d);
  if (s.r > 0) transpose_into(s.r, s.q, own_d2, d2);
  return {own_c, c, own_d, d, own_d2, d2};
}

/// out[rows, k] = x[rows, q] D^T; `z` [rows, r] is left with x d2^T.
static void through_d(const KroneckerShape& s, const TurnedFactors& f, int64_t rows, const float* x, float* z,
                      float* out) {
  if (s.r == 0) return small_product(rows, s.k, s.q, plain(x, s.q), f.d_turned, out, false);
  small_product(rows, s.r, s.q, plain(x, s.q), f.d2_turned, z, false);
  small_product(rows, s.k, s.r, plain(z, s.r), f.d_turned, out, false);
}
/// out[rows, q] = g[rows, k] D; `z` [rows, r] is left with g d.
static void back_through_d(const KroneckerShape& s, const TurnedFactors& f, int64_t rows, const float* g, float* z,
                           float* out) {
  if (s.r == 0) return small_product(rows, s.q, s.k, plain(g, s.k), f.d, out, false);
  small_product(rows, s.r, s.k, plain(g, s.k), f.d, z, false);
  small_product(rows, s.q, s.r, plain(z, s.r), f.d2, out, false);
}

/// Rows of an operand in fp32, in place where they are that already.
static const float* rows_f32(const Matrix& x, int64_t begin, int64_t rows, int64_t cols, float* room) {
  if (x.dtype == DType::f32 && x.ld == cols) return row_as<float>(x, begin);
  with_type(x.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    for (int64_t i = 0; i < rows; ++i) convert_row(row_as<T>(x, begin + i), room + i * cols, cols);
  });
  return room;
}

static void run(const Cpu& cpu, const Kronecker& k) {
  const KroneckerShape& s = k.pair.shape;
  const float *gains = host(k.gains), *residual = host(k.residual);
  const KroneckerWork work = kronecker_work(s, k.tokens);
  Room room{reinterpret_cast<float*>(cpu.room)};
  const TurnedFactors f = turn(k.pair, room);
  float* const threads = reinterpret_cast<float*>(cpu.room) + work.shared;
  const bool first = s.mixes_first();
  const int64_t m = s.out(), blocks = (k.tokens + work.block - 1) / work.block;
  for_units(cpu.pool, blocks, [&](int thread, int64_t unit) {
    const int64_t begin = unit * work.block, count = std::min(work.block, k.tokens - begin);
    const int64_t rows = first ? s.l : s.p;
    Room own{threads + thread * work.per_thread};
    const float* const in = rows_f32(k.x, begin, count, s.in(), own.take(work.block * s.in()));
    float* const y = own.take(work.block * m);
    float* const between = own.take(work.block * rows * (first ? s.q : s.k));
    float* const z = own.take(work.block * rows * s.r);
    if (first) {
      for (int64_t t = 0; t < count; ++t)
        small_product(s.l, s.q, s.p, plain(f.c, s.p), in + t * s.in(), between + t * s.l * s.q, false);
      through_d(s, f, count * s.l, between, z, y);
    } else {
      through_d(s, f, count * s.p, in, z, between);
      for (int64_t t = 0; t < count; ++t)
        small_product(s.l, s.k, s.p, plain(f.c, s.p), between + t * s.p * s.k, y + t * m, false);
    }
    const V factor = set1(k.scale);
    for (int64_t t = 0; t < count; ++t) {
      float* const to = host(k.out) + (begin + t) * m;
      const float* const base = residual == nullptr ? nullptr : residual + (begin + t) * m;
      for_vectors(0, m, [&](int64_t i, auto lanes) {
        V value = mul(load(y + t * m + i, lanes), factor);
        if (gains != nullptr) value = mul(value, load(gains + i, lanes));
        if (base != nullptr) value = add(value, load(base + i, lanes));
        store(to + i, value, lanes);
      });
    }
  });
}

/// Adds the sums of all chunks, in order, to the gradients that are wanted.
static void add_chunks(Pool& pool, const KroneckerBackward& k, const KroneckerWork& work, float* chunks) {
  const KroneckerShape& s = k.pair.shape;
  Room sums{chunks};
  for (const auto& [gradient, elements] :
       {std::pair{host(k.dc), s.l * s.p}, {host(k.dd), s.d_elements()}, {host(k.dd2), s.d2_elements()}}) {
    const float* const from = sums.take(elements);
    if (gradient == nullptr) continue;
    float* const into = gradient;
    pool.for_range(elements, 4096, [&](int64_t begin, int64_t end) {
      for_vectors(begin, end, [&](int64_t i, auto lanes) {
        V value = load(into + i, lanes);
        for (int64_t chunk = 0; chunk < work.chunks; ++chunk)
          value = add(value, load(from + chunk * work.per_chunk + i, lanes));
        store(into + i, value, lanes);
      });
    });
  }
}

static void run(const Cpu& cpu, const KroneckerBackward& k) {
  const KroneckerShape& s = k.pair.shape;
  const float* const gains = host(k.gains);
  float* const dx = host(k.dx);
  const KroneckerWork work = kronecker_work(s, k.tokens);
  Room room{reinterpret_cast<float*>(cpu.room)};
  const TurnedFactors f = turn(k.pair, room);
  float* const threads = reinterpret_cast<float*>(cpu.room) + work.shared;
  float* const chunks = threads + cpu.pool.threads() * work.per_thread;
  const bool first = s.mixes_first();
  const int64_t m = s.out(), n = s.in(), rows = first ? s.l : s.p, width = first ? s.q : s.k;
  for_units(cpu.pool, work.chunks, [&](int thread, int64_t chunk) {
    Room sums{chunks + chunk * work.per_chunk};
    float* const dc = sums.take(s.l * s.p);
    float* const dd = sums.take(s.d_elements());
    float* const dd2 = sums.take(s.d2_elements());
    std::memset(dc, 0, static_cast<size_t>(work.per_chunk) * 4);
    const int64_t last = std::min(k.tokens, (chunk + 1) * work.chunk_tokens);
    for (int64_t begin = chunk * work.chunk_tokens; begin < last; begin += work.block) {
      const int64_t count = std::min(work.block, last - begin), all = count * rows;
      Room own{threads + thread * work.per_thread};
      const float* const in = rows_f32(k.x, begin, count, n, own.take(work.block * n));
      float* const change = own.take(work.block * n);
      float* const g = own.take(work.block * m);
      float* const forth = own.take(work.block * rows * width);
      float* const back = own.take(work.block * rows * width);
      float* const z_forth = own.take(work.block * rows * s.r);
      float* const z_back = own.take(work.block * rows * s.r);
      float* const turned = own.take(s.p * width);
      with_type(k.dy.dtype, [&](auto tag) {
        using T = LOWRANK_ELEMENT(tag);
        const V factor = set1(k.scale);
        for (int64_t t = 0; t < count; ++t) {
          const T* from = row_as<T>(k.dy, begin + t);
          for_vectors(0, m, [&](int64_t i, auto lanes) {
            V value = mul(load(from + i, lanes), factor);
            if (gains != nullptr) value = mul(value, load(gains + i, lanes));
            store(g + t * m + i, value, lanes);
          });
        }
      });
      // `forth` is what the first product of the forward pass gives, `back` the gradient there.
      const float *at_d_in, *at_d_out;
      if (first) {
        for (int64_t t = 0; t < count; ++t)
          small_product(s.l, s.q, s.p, plain(f.c, s.p), in + t * n, forth + t * s.l * s.q, false);
        back_through_d(s, f, all, g, z_back, back);
        if (s.r > 0) small_product(all, s.r, s.q, plain(forth, s.q), f.d2_turned, z_forth, false);
        for (int64_t t = 0; t < count; ++t) {
          transpose_into(s.p, s.q, in + t * n, turned);
          small_product(s.l, s.p, s.q, plain(back + t * s.l * s.q, s.q), turned, dc, true);
        }
        if (dx != nullptr)
          for (int64_t t = 0; t < count; ++t)
            small_product(s.p, s.q, s.l, plain(f.c_turned, s.l), back + t * s.l * s.q, change + t * n, false);
        at_d_in = forth;
        at_d_out = g;
      } else {
        through_d(s, f, all, in, z_forth, forth);
        for (int64_t t = 0; t < count; ++t) {
          small_product(s.p, s.k, s.l, plain(f.c_turned, s.l), g + t * m, back + t * s.p * s.k, false);
          transpose_into(s.p, s.k, forth + t * s.p * s.k, turned);
          small_product(s.l, s.p, s.k, plain(g + t * m, s.k), turned, dc, true);
        }
        if (s.r > 0) small_product(all, s.r, s.k, plain(back, s.k), f.d, z_back, false);
        if (dx != nullptr) {
          if (s.r > 0)
            small_product(all, s.q, s.r, plain(z_back, s.r), f.d2, change, false);
          else
            small_product(all, s.q, s.k, plain(back, s.k), f.d, change, false);
        }
        at_d_in = in;
        at_d_out = back;
      }
      if (s.r > 0) {
        small_product(s.k, s.r, all, transposed(at_d_out, s.k), z_forth, dd, true);
        small_product(s.r, s.q, all, transposed(z_back, s.r), at_d_in, dd2, true);
      } else {
        small_product(s.k, s.q, all, transposed(at_d_out, s.k), at_d_in, dd, true);
      }
      if (dx == nullptr) continue;
      float* const into = dx + begin * n;
      for_vectors(0, count * n, [&](int64_t i, auto lanes) {
        const V value = load(change + i, lanes);
        store(into + i, k.adds_dx ? add(value, load(into + i, lanes)) : value, lanes);
      });
    }
  });
  add_chunks(cpu.pool, k, work, chunks);
}
