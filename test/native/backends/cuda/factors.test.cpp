// The small matrices of adapters on CUDA against the CPU's reference.
#include "backends/cuda/against_cpu.h"

namespace lowrank::cuda {
namespace {

constexpr double kLimit = 2e-6;

TEST("CUDA folds what scales a low-rank matrix into it, and spreads the gradient over that") {
  for_each_execution([](Runner& run) {
    test::Random random(2);
    for (const auto& [rows, rank, active] : {std::array<int64_t, 3>{1, 1, 1}, {7, 8, 5}, {300, 64, 64}, {65, 200, 130}})
      for (const bool all : {true, false}) {
        const Tensor b(run, DType::f32, rows, rank, random), d(run, DType::f32, 1, active, random);
        const Tensor mask(run, DType::f32, 1, active, random), gain(run, DType::f32, 1, rows, random);
        const Tensor row_gains(run, DType::f32, 1, rows, random), g(run, DType::f32, rows, active, random);
        const auto some = [&](const Tensor& t) { return all ? t.floats() : Ptr<float>(); };
        const Twin out(run, DType::f32, rows, active);
        run_on_both(run, [&](bool cuda) {
          return Fold{rows,    rank,       active,     1.25f,           0.75f,           b.floats(),
                      some(d), some(mask), some(gain), some(row_gains), out.floats(cuda)};
        });
        CHECK_EQ(out.error(), 0.0);
        const Twin db(run, DType::f32, rows, rank, random), dd(run, DType::f32, 1, active, random);
        const Twin dgain(run, DType::f32, 1, rows, random);
        run_on_both(run, [&](bool cuda) {
          return FoldGradient{rows,
                              rank,
                              active,
                              1.25f,
                              b.floats(),
                              some(d),
                              some(mask),
                              some(gain),
                              g.floats(),
                              db.floats(cuda),
                              all ? dd.floats(cuda) : Ptr<float>(),
                              all ? dgain.floats(cuda) : Ptr<float>()};
        });
        CHECK_LE(db.error(), kLimit);
        CHECK_LE(dd.error(), kLimit);
        CHECK_LE(dgain.error(), kLimit);
      }
  });
}

TEST("CUDA folds a matrix and its snapshot side by side") {
  for_each_execution([](Runner& run) {
    test::Random random(3);
    for (const auto& [rows, rank] : {std::pair<int64_t, int64_t>{1, 1}, {63, 8}, {129, 3}})
      for (const bool gains : {true, false}) {
        const Tensor b(run, DType::f32, rows, rank, random), star(run, DType::f32, rows, rank, random);
        const Tensor row_gains(run, DType::f32, 1, rows, random);
        const Twin out(run, DType::f32, rows, 2 * rank);
        run_on_both(run, [&](bool cuda) {
          return FoldSnapshot{rows,
                              rank,
                              2,
                              -0.5f,
                              b.floats(),
                              star.floats(),
                              gains ? row_gains.floats() : Ptr<float>(),
                              out.floats(cuda)};
        });
        CHECK_EQ(out.error(), 0.0);
      }
  });
}

TEST("CUDA makes the matrices of a Hadamard product and spreads their gradients") {
  for_each_execution([](Runner& run) {
    test::Random random(4);
    for (const auto& [rows, cols, rank, rank2] :
         {std::array<int64_t, 4>{1, 1, 1, 1}, {65, 33, 3, 8}, {7, 129, 16, 1}, {40, 50, 8, 16}})
      for (const bool all : {true, false}) {
        const Tensor b(run, DType::f32, rows, rank, random), a(run, DType::f32, rank, cols, random);
        const Tensor b2(run, DType::f32, rows, rank2, random), a2(run, DType::f32, rank2, cols, random);
        const Tensor row_gains(run, DType::f32, 1, rows, random);
        const Ptr<float> gains = all ? row_gains.floats() : Ptr<float>();
        const Pair pair{rows, cols, rank, rank2, b.floats(), a.floats(), b2.floats(), a2.floats()};
        const Twin built(run, DType::f32, rank * rank2, cols), folded(run, DType::f32, rows, rank * rank2);
        run_on_both(run, [&](bool cuda) { return BuildPairA{pair, built.floats(cuda)}; });
        run_on_both(run, [&](bool cuda) { return FoldPair{pair, 1.5f, 0.5f, gains, folded.floats(cuda)}; });
        CHECK_EQ(built.error(), 0.0);
        CHECK_EQ(folded.error(), 0.0);
        const Tensor at_a(run, DType::f32, rank * rank2, cols, random);
        const Tensor at_b(run, DType::f32, rows, rank * rank2, random);
        const Twin da(run, DType::f32, rank, cols, random), da2(run, DType::f32, rank2, cols, random);
        const Twin db(run, DType::f32, rows, rank, random), db2(run, DType::f32, rows, rank2, random);
        run_on_both(run, [&](bool cuda) {
          return SpreadPairA{pair, at_a.floats(), all ? da.floats(cuda) : Ptr<float>(), da2.floats(cuda)};
        });
        run_on_both(run, [&](bool cuda) {
          return SpreadPairB{pair, 1.5f, gains, at_b.floats(), db.floats(cuda), all ? db2.floats(cuda) : Ptr<float>()};
        });
        for (const Twin* const gradient : {&da, &da2, &db, &db2}) CHECK_LE(gradient->error(), kLimit);
      }
  });
}

}  // namespace
}  // namespace lowrank::cuda
