// The interpreter against kernels that Triton compiled: they come out right, and with a fault planted into them the
// fault is found by name.
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "backends/cuda/ptx_support.h"

using namespace lowrank;
using namespace lowrank::test::ptx;

namespace {

float widened(uint16_t value) { return f32_from_bf16(value); }
float widened(float value) { return value; }

/// c = a b with the operands of the Triton kernels, and what it should be.
template <class Out>
struct Product {
  static constexpr int kRows = 128, kCols = 64, kDepth = 160;

  explicit Product(bool transposed, size_t spare = 0)
      : transposed(transposed),
        a(memory, kRows * kDepth),
        b(memory, kDepth * kCols),
        c(memory, kRows * kCols - spare, Out(-1)) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < a.size(); ++i) a[i] = bf16_from_f32(normal(random));
    for (size_t i = 0; i < b.size(); ++i) b[i] = bf16_from_f32(normal(random));
  }
  Report run(const std::string& text, const std::string& kernel, int64_t shared, const Options& options = {}) {
    const Module module(text);
    const void* none = nullptr;
    const Arguments args(a.data(), b.data(), c.data(), kRows, kCols, kDepth, none, none);
    return launch(module.kernel(kernel), {kRows / 64, kCols / 64, 1}, {128, 1, 1}, shared, args, memory, options);
  }
  /// Largest difference from float64.
  double error() const {
    double most = 0;
    for (size_t row = 0; row < kRows; ++row) {
      for (size_t col = 0; col < kCols; ++col) {
        double sum = 0;
        for (size_t k = 0; k < kDepth; ++k) {
          sum += static_cast<double>(widened(a[row * kDepth + k])) *
                 widened(transposed ? b[k * kCols + col] : b[col * kDepth + k]);
        }
        const double difference = std::fabs(widened(c[row * kCols + col]) - sum);
        most = std::fmax(most, std::isnan(difference) ? HUGE_VAL : difference);
      }
    }
    return most;
  }

  bool transposed;
  Memory memory;
  Array<uint16_t> a, b;
  Array<Out> c;
};

std::vector<Options> schedules() {
  std::vector<Options> all(4);
  all[1].threads = all[1].blocks = Order::reverse;
  all[2].threads = all[2].blocks = Order::random;
  all[3].late_copies = false;
  return all;
}

}  // namespace

TEST("PTX: products that Triton compiled are right in every schedule") {
  for (const Options& options : schedules()) {
    Product<float> plain(false), transposed(true);
    Product<uint16_t> narrow(false);
    plain.run(triton_text("gemm_f32"), "gemm", 16384, options);
    CHECK_LE(plain.error(), 2e-5);
    narrow.run(triton_text("gemm_bf16"), "gemm", 8192, options);
    CHECK_LE(narrow.error(), 0x1p-8 * 64);
    transposed.run(triton_text("gemm_transposed"), "gemm_transposed", 16384, options);
    CHECK_LE(transposed.error(), 2e-5);
  }
}

TEST("PTX: products that Triton compiled are wrong where fragments lie elsewhere") {
  Fragments moved = Fragments::standard();
  for (auto& lane : moved.a) std::swap_ranges(lane.begin() + 2, lane.begin() + 4, lane.begin() + 4);
  Options options;
  options.fragments = &moved;
  Product<float> product(false);
  product.run(triton_text("gemm_f32"), "gemm", 16384, options);
  CHECK(product.error() > 1);

  Fragments turned = Fragments::standard();
  for (auto& lane : turned.b) std::swap(lane[0], lane[1]);
  options.fragments = &turned;
  Product<float> transposed(true);
  transposed.run(triton_text("gemm_transposed"), "gemm_transposed", 16384, options);
  CHECK(transposed.error() > 1);
}

TEST("PTX: a softmax that Triton compiled is right in every schedule") {
  for (const Options& options : schedules()) {
    constexpr size_t rows = 3, cols = 777;
    Memory memory;
    Array<float> x(memory, rows * cols), y(memory, rows * cols);
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0, 3);
    for (size_t i = 0; i < x.size(); ++i) x[i] = normal(random);
    const void* none = nullptr;
    const Module module(triton_text("softmax"));
    launch(module.kernel("softmax"), {rows, 1, 1}, {128, 1, 1}, 16,
           Arguments(x.data(), y.data(), static_cast<int>(cols), none, none), memory, options);
    for (size_t row = 0; row < rows; ++row) {
      double total = 0;
      for (size_t col = 0; col < cols; ++col) total += std::exp(static_cast<double>(x[row * cols + col]));
      for (size_t col = 0; col < cols; ++col) {
        CHECK_CLOSE(y[row * cols + col], std::exp(static_cast<double>(x[row * cols + col])) / total, 2e-5);
      }
    }
  }
}

TEST("PTX: attention that Triton compiled is right in every schedule") {
  for (const Options& options : schedules()) {
    constexpr size_t length = 150, dim = 64;
    const float scale = 0.125f;
    Memory memory;
    Array<uint16_t> q(memory, length * dim), k(memory, length * dim), v(memory, length * dim),
        o(memory, length * dim, 0x7fff);
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (const auto* array : {&q, &k, &v}) {
      for (size_t i = 0; i < array->size(); ++i) (*array)[i] = bf16_from_f32(normal(random));
    }
    const void* none = nullptr;
    const Module module(triton_text("attention"));
    launch(module.kernel("attention"), {(length + 63) / 64, 1, 1}, {128, 1, 1}, 16384,
           Arguments(q.data(), k.data(), v.data(), o.data(), static_cast<int>(length), scale, none, none), memory,
           options);
    for (size_t row = 0; row < length; ++row) {
      std::vector<double> weights(row + 1);
      double total = 0;
      for (size_t key = 0; key <= row; ++key) {
        double score = 0;
        for (size_t d = 0; d < dim; ++d)
          score += static_cast<double>(widened(q[row * dim + d])) * widened(k[key * dim + d]);
        total += weights[key] = std::exp(score * scale);
      }
      for (size_t d = 0; d < dim; ++d) {
        double expected = 0;
        for (size_t key = 0; key <= row; ++key) expected += weights[key] / total * widened(v[key * dim + d]);
        CHECK(std::fabs(widened(o[row * dim + d]) - expected) < 0.02);
      }
    }
  }
}

TEST("PTX: a barrier that is missing is found in every schedule") {
  const std::string text = triton_text("gemm_f32");
  for (const Options& options : schedules()) {
    // The barriers between copying and reading, and between reading and the next copy.
    for (const int barrier : {2, 3}) {
      Product<float> product(false);
      const std::string faulty = changed(text, "bar.sync \t0;", "", barrier);
      const std::string fault = fault_of([&] { product.run(faulty, "gemm", 16384, options); });
      CHECK(fault == "race" || fault == "copy in flight");
    }
  }
}

TEST("PTX: a cp.async that is not waited for is found") {
  const std::string faulty = changed(triton_text("gemm_f32"), "cp.async.wait_group \t2;", "cp.async.wait_group \t4;");
  for (const Options& options : schedules()) {
    Product<float> product(false);
    CHECK_EQ(fault_of([&] { product.run(faulty, "gemm", 16384, options); }), "copy in flight");
  }
}

TEST("PTX: shared memory is aligned no better than its declaration says") {
  const std::string faulty = changed(triton_text("gemm_f32"), ".shared .align 16", ".shared .align 2");
  Product<float> product(false);
  CHECK_EQ(fault_of([&] { product.run(faulty, "gemm", 16384); }), "alignment");
}

TEST("PTX: accesses beside an allocation or an array are found") {
  Product<float> product(false, 1);
  CHECK_EQ(fault_of([&] { product.run(triton_text("gemm_f32"), "gemm", 16384); }), "bounds");
  Product<float> small(false);
  CHECK_EQ(fault_of([&] { small.run(triton_text("gemm_f32"), "gemm", 16384 - 16); }), "bounds");
}

TEST("PTX: swapped operands of mma give a wrong product") {
  const std::string faulty = changed(triton_text("gemm_f32"), "{ %r53, %r54, %r55, %r56 }, { %r57, %r58 }",
                                     "{ %r53, %r55, %r54, %r56 }, { %r57, %r58 }");
  Product<float> product(false);
  product.run(faulty, "gemm", 16384);
  CHECK(product.error() > 1);
}

TEST("PTX: 32-bit indices overflow at 2^33 logits") {
  // Triton computes row * cols in 32 bits. Rows of an allocation that is never touched as a whole are run one by one.
  constexpr int64_t cols = 1024, rows = int64_t{1} << 23;
  constexpr size_t bytes = size_t{rows} * cols * 4;
  // Pages that nobody touches take no memory.
  struct Sparse {
    void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ~Sparse() { munmap(at, bytes); }
    float* row(int64_t row) const { return static_cast<float*>(at) + row * cols; }
  } x, y;
  REQUIRE(x.at != MAP_FAILED && y.at != MAP_FAILED);
  Memory memory;
  memory.add(x.at, bytes);
  memory.add(y.at, bytes);
  const void* none = nullptr;
  const Module module(triton_text("softmax"));
  const auto row_is_right = [&](int64_t row) {
    for (int64_t col = 0; col < cols; ++col) x.row(row)[col] = static_cast<float>(col % 7);
    Options options;
    options.only = {{row, 0, 0}};
    try {
      launch(module.kernel("softmax"), {rows, 1, 1}, {128, 1, 1}, 16,
             Arguments(x.at, y.at, static_cast<int>(cols), none, none), memory, options);
    } catch (const Fault&) {
      return false;
    }
    double total = 0;
    for (int64_t col = 0; col < cols; ++col) total += y.row(row)[col];
    return std::fabs(total - 1) < 1e-4;
  };
  CHECK(row_is_right(0));
  CHECK(row_is_right((int64_t{1} << 21) - 1));
  CHECK(!row_is_right(int64_t{1} << 21));
  CHECK(!row_is_right(rows - 1));
}

TEST("PTX: a report counts bank conflicts and sectors") {
  Options options;
  options.traffic = true;
  Product<float> product(false);
  const Report report = product.run(triton_text("gemm_f32"), "gemm", 16384, options);
  int64_t matrices = 0;
  for (const Traffic& traffic : report.traffic) {
    CHECK_EQ(traffic.sectors, traffic.least_sectors);
    if (traffic.instruction.find("ldmatrix") == std::string::npos) continue;
    ++matrices;
    CHECK_EQ(traffic.wavefronts, traffic.least_wavefronts);
    CHECK_EQ(traffic.wavefronts, 4 * traffic.requests);
  }
  CHECK_EQ(matrices, 8);
}
