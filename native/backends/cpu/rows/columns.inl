// Sums over the rows of each column, over vectors of columns.
#pragma once

static void run(const Cpu& cpu, const ScaleColumnsBackward& k) {
  with_type(k.dy.dtype, [&](auto dy_tag) {
    with_type(k.x.dtype, [&](auto x_tag) {
      with_type(k.dx.dtype, [&](auto dx_tag) {
        const float *gain = host(k.gain), *share = host(k.share);
        float* const dgain = host(k.dgain);
        // Threads take columns, so that each sum over the rows has one order.
        cpu.pool.for_range((k.cols + kColumnChunk - 1) / kColumnChunk, 1, [&](int64_t first, int64_t last) {
          for (int64_t chunk = first; chunk < last; ++chunk) {
            const int64_t begin = chunk * kColumnChunk, count = std::min(kColumnChunk, k.cols - begin);
            float total[kColumnChunk] = {};
            for (int64_t top = 0; top < k.rows; top += kRowChunk) {
              float part[kColumnChunk] = {};
              for (int64_t row = top; row < std::min(top + kRowChunk, k.rows); ++row) {
                const auto* d = row_as<LOWRANK_ELEMENT(dy_tag)>(k.dy, row) + begin;
                const auto* in = row_as<LOWRANK_ELEMENT(x_tag)>(k.x, row) + begin;
                auto* to = row_as<LOWRANK_ELEMENT(dx_tag)>(k.dx, row) + begin;
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
