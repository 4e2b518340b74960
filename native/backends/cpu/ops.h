// Everything of the CPU backend that is not a matrix product with a stored weight: norms, rotary embedding, attention,
// gated units, the loss, the optimizer's element-wise work. Activations are row-major; "operand" tensors are f32 or
// bf16 as the plan's precision says, the residual stream and all statistics are f32.
#pragma once

#include <cstdint>
#include <limits>

#include "core/dtype.h"
#include "core/pool.h"

namespace lowrank::cpu {

/// A row-major [rows, cols] activation; `ld` elements from row to row.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::f32;
  int64_t ld = 0;
};

/// Packed sequences: queries of sequence s are rows cu_q[s] .. cu_q[s+1]-1, its keys and values rows cu_k[s] ..
/// cu_k[s+1]-1 of k and v. Causal, aligned at the end: with nq queries and nk keys, query i sees keys 0 .. nk-nq+i, and
/// of these the last `window` only. Query head h uses kv head h / (heads / kv_heads).
struct AttentionShape {
  int32_t sequences = 0;
  const int32_t* cu_q = nullptr;
  const int32_t* cu_k = nullptr;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  float scale = 0;                                       // multiplies q.k before the softmax; positive
  int32_t window = std::numeric_limits<int32_t>::max();  // at least 1; by default wider than any sequence
};

struct OpKernels {
  /// out[t, c] = table[ids[t], c]; table is f32, bf16 or f16, out f32.
  void (*embedding)(Pool&, int64_t tokens, int64_t cols, const int32_t* ids, const Matrix& table, const Matrix& out);
  /// out = softmax(scale q k^T + mask) v, lse[t, h] = log-sum-exp of the scores (natural log); lse may be null.
  /// q, out: [T, heads * head_dim]; k, v: [Tk, kv_heads * head_dim]; all operands of one dtype.
  void (*attention)(Pool&, const AttentionShape&, const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
                    float* lse, std::byte* workspace);
  /// Gradients of `attention`; dq may alias q's buffer only if it does not alias anything else read here (it is written
  /// last). All operands of one dtype. FlashAttention-2 order: scores recomputed from q, k and lse.
  void (*attention_backward)(Pool&, const AttentionShape&, const Matrix& q, const Matrix& k, const Matrix& v,
                             const Matrix& out, const float* lse, const Matrix& dout, const Matrix& dq,
                             const Matrix& dk, const Matrix& dv, std::byte* workspace);
};

/// Bytes of the workspace (64-byte aligned, contents do not matter) for at most `tokens` queries and `tokens` keys.
int64_t attention_workspace(DType dtype, int64_t tokens, int32_t heads, int32_t kv_heads, int32_t head_dim,
                            int threads);
int64_t attention_backward_workspace(DType dtype, int64_t tokens, int32_t heads, int32_t kv_heads, int32_t head_dim,
                                     int threads);

/// The keep decision behind `dropout`: uniform 32-bit hash of (key, index) compared with p * 2^32.
uint32_t counter_hash(uint64_t key, uint64_t index);

}  // namespace lowrank::cpu
