// Products of one x by the stand-in for cuBLASLt: as one, or each by itself.
#include <cmath>
#include <deque>

#include "backends/cuda/library_runner.h"
#include "backends/cuda/runs.h"
#include "backends/cuda/standin_test.h"
#include "backends/cuda/weight_copy.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

using test::Environment;

struct Shape {
  Precision precision = Precision::bf16;
  DeviceFormat format = DeviceFormat::nf4;
  bool bias = false;      // of the first and the last member
  bool cut = false;       // into slices of 256 outputs
  bool beside = true;     // outputs in the rows of one matrix
  bool residual = false;  // of the last member, without a bias
  int64_t rank = 8;       // of the last member's adapter
};

/// Three linears, of which the first and the last have adapters with hidden values behind x.
/// @param outputs of the products that the library is asked for, and serves
void check_group(const Shape& s, const std::vector<int64_t>& outputs) {
  constexpr int64_t kM = 130, kK = 128, kOutputs[] = {200, 136, 144};
  const int64_t ranks[] = {5, 0, s.rank}, width = kK + 5 + s.rank;
  LibraryRunner run;
  if (s.cut) run.cut();
  test::Random random(12);
  const DType operand = operand_of(s.precision);
  const Tensor row(run, operand, kM, width, random, 1, round_up(width, 64) - width);
  const Tensor y(run, operand, kM, 480);
  const Tensor residual(run, DType::f32, kM, kOutputs[2], random);
  std::deque<Tensor> apart, factors, biases;
  std::deque<WeightCopy> bases;
  std::deque<std::vector<Segment>> segments;
  Weights weights;
  std::vector<GemmNt> members;
  int64_t column = 0, hidden = kK;
  for (int i = 0; i < 3; ++i) {
    const int64_t n = kOutputs[i], rank = ranks[i];
    bases.emplace_back(run, WeightShape{s.format, n, kK}, random);
    weights.set(i, bases.back().device);
    const Tensor& factor = factors.emplace_back(run, DType::f32, n, std::max<int64_t>(rank, 1), random);
    auto& own = segments.emplace_back(std::vector<Segment>{{row.matrix(), {n, kK, i}}});
    if (rank > 0) own.push_back({row.matrix().columns(hidden), {n, rank, -1, 0, factor.floats(), rank}});
    Output to{y.matrix().columns(column)};
    if (!s.beside) to.y = apart.emplace_back(run, operand, kM, n).matrix();
    const Tensor& bias = biases.emplace_back(run, DType::f32, 1, n, random);
    if (s.bias && i != 1) to.bias = bias.floats();
    if (s.residual && i == 2) {
      to.residual = residual.floats();
      to.residual_ld = n;
    }
    members.push_back({s.precision, kM, n, own, to});
    column += n;
    hidden += rank;
  }
  const GroupedGemmNt kernel{members};
  run.set_weights(weights);
  lowrank::cuda::run(run, kernel, address_of(run.buffer<std::byte>(workspace(run.card(), kernel))));
  std::vector<int64_t> served;
  for (const LibraryProduct& product : run.products()) served.push_back(product.n);
  CHECK(served == outputs);
  const auto rounded = [&](double v) {
    return s.precision == Precision::bf16 ? f32_from_bf16(bf16_from_f32(static_cast<float>(v))) : v;
  };
  column = 0;
  hidden = kK;
  for (int i = 0; i < 3; ++i) {
    const test::Scope scope("member " + std::to_string(i));
    const auto at = static_cast<size_t>(i);
    double difference = 0, norm = 0;
    for (int64_t t = 0; t < kM; ++t) {
      for (int64_t j = 0; j < kOutputs[i]; ++j) {
        double sum = s.bias && i != 1 ? biases[at](0, j) : 0;
        if (s.residual && i == 2) sum += residual(t, j);
        for (int64_t c = 0; c < kK; ++c) sum += row(t, c) * rounded(bases[at](j, c));
        for (int64_t r = 0; r < ranks[i]; ++r) sum += row(t, hidden + r) * rounded(factors[at](j, r));
        const double found = s.beside ? y(t, column + j) : apart[at](t, j);
        difference += (found - sum) * (found - sum);
        norm += sum * sum;
      }
    }
    CHECK_LE(std::sqrt(difference / norm), s.precision == Precision::f32 ? 2e-6 : 0x1p-8);
    column += kOutputs[i];
    hidden += ranks[i];
  }
}

TEST("cuBLASLt takes linears that read one value as one product") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}};
  for (const DeviceFormat format : {DeviceFormat::nf4, DeviceFormat::q8_0}) check_group({.format = format}, {480});
  check_group({.bias = true}, {480});
  check_group({.bias = true, .cut = true}, {256, 224});
  check_group({.precision = Precision::f32}, {480});
  check_group({.rank = 130}, {480});
}

TEST("cuBLASLt takes linears that read one value one by one where they cannot be one product") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}};
  check_group({.beside = false}, {200, 136, 144});
  check_group({.format = DeviceFormat::bf16}, {200, 136, 144});  // the weights are read where they lie
  check_group({.residual = true}, {200, 136});                   // y would be rounded twice
}

TEST("linears that read one value are multiplied one by one without cuBLASLt") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN},
                                {"LOWRANK_STANDIN_CUBLASLT", "no-kernel"}};
  check_group({.bias = true}, {});
}

TEST("linears that read one value need no more workspace with fewer ranks") {
  for (const int64_t outputs : {int64_t{512}, int64_t{14336}, int64_t{17408}})
    for (const int64_t k : {2048, 4096, 5120}) {
      int64_t grouped = 0, alone = 0;
      for (int64_t rank = 1; rank <= 256; ++rank) {
        const Segment of_one[] = {{{}, {outputs, k, 0}}, {{}, {outputs, rank, -1, 0, {}, rank}}};
        const GemmNt one{Precision::bf16, 4096, outputs, of_one, {}};
        const GemmNt both[] = {one, one};
        const int64_t of_both = workspace(Card(), GroupedGemmNt{both});
        CHECK(grouped <= of_both);
        CHECK(alone <= workspace(Card(), one));
        grouped = of_both;
        alone = workspace(Card(), one);
      }
    }
}

}  // namespace
}  // namespace lowrank::cuda
