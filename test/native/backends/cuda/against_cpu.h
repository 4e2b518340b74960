// A kernel's value run on CUDA and by the CPU's reference kernels, with outputs of either's own.
#pragma once

#include "backends/cpu/device.h"
#include "backends/cuda/runs.h"
#include "backends/cuda/tensor.h"

namespace lowrank::cuda {

/// An output of both, alike at first.
class Twin {
 public:
  /// Full of NaN.
  Twin(Runner& run, DType dtype, int64_t rows, int64_t cols, int64_t spare = 0)
      : cuda_(run, dtype, rows, cols, spare), cpu_(run, dtype, rows, cols, spare) {}
  /// Full of normal numbers.
  Twin(Runner& run, DType dtype, int64_t rows, int64_t cols, test::Random& random, int64_t spare = 0)
      : Twin(run, dtype, rows, cols, spare) {
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t col = 0; col < cols; ++col) {
        cuda_.set(row, col, random.normal());
        cpu_.set(row, col, cuda_(row, col));
      }
  }
  const Tensor& of(bool cuda) const { return cuda ? cuda_ : cpu_; }
  Ptr<float> floats(bool cuda) const { return of(cuda).floats(); }

  /// Norm of the difference by that of the CPU's numbers; NaN where a number is.
  double error() const {
    double difference = 0, norm = 0;
    for (int64_t row = 0; row < cpu_.rows(); ++row)
      for (int64_t col = 0; col < cpu_.cols(); ++col) {
        difference += (cuda_(row, col) - cpu_(row, col)) * (cuda_(row, col) - cpu_(row, col));
        norm += cpu_(row, col) * cpu_(row, col);
      }
    return difference == 0 ? 0 : std::sqrt(difference / norm);
  }
  bool spare_untouched() const { return cuda_.spare_untouched(); }

 private:
  Tensor cuda_, cpu_;
};

/// Runs a kernel on CUDA with a workspace of just the size that it asks for.
template <class K>
void run_on_cuda(Runner& runner, const K& kernel) {
  run(runner, kernel, room_for(runner, kernel));
}

inline void run_on_cpu(const Kernel& kernel) {
  Pool pool(1);
  const cpu::CpuSizes sizes(1);
  cpu::CpuDevice device(pool, cpu::kernels(cpu::Level::reference), sizes);
  test::Workspace room(sizes.workspace(kernel));
  device.launch(kernel, address_of(room.data()));
}

/// Runs what `make` gives for each of the two, which it is told by true for CUDA.
template <class Make>
void run_on_both(Runner& run, Make&& make) {
  run_on_cuda(run, make(true));
  run_on_cpu(make(false));
}

}  // namespace lowrank::cuda
