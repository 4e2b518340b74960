// The matrix kernels of a level that computes in fp32, whatever precision is asked for. Included after its vectors.

#include "backends/cpu/gemm_weights.inl"

#include "backends/cpu/gemm_decoded.inl"

#include "backends/cpu/gemm_driver.inl"

#include "backends/cpu/gemm_f32.inl"

#include "backends/cpu/gemm_vectors.inl"

#include "backends/cpu/gemm_sums.inl"

#include "backends/cpu/gemm_tokens.inl"

#include "backends/cpu/gemm_pair.inl"

void gemm_nt(Pool& pool, Precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  if (few_rows<Fp32Dots>(m, segments)) return multiply_few_rows<Fp32Dots>(pool, m, n, segments, y, workspace);
  multiply<Fp32, true>(pool, m, n, segments, y, workspace);
}

void gemm_nn(Pool& pool, Precision, int64_t m, int64_t n, std::span<const Segment> segments, const Output& y,
             std::byte* workspace) {
  multiply<Fp32, false>(pool, m, n, segments, y, workspace);
}
