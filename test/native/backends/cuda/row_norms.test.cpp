// Sums in double over rows on CUDA against the CPU's reference, and of every weight format against the host's decoder.
#include "backends/cuda/against_cpu.h"
#include "backends/cuda/weight_copy.h"

namespace lowrank::cuda {
namespace {

std::vector<WeightShape> shapes() {
  std::vector<WeightShape> all;
  for (int i = 0; i < kDeviceFormats; ++i) {
    const auto format = static_cast<DeviceFormat>(i);
    if (is_ggml(format))
      all.push_back({format, 9, 512});
    else if (is_four_bit(format))
      for (const bool nested : {false, true}) all.push_back({format, 9, 65, 0, nested});
    else
      all.push_back({format, 9, 271, 2});
  }
  return all;
}

TEST("CUDA's row norms of adapted weights of every format equal float64, also where a change cancels a row") {
  for_each_execution([](Runner& run) {
    test::Random random(10);
    for (const WeightShape& shape : shapes()) {
      const test::Scope scope("format " + std::to_string(static_cast<int>(shape.format)));
      const WeightCopy weight(run, shape, random);
      const int64_t rows = shape.rows - 1, cols = shape.cols, rank = 35;
      Weights weights;
      weights.set(2, weight.device);
      run.set_weights(weights);
      const Factor w{rows, cols, 2, 1};
      double* const squares = run.buffer<double>(rows);
      lowrank::cuda::run(run, RowSquares{w, address_of(squares)}, {});
      Tensor a(run, DType::f32, rank, cols, random, 1, 3), b(run, DType::f32, rows, rank, random, 0.01);
      // The first change takes away the first row, but for its rounding.
      for (int64_t c = 0; c < cols; ++c) a.set(0, c, weight(1, c));
      for (int64_t j = 0; j < rank; ++j) b.set(0, j, j == 0 ? -0.999 : 0);
      Tensor products(run, DType::f32, rank, rows);
      std::vector<double> norms(rows);
      for (int64_t row = 0; row < rows; ++row) {
        double own = 0;
        for (int64_t c = 0; c < cols; ++c) own += double{weight(row + 1, c)} * weight(row + 1, c);
        CHECK_CLOSE(squares[row], own, 1e-12);
        for (int64_t j = 0; j < rank; ++j) {
          double sum = 0;
          for (int64_t c = 0; c < cols; ++c) sum += a(j, c) * weight(row + 1, c);
          products.set(j, row, sum);
        }
        for (int64_t c = 0; c < cols; ++c) {
          double value = weight(row + 1, c);
          for (int64_t j = 0; j < rank; ++j) value += b(row, j) * a(j, c);
          norms[row] += value * value;
        }
        norms[row] = std::sqrt(norms[row]);
      }
      double* const gram = run.buffer<double>(rank * rank);
      lowrank::cuda::run(run, Gram{rank, cols, a.floats(), a.matrix().ld, address_of(gram)}, {});
      const Tensor out(run, DType::f32, 1, rows);
      lowrank::cuda::run(run,
                         AdaptedRowNorms{w, a.floats(), a.matrix().ld, b.floats(), rank, address_of(squares),
                                         products.floats(), address_of(gram), out.floats()},
                         {});
      for (int64_t row = 0; row < rows; ++row) CHECK_CLOSE(out(0, row), norms[row], 1e-6);
    }
  });
}

TEST("a row of nothing has a norm that divides on CUDA") {
  for_each_execution([](Runner& run) {
    const Tensor zeros(run, DType::f32, 2, 8), out(run, DType::f32, 1, 2);
    std::memset(zeros.bytes(), 0, 64);
    double* const squares = run.buffer<double>(std::vector<double>{0, 0});
    lowrank::cuda::run(
        run,
        AdaptedRowNorms{
            {2, 8, -1, 0, zeros.floats(), 8}, {}, 0, zeros.floats(), 0, address_of(squares), {}, {}, out.floats()},
        {});
    CHECK_CLOSE(out(0, 0), 1e-15, 1e-6);
  });
}

TEST("CUDA's Gram matrices and second moments equal the CPU's") {
  for_each_execution([](Runner& run) {
    test::Random random(11);
    for (const auto& [tokens, rank, cols] : {std::array<int64_t, 3>{1, 1, 1}, {65, 8, 300}, {129, 40, 7}})
      for (const DType type : {DType::f32, DType::bf16}) {
        const Tensor a(run, DType::f32, rank, cols, random, 1, 3), h(run, type, tokens, rank, random, 1, 3);
        std::vector<double> start(static_cast<size_t>(rank * rank));
        for (double& value : start) value = random.normal();
        double* const moment[2] = {run.buffer(start), run.buffer(start)};
        double* const gram[2] = {run.buffer<double>(rank * rank), run.buffer<double>(rank * rank)};
        run_on_both(run, [&](bool cuda) { return SecondMoment{tokens, rank, h.matrix(), address_of(moment[cuda])}; });
        run_on_both(run,
                    [&](bool cuda) { return Gram{rank, cols, a.floats(), a.matrix().ld, address_of(gram[cuda])}; });
        for (const auto& pair : {moment, gram})
          CHECK_ALL_CLOSE(std::vector<double>(pair[1], pair[1] + rank * rank),
                          std::vector<double>(pair[0], pair[0] + rank * rank), 1e-13);
      }
  });
}

}  // namespace
}  // namespace lowrank::cuda
