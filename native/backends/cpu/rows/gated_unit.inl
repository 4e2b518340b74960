// Gated units over vectors. Operands of several types are left to the reference.
#pragma once

#include "backends/cpu/rows/activation.inl"

static void run(const Cpu& cpu, const GatedUnit& k) {
  if (k.gate.dtype != k.up.dtype || k.gate.dtype != k.out.dtype) return reference(cpu, k);
  with_activation(k.function, [&](auto f) {
    with_type(k.out.dtype, [&](auto tag) {
      using T = LOWRANK_ELEMENT(tag);
      for_rows(cpu.pool, k.rows, k.cols, [&](int64_t row) {
        const T *g = row_as<T>(k.gate, row), *u = row_as<T>(k.up, row);
        T* o = row_as<T>(k.out, row);
        for_vectors(0, k.cols, [&](int64_t i, auto lanes) {
          store(o + i, mul(decltype(f)::template value<kRounds<T>>(load(g + i, lanes)), load(u + i, lanes)), lanes);
        });
      });
    });
  });
}

static void run(const Cpu& cpu, const GatedUnitBackward& k) {
  for (const Matrix& m : {k.up, k.dout, k.dgate, k.dup})
    if (m.dtype != k.gate.dtype) return reference(cpu, k);
  with_activation(k.function, [&](auto f) {
    with_type(k.gate.dtype, [&](auto tag) {
      using T = LOWRANK_ELEMENT(tag);
      for_rows(cpu.pool, k.rows, k.cols, [&](int64_t row) {
        const T *d = row_as<T>(k.dout, row), *g = row_as<T>(k.gate, row), *u = row_as<T>(k.up, row);
        T *dg = row_as<T>(k.dgate, row), *du = row_as<T>(k.dup, row);
        for_vectors(0, k.cols, [&](int64_t i, auto lanes) {
          const V gradient = load(d + i, lanes), a = load(g + i, lanes), b = load(u + i, lanes);
          const Slope at = decltype(f)::template slope<kRounds<T>>(a);
          store(dg + i, mul(mul(gradient, b), at.slope), lanes);
          store(du + i, mul(gradient, at.value), lanes);
        });
      });
    });
  });
}
