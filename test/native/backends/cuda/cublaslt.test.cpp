// cuBLASLt by its stand-in: where it is looked for, and products that it serves.
#include "backends/cuda/cublaslt.h"

#include <deque>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "backends/cuda/library_runner.h"
#include "backends/cuda/runs.h"
#include "backends/cuda/standin_test.h"
#include "backends/cuda/weight_copy.h"
#include "core/math.h"
#include "temporary_file.h"

namespace lowrank::cuda {
namespace {

using test::Environment;

TEST("cuBLASLt is taken from where LOWRANK_CUBLASLT says, and from nowhere else") {
  std::string reason;
  Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}};
  const auto library = CublasLt::open(90, reason);
  REQUIRE(library != nullptr);
  CHECK_EQ(library->path(), std::string(LOWRANK_CUBLASLT_STANDIN));
  CHECK_EQ(library->version(), 130200);

  environment.set("LOWRANK_CUBLASLT", "/nowhere/libcublasLt.so");
  CHECK(CublasLt::open(90, reason) == nullptr);
  CHECK(reason.find("/nowhere/libcublasLt.so") != std::string::npos);
  environment.set("LOWRANK_CUBLASLT", "off");
  CHECK(CublasLt::open(90, reason) == nullptr);
  CHECK_EQ(reason, "no cuBLASLt is asked for");
}

TEST("cuBLASLt is refused with the reason where it cannot begin or is something else") {
  std::string reason;
  Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}, {"LOWRANK_STANDIN_CUBLASLT", "no-create"}};
  CHECK(CublasLt::open(90, reason) == nullptr);
  CHECK(reason.find("cublasLtCreate failed with status 1") != std::string::npos);
  environment.set("LOWRANK_CUBLASLT", "libm.so.6");
  CHECK(CublasLt::open(90, reason) == nullptr);
  CHECK_EQ(reason, "libm.so.6: it has no cublasLtGetVersion");
}

TEST("cuBLASLt is found in toolkits and in Python environments") {
  const test::TemporaryFolder folder;
  const std::filesystem::path& root = folder.path();
  const auto put = [&](const std::filesystem::path& file) {
    std::filesystem::create_directories((root / file).parent_path());
    std::ofstream(root / file) << "x";
    return (root / file).string();
  };
  const std::string toolkit = put("cuda/lib64/libcublasLt.so.12");
  const std::string newer = put("venv/lib/python3.12/site-packages/nvidia/cu13/lib/libcublasLt.so.13");
  const std::string older = put("venv/lib/python3.12/site-packages/nvidia/cublas/lib/libcublasLt.so.12");
  const Environment environment{{"LOWRANK_CUBLASLT", ""},
                                {"LOWRANK_LIBCUDA", ""},
                                {"CUDA_HOME", (root / "cuda").string()},
                                {"CUDA_PATH", ""},
                                {"VIRTUAL_ENV", (root / "venv").string()},
                                {"CONDA_PREFIX", ""}};
  std::vector<std::string> found;
  for (const std::string& candidate : cublaslt_candidates())
    if (candidate.starts_with(root.string())) found.push_back(candidate);
  CHECK(found == (std::vector<std::string>{toolkit, newer, older}));
  CHECK_EQ(cublaslt_candidates().front(), "libcublasLt.so.13");
}

struct Shape {
  bool nt;
  Precision precision;
  DType y;
  DeviceFormat format;
  bool bias, residual;
  int64_t rank;         // of a small segment; 0: none
  int served;           // products that the library is asked for, and serves
  bool beside = false;  // the small segment's columns are behind the large one's
};

void check_product(const Shape& s) {
  constexpr int64_t kM = 130, kN = 136, kK = 128;
  LibraryRunner run;
  test::Random random(9);
  const DType operand = operand_of(s.precision);
  const int64_t n = s.nt ? kN : kK, k = s.nt ? kK : kN;  // so that rows of the base are 128 long
  const WeightCopy base(run, {s.format, kN, kK}, random);
  Weights weights;
  weights.set(0, base.device);
  const Tensor x(run, operand, kM, k + 8, random, 1, 48);
  Tensor h(run, operand, kM, 8);
  for (int64_t i = 0; i < kM; ++i)
    for (int64_t r = 0; r < 8; ++r) h.set(i, r, x(i, k + r));
  const int64_t rank = s.rank > 0 ? s.rank : 8;
  const Tensor factor(run, DType::f32, s.nt ? n : rank, s.nt ? rank : n, random);
  const Tensor bias(run, DType::f32, 1, n, random), residual(run, DType::f32, kM, n, random, 1, 4);
  const Tensor y(run, s.y, kM, n);
  std::vector<Segment> segments = {{x.matrix(), {kN, kK, 0}}};
  const Matrix at_h = s.beside ? x.matrix().columns(k) : h.matrix();
  if (s.rank > 0) segments.push_back({at_h, {factor.rows(), factor.cols(), -1, 0, factor.floats(), factor.cols()}});
  Output to{y.matrix()};
  if (s.bias) to.bias = bias.floats();
  if (s.residual) {
    to.residual = residual.floats();
    to.residual_ld = n + 4;
  }
  const auto launch = [&](const auto& kernel) {
    run.set_weights(weights);
    lowrank::cuda::run(run, kernel, address_of(run.buffer<std::byte>(workspace(run.card(), kernel))));
  };
  s.nt ? launch(GemmNt{s.precision, kM, n, segments, to}) : launch(GemmNn{s.precision, kM, n, segments, to});
  CHECK_EQ(run.served(), s.served);
  for (const LibraryProduct& product : run.products())
    CHECK_EQ(product.k, s.beside && s.format != DeviceFormat::bf16 ? k + s.rank : k);
  // A residual is read where it lies, unless something else is added to it first.
  const bool first = s.bias || (s.rank > 0 && !(s.beside && s.format != DeviceFormat::bf16));
  const Matrix begins = first ? y.matrix() : s.residual ? residual.matrix() : Matrix();
  for (const LibraryProduct& product : run.products()) CHECK_EQ(product.addend.data.address(), begins.data.address());
  const auto rounded = [&](double v) {
    return s.precision == Precision::bf16 ? f32_from_bf16(bf16_from_f32(static_cast<float>(v))) : v;
  };
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < kM; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = (s.bias ? bias(0, j) : 0) + (s.residual ? residual(i, j) : 0);
      for (int64_t c = 0; c < k; ++c) sum += x(i, c) * rounded(s.nt ? base(j, c) : base(c, j));
      for (int64_t r = 0; r < s.rank; ++r) sum += h(i, r) * rounded(s.nt ? factor(j, r) : factor(r, j));
      difference += (y(i, j) - sum) * (y(i, j) - sum);
      norm += sum * sum;
    }
  }
  CHECK_LE(std::sqrt(difference / norm), s.y == DType::f32 ? 2e-6 : 0x1p-8);
}

TEST("cuBLASLt serves large products, and what is small is added first") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}};
  using enum DType;
  for (const bool nt : {true, false}) {
    check_product({nt, Precision::bf16, bf16, DeviceFormat::nf4, false, false, 0, 1});
    check_product({nt, Precision::bf16, bf16, DeviceFormat::bf16, true, false, 8, 1});
    check_product({nt, Precision::bf16, f32, DeviceFormat::nf4, true, true, 8, 1});
    check_product({nt, Precision::bf16, bf16, DeviceFormat::nf4, false, true, 8, 0});  // would be rounded twice
    check_product({nt, Precision::bf16, f32, DeviceFormat::bf16, false, true, 0, 1});
    check_product({nt, Precision::f32, f32, DeviceFormat::q8_0, false, true, 8, 1});
  }
}

/// The input gradient of some linears with adapters, whose gradients lie beside each other in one row, or not.
/// @param depths of the products that the library serves
void check_input_gradient(bool beside, int linears, DeviceFormat format, bool cut, const std::vector<int64_t>& depths) {
  const test::Scope scope((beside ? "beside " : "apart ") + std::to_string(linears) +
                          (format == DeviceFormat::bf16 ? " bf16" : " decoded") + (cut ? " cut" : ""));
  constexpr int64_t kM = 130, kN = 448, kDepths[] = {128, 136}, kRanks[] = {5, 8};
  LibraryRunner run;
  if (cut) run.cut();
  test::Random random(11);
  // [dy of the first | dy of the second | dh of the first | dh of the second]
  std::vector<int64_t> widths;
  for (int i = 0; i < linears; ++i) widths.push_back(kDepths[i]);
  for (int i = 0; i < linears; ++i) widths.push_back(kRanks[i]);
  const int64_t whole = std::accumulate(widths.begin(), widths.end(), int64_t{0});
  const Tensor row(run, DType::bf16, kM, whole, random, 1, round_up(whole, 64) - whole);
  std::vector<Tensor> apart;
  std::vector<Matrix> x;
  int64_t column = 0;
  for (const int64_t width : widths) {
    Tensor& own = apart.emplace_back(run, DType::bf16, kM, width);
    for (int64_t t = 0; t < kM; ++t)
      for (int64_t c = 0; c < width; ++c) own.set(t, c, row(t, column + c));
    x.push_back(beside ? row.matrix().columns(column) : own.matrix());
    column += width;
  }
  std::deque<WeightCopy> bases;
  std::vector<Tensor> factors;
  Weights weights;
  std::vector<Segment> segments;
  for (int i = 0; i < linears; ++i) {
    bases.emplace_back(run, WeightShape{format, kDepths[i], kN}, random);
    weights.set(i, bases.back().device);
    const Tensor& a = factors.emplace_back(run, DType::f32, kRanks[i], kN, random);
    segments.push_back({x[static_cast<size_t>(i)], {kDepths[i], kN, i}});
    segments.push_back({x[static_cast<size_t>(linears + i)], {kRanks[i], kN, -1, 0, a.floats(), kN}});
  }
  const Tensor y(run, DType::bf16, kM, kN);
  const GemmNn kernel{Precision::bf16, kM, kN, segments, {y.matrix()}};
  run.set_weights(weights);
  lowrank::cuda::run(run, kernel, address_of(run.buffer<std::byte>(workspace(run.card(), kernel))));
  std::vector<int64_t> served;
  for (const LibraryProduct& product : run.products()) served.push_back(product.k);
  CHECK(served == depths);
  const auto rounded = [](double v) { return f32_from_bf16(bf16_from_f32(static_cast<float>(v))); };
  double difference = 0, norm = 0;
  for (int64_t t = 0; t < kM; ++t) {
    for (int64_t j = 0; j < kN; ++j) {
      double sum = 0;
      for (size_t i = 0; i < bases.size(); ++i) {
        const Tensor &dy = apart[i], &dh = apart[bases.size() + i];
        for (int64_t c = 0; c < dy.cols(); ++c) sum += dy(t, c) * rounded(bases[i](c, j));
        for (int64_t c = 0; c < dh.cols(); ++c) sum += dh(t, c) * rounded(factors[i](c, j));
      }
      difference += (y(t, j) - sum) * (y(t, j) - sum);
      norm += sum * sum;
    }
  }
  CHECK_LE(std::sqrt(difference / norm), 0x1p-8);
}

TEST("cuBLASLt takes what lies beside the input of a linear with it") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}};
  using enum DType;
  for (const bool nt : {true, false}) {
    check_product({nt, Precision::bf16, bf16, DeviceFormat::nf4, false, false, 8, 1, true});
    check_product({nt, Precision::bf16, f32, DeviceFormat::q8_0, true, true, 5, 1, true});
    // The weight is read where it lies.
    check_product({nt, Precision::bf16, bf16, DeviceFormat::bf16, false, false, 8, 1, true});
    check_product({nt, Precision::f32, f32, DeviceFormat::q8_0, false, true, 8, 1, true});
  }
}

TEST("cuBLASLt takes gradients that lie beside each other as one product") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}};
  for (const DeviceFormat format : {DeviceFormat::nf4, DeviceFormat::bf16}) {
    check_input_gradient(true, 2, format, false, {277});
    check_input_gradient(true, 2, format, true, {277, 277});
    check_input_gradient(false, 2, format, false, {});  // y would be rounded twice
  }
  check_input_gradient(true, 1, DeviceFormat::nf4, false, {133});
  check_input_gradient(true, 1, DeviceFormat::bf16, false, {128});  // the weight is read as it lies
}

TEST("what cuBLASLt has no kernel for is multiplied by one of our own") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN},
                                {"LOWRANK_STANDIN_CUBLASLT", "no-kernel"}};
  check_product({true, Precision::bf16, DType::bf16, DeviceFormat::nf4, true, false, 8, 0});
  check_product({false, Precision::bf16, DType::f32, DeviceFormat::nf4, true, true, 8, 0});
}

TEST("cuBLASLt serves large reductions over tokens") {
  const Environment environment{{"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}};
  for (const bool transposed : {false, true}) {
    LibraryRunner run;
    test::Random random(10);
    const Tensor u(run, DType::bf16, 129, 128, random), x(run, DType::bf16, 129, 136, random);
    const int64_t rows = transposed ? 136 : 128, cols = transposed ? 128 : 136;
    Tensor out(run, DType::f32, rows, cols);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < cols; ++j) out.set(i, j, 1);
    const ReduceTokens k{Precision::bf16, 129, u.matrix(), 128, x.matrix(), 136, 0.5f, out.floats(), cols, transposed};
    lowrank::cuda::run(run, k, address_of(run.buffer<std::byte>(workspace(run.card(), k))));
    CHECK_EQ(run.served(), 1);
    double worst = 0;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < cols; ++j) {
        double sum = 1;
        for (int64_t t = 0; t < 129; ++t) sum += 0.5 * u(t, transposed ? j : i) * x(t, transposed ? i : j);
        worst = std::max(worst, std::fabs(out(i, j) - sum));
      }
    }
    CHECK_LE(worst, 1e-4);
  }
}

}  // namespace
}  // namespace lowrank::cuda
