#include "backends/cpu/device.h"

#include <random>

#include "check.h"

using namespace lowrank;

TEST("larger kernels never take less workspace") {
  std::mt19937 random(1);
  const auto pick = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(1, most)(random); };
  for (int i = 0; i < 2000; ++i) {
    const cpu::CpuSizes sizes(static_cast<int>(pick(8)));
    const DType dtype = pick(2) == 1 ? DType::f32 : DType::bf16;
    const int64_t m = pick(3000), n = pick(9000), k = pick(9000), more = pick(500);
    const auto product = [&](int64_t rows, const Segment* segment) {
      return sizes.workspace(GemmNt{Precision::bf16, rows, n, {segment, 1}, {{{}, dtype, n}}});
    };
    const Segment segment{{{}, dtype, k}, {n, k}};
    CHECK_LE(product(m, &segment), product(m + more, &segment));
    const auto attention = [&](int64_t tokens, int64_t keys) {
      Attention kernel{};
      kernel.tokens = tokens;
      kernel.keys = keys;
      kernel.shape = {8, 2, 64, 0, 1};
      kernel.q.dtype = dtype;
      return sizes.workspace(kernel);
    };
    CHECK_LE(attention(m, m), attention(m, m + more));
    CHECK_LE(attention(m, m + more), attention(m + more, m + more));
    const auto reduction = [&](int64_t tokens, int64_t rank) {
      return sizes.workspace(ReduceTokens{Precision::bf16, tokens, {}, rank, {}, n, 1, {}, n, false});
    };
    CHECK_LE(reduction(m, k), reduction(m + more, k));
    CHECK_LE(reduction(m, k), reduction(m, k + more));
    const auto back = [&](int64_t rows, const Segment* segment) {
      return sizes.workspace(GemmNn{Precision::bf16, rows, n, {segment, 1}, {{{}, dtype, n}}});
    };
    const Segment narrow{{{}, dtype, k}, {k, n}}, wide{{{}, dtype, k + more}, {k + more, n}};
    CHECK_LE(back(m, &narrow), back(m + more, &narrow));
    CHECK_LE(back(m, &narrow), back(m, &wide));
    const auto attention_back = [&](int64_t tokens) {
      AttentionBackward kernel{};
      kernel.tokens = tokens;
      kernel.shape = {8, 2, 64, 0, 1};
      kernel.q.dtype = dtype;
      return sizes.workspace(kernel);
    };
    CHECK_LE(attention_back(m), attention_back(m + more));
    const KroneckerPair pair{pick(64), pick(64), pick(64), pick(64), pick(2) == 1 ? 0 : pick(16), {}, {}, {}};
    const auto kronecker = [&](int64_t tokens) {
      Kronecker kernel{};
      kernel.tokens = tokens;
      kernel.pair = pair;
      return sizes.workspace(kernel);
    };
    CHECK_LE(kronecker(m), kronecker(m + more));
    const auto projection = [&](int64_t rank) { return sizes.workspace(ProjectGradient{rank, n, {}, m, 1, {}}); };
    CHECK_LE(projection(k % 512), projection(k % 512 + more));
    const auto orthogonal = [&](int64_t rows, int64_t rank, bool transposed) {
      const OrthogonalPiece piece{rows, rank, transposed, 1, {}, {}};
      return sizes.workspace(Orthogonal{{&piece, 1}});
    };
    for (const bool transposed : {false, true}) {
      CHECK_LE(orthogonal(m, k % 512, transposed), orthogonal(m + more, k % 512, transposed));
      CHECK_LE(orthogonal(m, k % 512, transposed), orthogonal(m, k % 512 + more, transposed));
    }
  }
}

TEST("a product into fp32 sums in place, and needs room for the threads alone") {
  const cpu::CpuSizes sizes(2);
  const Segment segment{{{}, DType::bf16, 16384}, {4096, 16384}};
  const auto of = [&](DType dtype) {
    return sizes.workspace(GemmNt{Precision::bf16, 512, 4096, {&segment, 1}, {{{}, dtype, 4096}}});
  };
  CHECK_EQ(of(DType::bf16) - of(DType::f32), int64_t{512} * 4096 * 4);
}
