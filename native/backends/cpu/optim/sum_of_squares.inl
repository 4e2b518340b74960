// Sums of squares over vectors, in double and in fixed pieces, so that they do not depend on the number of threads.
#pragma once

static void run(const Cpu& cpu, const SumOfSquares& k) {
  const float* const x = host(k.x);
  *host(k.out) = sum_chunks(cpu.pool, k.count, [x](int64_t begin, int64_t end) {
    Doubles even = no_doubles(), odd = no_doubles();
    int64_t i = begin;
    for (; i + 2 * W <= end; i += 2 * W) {
      even = add_squares(load(x + i), even);
      odd = add_squares(load(x + i + W), odd);
    }
    for_vectors(i, end, [&](int64_t at, auto lanes) { even = add_squares(load(x + at, lanes), even); });
    return sum(even) + sum(odd);
  });
}
