// Holds a kernel by CUDA to the same kernel by the CPU's simplest level: both get equal operands, and all of their
// memory is compared afterwards, what neither may have touched included.
#pragma once

#include <algorithm>
#include <deque>
#include <span>

#include "backends/cpu/device.h"
#include "backends/cuda/runs.h"
#include "backends/cuda/tensor.h"

namespace lowrank::cuda {

/// Operands of a kernel in a runner's memory. Made twice in the same way they are the same.
class Bench {
 public:
  explicit Bench(Runner& run) : run_(run) {}

  test::Random random{1};

  /// Full of normal numbers, or of NaN where the scale is 0.
  Matrix matrix(DType dtype, int64_t rows, int64_t cols, int64_t spare = 0, double scale = 1) {
    tensors_.push_back(scale == 0 ? Tensor(run_, dtype, rows, cols, spare)
                                  : Tensor(run_, dtype, rows, cols, random, scale, spare));
    return tensors_.back().matrix();
  }
  Matrix empty(DType dtype, int64_t rows, int64_t cols, int64_t spare = 0) {
    return matrix(dtype, rows, cols, spare, 0);
  }
  Ptr<float> floats(int64_t count, double scale = 1) { return matrix(DType::f32, 1, count, 0, scale).data.as<float>(); }
  Ptr<int32_t> ints(const std::vector<int32_t>& values) { return address_of(run_.buffer(values)); }
  /// Full of random bytes.
  Ptr<uint8_t> bytes(int64_t count) {
    std::vector<uint8_t> values(static_cast<size_t>(count));
    for (uint8_t& value : values) value = static_cast<uint8_t>(random.bits());
    bytes_.emplace_back(run_.buffer(values), count);
    return address_of(bytes_.back().data());
  }
  const std::deque<std::span<uint8_t>>& all_bytes() const { return bytes_; }
  /// The last operand of numbers.
  Tensor& last() { return tensors_.back(); }
  std::deque<Tensor>& tensors() { return tensors_; }
  Runner& runner() { return run_; }

 private:
  Runner& run_;
  std::deque<Tensor> tensors_;
  std::deque<std::span<uint8_t>> bytes_;
};

/// Memory alone.
class HostRunner final : public Runner {
 public:
  HostRunner() : Runner("the host") {}

 private:
  void launch(const char*, Grid, int, const void*, int64_t, int64_t) override {}
};

/// How far results may be apart.
struct Closeness {
  /// Share of the larger number; 0: the bits are equal. Rounding to bf16 comes on top.
  double relative = 2e-6;
  /// Magnitude that the rounding of smaller numbers is of, as of sums whose terms cancel.
  double scale = 1e-3;
};
inline constexpr Closeness kSameBits{0, 0};

/// @param make fills a bench and returns the kernel
template <class Make>
void check_like_cpu(Make&& make, const Closeness& close, cpu::Level level = cpu::Level::reference) {
  for_each_execution([&](Runner& runner) {
    Bench bench(runner);
    const auto kernel = make(bench);
    run(runner, kernel, room_for(runner, kernel));

    HostRunner host;
    Bench expected(host);
    const Kernel same = make(expected);
    Pool pool(1);
    cpu::CpuDevice device(pool, cpu::kernels(level), cpu::CpuSizes(1));
    device.launch(same, address_of(host.buffer<std::byte>(device.sizes().workspace(same) + 64)));

    for (size_t i = 0; i < bench.tensors().size(); ++i) {
      Tensor &a = bench.tensors()[i], &e = expected.tensors()[i];
      double worst = 0;
      for (int64_t row = 0; row < a.rows(); ++row) {
        for (int64_t col = 0; col < a.cols(); ++col) {
          const double actual = a(row, col), wanted = e(row, col);
          if (actual == wanted || (std::isnan(actual) && std::isnan(wanted))) continue;
          const double size = std::fmax(std::fmax(std::fabs(actual), std::fabs(wanted)), close.scale);
          const double allowed =
              close.relative * size + (a.dtype() == DType::f32 || close.relative == 0 ? 0 : 0x1p-7 * std::fabs(wanted));
          const double off = std::fabs(actual - wanted);
          worst = std::fmax(worst, std::isnan(off) || allowed == 0 ? 1e30 : off / allowed);
        }
      }
      if (worst > 1) {
        test::report(__FILE__, __LINE__,
                     std::string(kernel.kName) + ": operand " + std::to_string(i) + " is off by " +
                         std::to_string(worst) + " times what is allowed");
      }
      CHECK(a.spare_untouched());
    }
    for (size_t i = 0; i < bench.all_bytes().size(); ++i)
      CHECK(std::ranges::equal(bench.all_bytes()[i], expected.all_bytes()[i]));
  });
}

}  // namespace lowrank::cuda
