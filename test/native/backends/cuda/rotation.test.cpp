// Rotations of blocks on CUDA against the CPU's reference, which sums in double.
#include "backends/cuda/against_cpu.h"

namespace lowrank::cuda {
namespace {

TEST("CUDA's Cayley-Neumann series and its gradient equal the CPU's") {
  for_each_execution([](Runner& run) {
    test::Random random(5);
    for (const auto& [blocks, size] : {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {2, 7}, {2, 32}, {1, 70}}) {
      const Blocks shape{blocks, size};
      const Tensor skew(run, DType::f32, 1, std::max<int64_t>(blocks * shape.skew_elements(), 1), random, 0.1);
      const Tensor g(run, DType::f32, blocks * size, size, random);
      for (int terms = 0; terms <= 6; ++terms)
        for (const bool inverse : {false, true}) {
          const Twin out(run, DType::f32, blocks * size, size);
          run_on_both(run, [&](bool cuda) {
            return CayleyNeumann{shape, terms, inverse, terms % 2 == 0, skew.floats(), out.floats(cuda)};
          });
          CHECK_LE(out.error(), 1e-6);
          if (inverse) continue;
          const Twin dskew(run, DType::f32, 1, std::max<int64_t>(blocks * shape.skew_elements(), 1), random);
          run_on_both(run, [&](bool cuda) {
            return CayleyNeumannBackward{shape, terms, skew.floats(), g.floats(), dskew.floats(cuda)};
          });
          CHECK_LE(dskew.error(), 1e-6);
        }
    }
  });
}

TEST("CUDA rotates blocks of columns, of their own matrices or of one") {
  for_each_execution([](Runner& run) {
    test::Random random(6);
    for (const auto& [tokens, size, parts, shared] : {std::tuple<int64_t, int64_t, int64_t, bool>{1, 1, 3, false},
                                                      {7, 16, 3, false},
                                                      {65, 33, 2, true},
                                                      {130, 64, 1, false},
                                                      {3, 32, 4, true}}) {
      const int64_t cols = size * parts;
      const Blocks shape{shared ? 1 : parts, size};
      const Tensor d(run, DType::f32, shape.blocks * size, size, random, 0.3);
      const Tensor skew(run, DType::f32, 1, std::max<int64_t>(shape.blocks * shape.skew_elements(), 1), random, 0.1);
      for (const DType type : {DType::f32, DType::bf16})
        for (const int addend : {0, 1, 2}) {  // none, another, the output itself
          const double limit = type == DType::f32 ? 2e-6 : 0x1p-9;
          const Tensor x(run, type, tokens, cols, random, 1, 3), other(run, DType::f32, tokens, cols, random, 1, 1);
          const Twin out(run, type, tokens, cols, random, 2), series(run, type, tokens, cols, random, 2);
          const auto added = [&](const Twin& to, bool cuda) {
            return addend == 0 ? Matrix() : addend == 1 ? other.matrix() : to.of(cuda).matrix();
          };
          run_on_both(run, [&](bool cuda) {
            return Rotate{tokens, cols, shape, x.matrix(), d.floats(), 0.7f, added(out, cuda), out.of(cuda).matrix()};
          });
          run_on_both(run, [&](bool cuda) {
            return RotateBySeries{
                tokens, cols, shape, 5, x.matrix(), skew.floats(), 0.7f, added(series, cuda), series.of(cuda).matrix()};
          });
          CHECK_LE(out.error(), limit);
          CHECK_LE(series.error(), limit);
          CHECK(out.spare_untouched() && series.spare_untouched());
          const Tensor dy(run, DType::f32, tokens, cols, random, 1, 3);
          const Twin g(run, DType::f32, shape.blocks * size, size, random);
          run_on_both(run, [&](bool cuda) {
            return RotationGradient{tokens, cols, shape, x.matrix(), dy.matrix(), g.floats(cuda)};
          });
          CHECK_LE(g.error(), 2e-6);
        }
    }
  });
}

TEST("sums over many tokens are made in stretches on CUDA") {
  for_each_execution([](Runner& run) {
    test::Random random(7);
    const Blocks shape{2, 16};
    const Tensor x(run, DType::bf16, 1100, 32, random), dy(run, DType::bf16, 1100, 32, random);
    const Twin g(run, DType::f32, 32, 16, random);
    run_on_both(run,
                [&](bool cuda) { return RotationGradient{1100, 32, shape, x.matrix(), dy.matrix(), g.floats(cuda)}; });
    CHECK_LE(g.error(), 2e-6);
  });
}

}  // namespace
}  // namespace lowrank::cuda
