// The matrix kernels of a level that computes in fp32, whatever precision is asked for. Included after its vectors.

#include "backends/cpu/gemm/gemm_weights.inl"

#include "backends/cpu/gemm/gemm_decoded.inl"

#include "backends/cpu/gemm/gemm_driver.inl"

#include "backends/cpu/gemm/gemm_f32.inl"

#include "backends/cpu/gemm/gemm_vectors.inl"

#include "backends/cpu/gemm/gemm_by_row.inl"

#include "backends/cpu/gemm/gemm_sums.inl"

#include "backends/cpu/gemm/gemm_tokens.inl"

#include "backends/cpu/gemm/pair.inl"

void run(const Cpu& cpu, const GemmNt& k) {
  const SegmentViews segments(cpu, k.segments);
  if (few_rows<Fp32Dots>(k.m, segments)) return multiply_few_rows<Fp32Dots>(cpu, k.m, k.n, segments, k.to);
  multiply<Fp32, true>(cpu, k.m, k.n, segments, k.to);
}

void run(const Cpu& cpu, const GemmNtByRow& k) { multiply_by_row<Fp32Dots>(cpu, k); }

void run(const Cpu& cpu, const GemmNn& k) { multiply<Fp32, false>(cpu, k.m, k.n, SegmentViews(cpu, k.segments), k.to); }

#include "backends/cpu/levels/table.inl"
