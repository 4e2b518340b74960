// Rotations of blocks over vectors: small products of matrices in the first levels of cache.
#pragma once

#include "backends/cpu/adapters/small_product.inl"

/// A thread's part of the workspace.
template <class K>
static Room rotation_room(const Cpu& cpu, const K& k, int thread) {
  return {reinterpret_cast<float*>(cpu.room + thread * workspace(k, 1))};
}

/// out = I value.
static void set_diagonal(int64_t size, float value, float* out) {
  std::fill(out, out + size * size, 0.0f);
  for (int64_t i = 0; i < size; ++i) out[i * size + i] = value;
}

static void run(const Cpu& cpu, const CayleyNeumann& k) {
  const int64_t n = k.shape.size;
  const int degree = cayley_degree(k.terms);
  for_units(cpu.pool, k.shape.blocks, [&](int thread, int64_t block) {
    Room room = rotation_room(cpu, k, thread);
    float* const q = room.take(n * n);
    float* sum = room.take(n * n);  // by Horner's rule
    float* next = room.take(n * n);
    float* const to = host(k.out) + block * n * n;
    skew_symmetric(n, k.inverse ? -1.0f : 1.0f, host(k.skew) + block * k.shape.skew_elements(), q);
    if (degree == 0) return set_diagonal(n, k.whole ? 1 : 0, to);
    set_diagonal(n, cayley_factor(degree, k.terms), sum);
    for (int i = degree - 1; i >= 0; --i) {
      float* const made = i == 0 ? to : next;
      small_product(n, n, n, plain(q, n), sum, made, false);
      const float factor = i == 0 ? (k.whole ? 1.0f : 0.0f) : cayley_factor(i, k.terms);
      for (int64_t r = 0; r < n; ++r) made[r * n + r] += factor;
      std::swap(sum, next);
    }
  });
}

/// With P_m = c_m I and P_i = c_i I + Q P_(i+1), D is Q P_1. Going back, dQ = sum of dP_(i-1) P_i^T with dP_0 = g and
/// dP_i = Q^T dP_(i-1); the transpose of P_i is the same polynomial of -Q.
static void run(const Cpu& cpu, const CayleyNeumannBackward& k) {
  const int64_t n = k.shape.size;
  const int degree = cayley_degree(k.terms);
  if (degree == 0) return;
  for_units(cpu.pool, k.shape.blocks, [&](int thread, int64_t block) {
    Room room = rotation_room(cpu, k, thread);
    float* const q = room.take(n * n);
    float* const dq = room.take(n * n);
    float* dp = room.take(n * n);
    float* next = room.take(n * n);
    float* const p = room.take(degree * n * n);  // P_i^T at i - 1
    skew_symmetric(n, -1.0f, host(k.skew) + block * k.shape.skew_elements(), q);
    for (int i = degree; i > 0; --i) {
      float* const own = p + (i - 1) * n * n;
      if (i == degree) {
        set_diagonal(n, cayley_factor(i, k.terms), own);
        continue;
      }
      small_product(n, n, n, plain(q, n), own + n * n, own, false);
      for (int64_t r = 0; r < n; ++r) own[r * n + r] += cayley_factor(i, k.terms);
    }
    std::copy_n(host(k.g) + block * n * n, n * n, dp);
    for (int i = 1; i <= degree; ++i) {
      small_product(n, n, n, plain(dp, n), p + (i - 1) * n * n, dq, i > 1);
      if (i == degree) break;
      small_product(n, n, n, plain(q, n), dp, next, false);
      std::swap(dp, next);
    }
    float* to = host(k.dskew) + block * k.shape.skew_elements();
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = i + 1; j < n; ++j) *to++ += dq[i * n + j] - dq[j * n + i];
  });
}

/// Columns [first, first + size) of some rows in fp32, dense.
static void block_f32(const Matrix& x, int64_t begin, int64_t rows, int64_t first, int64_t size, float* out) {
  with_type(x.dtype, [&](auto tag) {
    using T = LOWRANK_ELEMENT(tag);
    for (int64_t i = 0; i < rows; ++i) convert_row(row_as<T>(x, begin + i) + first, out + i * size, size);
  });
}

/// Columns [first, first + size) of out = addend + weight y.
static void store_turned(int64_t begin, int64_t rows, int64_t first, int64_t size, const float* y, float weight,
                         const Matrix& addend, const Matrix& out) {
  const V factor = set1(weight);
  with_type(out.dtype, [&](auto out_tag) {
    using To = LOWRANK_ELEMENT(out_tag);
    with_type(addend.dtype, [&](auto addend_tag) {
      using From = LOWRANK_ELEMENT(addend_tag);
      for (int64_t t = 0; t < rows; ++t) {
        To* const to = row_as<To>(out, begin + t) + first;
        const From* const from = !addend.data ? nullptr : row_as<From>(addend, begin + t) + first;
        for_vectors(0, size, [&](int64_t i, auto lanes) {
          const V turned = mul(factor, load(y + t * size + i, lanes));
          store(to + i, from == nullptr ? turned : add(load(from + i, lanes), turned), lanes);
        });
      }
    });
  });
}

static void run(const Cpu& cpu, const Rotate& k) {
  const int64_t n = k.shape.size;
  for_units(cpu.pool, (k.tokens + kRowChunk - 1) / kRowChunk, [&](int thread, int64_t unit) {
    const int64_t begin = unit * kRowChunk, count = std::min(kRowChunk, k.tokens - begin);
    Room room = rotation_room(cpu, k, thread);
    float* const in = room.take(kRowChunk * n);
    float* const y = room.take(kRowChunk * n);
    for (int64_t block = 0; block < k.cols / n; ++block) {
      block_f32(k.x, begin, count, block * n, n, in);
      small_product(count, n, n, plain(in, n), host(k.d) + (k.shape.blocks == 1 ? 0 : block) * n * n, y, false);
      store_turned(begin, count, block * n, n, y, k.weight, k.addend, k.out);
    }
  });
}

/// Horner's rule with rows of x in the place of I: x D = (c_1 x + (c_2 x + …) Q) Q.
static void run(const Cpu& cpu, const RotateBySeries& k) {
  const int64_t n = k.shape.size;
  const int degree = cayley_degree(k.terms);
  for_units(cpu.pool, k.cols / n, [&](int thread, int64_t block) {
    Room room = rotation_room(cpu, k, thread);
    float* const in = room.take(kRowChunk * n);
    float* sum = room.take(kRowChunk * n);
    float* next = room.take(kRowChunk * n);
    float* const q = room.take(n * n);
    skew_symmetric(n, 1.0f, host(k.skew) + (k.shape.blocks == 1 ? 0 : block) * k.shape.skew_elements(), q);
    for (int64_t begin = 0; begin < k.tokens; begin += kRowChunk) {
      const int64_t count = std::min(kRowChunk, k.tokens - begin);
      block_f32(k.x, begin, count, block * n, n, in);
      std::fill(sum, sum + count * n, 0.0f);
      for (int i = degree; i > 0; --i) {
        const V factor = set1(cayley_factor(i, k.terms));
        for_vectors(0, count * n, [&](int64_t at, auto lanes) {
          store(sum + at, fma(factor, load(in + at, lanes), load(sum + at, lanes)), lanes);
        });
        small_product(count, n, n, plain(sum, n), q, next, false);
        std::swap(sum, next);
      }
      store_turned(begin, count, block * n, n, sum, k.weight, k.addend, k.out);
    }
  });
}

static void run(const Cpu& cpu, const RotationGradient& k) {
  const int64_t n = k.shape.size;
  const bool shared = k.shape.blocks == 1;
  // A thread has some rows of a shared matrix, and the whole of others.
  const int64_t rows = shared ? std::min<int64_t>(n, 8) : n, parts = (n + rows - 1) / rows;
  for_units(cpu.pool, k.shape.blocks * parts, [&](int thread, int64_t unit) {
    const int64_t own = unit / parts, first = unit % parts * rows, height = std::min(rows, n - first);
    Room room = rotation_room(cpu, k, thread);
    float* const in = room.take(kRowChunk * n);
    float* const out = room.take(kRowChunk * n);
    float* const to = host(k.g) + (own * n + first) * n;
    for (int64_t block = shared ? 0 : own; block < (shared ? k.cols / n : own + 1); ++block)
      for (int64_t begin = 0; begin < k.tokens; begin += kRowChunk) {
        const int64_t count = std::min(kRowChunk, k.tokens - begin);
        block_f32(k.x, begin, count, block * n + first, height, in);
        block_f32(k.dy, begin, count, block * n, n, out);
        small_product(height, n, count, transposed(in, height), out, to, true);
      }
  });
}
