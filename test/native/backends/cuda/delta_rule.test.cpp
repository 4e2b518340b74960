#include "backends/cuda/bench.h"
#include "backends/cuda/runs.h"

using namespace lowrank;
using namespace lowrank::cuda;

namespace {

struct Case {
  DeltaHeads heads;
  std::vector<int32_t> seqlens;
  int64_t tokens() const { return seqlens.back(); }
};
// Chunks and their ends, tiles with some columns, key heads that serve several heads, sequences without tokens.
const Case kCases[] = {{{1, 1, 1, 1}, {0, 1}},
                       {{2, 1, 5, 35}, {0, 63, 66}},
                       {{4, 2, 17, 8}, {0, 64, 64, 65}},
                       {{3, 3, 128, 33}, {0, 3, 70}},
                       {{6, 2, 8, 16}, {0, 131}}};
constexpr DType kTypes[] = {DType::f32, DType::bf16};

/// The spare columns of operands keep rows from being addressed as a whole.
DeltaInputs inputs(Bench& bench, const Case& c, DType type) {
  const int64_t tokens = c.tokens(), heads = c.heads.heads;
  return {tokens,
          c.heads,
          c.seqlens,
          bench.matrix(type, tokens, c.heads.width(), 1),
          bench.matrix(type, tokens, heads, 1),
          bench.matrix(type, tokens, heads),
          bench.floats(heads),
          bench.floats(heads)};
}

}  // namespace

TEST("CUDA's gated delta rule and its gradients equal the CPU's, of packed sequences") {
  for (const Case& c : kCases) {
    for (const DType type : kTypes) {
      const int64_t tokens = c.tokens(), states = std::max<int64_t>(1, tokens / 64 * c.heads.state());
      check_like_cpu(
          [&](Bench& bench) {
            const DeltaInputs in = inputs(bench, c, type);
            return GatedDeltaRule{
                in, bench.empty(type, tokens, c.heads.values(), 1), 0, {}, {}, 64, bench.floats(states, 0)};
          },
          {1e-5, 0.05});
      check_like_cpu(
          [&](Bench& bench) {
            const DeltaInputs in = inputs(bench, c, type);
            const Ptr<float> ends = bench.floats(states, 0.1);
            const Matrix dout = bench.matrix(type, tokens, c.heads.values());
            return GatedDeltaRuleBackward{in,
                                          64,
                                          ends,
                                          dout,
                                          bench.empty(type, tokens, c.heads.width(), 1),
                                          bench.empty(type, tokens, c.heads.heads),
                                          bench.empty(type, tokens, c.heads.heads, 1)};
          },
          {2e-5, 1});
    }
  }
}

TEST("CUDA's gradients of a delta rule's weights equal the CPU's") {
  for (const DType type : kTypes) {
    for (const auto& [weighted, biased] : {std::pair(true, true), {true, false}, {false, true}}) {
      constexpr int64_t kTokens = 300, kHeads = 5;
      check_like_cpu(
          [&](Bench& bench) {
            const Matrix alpha = bench.matrix(type, kTokens, kHeads, 1, 8),
                         dalpha = bench.matrix(type, kTokens, kHeads);
            const Ptr<float> bias = bench.floats(kHeads);
            const Ptr<float> dweight = weighted ? bench.floats(kHeads) : Ptr<float>();
            const Ptr<float> dbias = biased ? bench.floats(kHeads) : Ptr<float>();
            return DeltaRuleGradient{kTokens, kHeads, alpha, dalpha, bias, dweight, dbias};
          },
          {4e-6, 100});
    }
  }
}

TEST("CUDA's gated delta rule goes on after a state, and keeps states, as the CPU's") {
  constexpr int64_t kBlock = 128;
  for (const DType type : kTypes) {
    for (const int32_t past : {0, 1, 127, 128, 200}) {
      for (const int32_t rows : {1, 60, 129}) {
        const Case c{{2, 1, 9, 40}, {0, rows}};
        check_like_cpu(
            [&](Bench& bench) {
              const DeltaInputs in = inputs(bench, c, type);
              const Ptr<int32_t> positions = bench.ints({past});
              const Ptr<float> state = bench.floats(c.heads.state(), 0.3);
              const Ptr<float> ends = bench.floats(3 * c.heads.state());
              return GatedDeltaRule{in,     bench.empty(type, rows, c.heads.values()), past, positions, state,
                                    kBlock, ends + past / kBlock * c.heads.state()};
            },
            {1e-5, 0.05});
      }
    }
  }
}
