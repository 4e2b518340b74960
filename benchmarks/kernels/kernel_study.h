// Measures the speed of kernels, each on its own inputs and interleaved with a loop of pure multiply-adds. Only shapes
// are needed; weights are synthetic.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/context.h"
#include "weights/weights.h"

namespace lowrank {

/// A linear layer [out, in] with an adapter of rank `rank`: y = x W^T, dx = dy W, and the gradients of A and B.
struct LinearStudy {
  int64_t tokens = 0, out = 0, in = 0, rank = 0;
  StorageFormat format = StorageFormat::f32;
};

/// Attention over `sequences` of equal length, forward and backward.
struct AttentionStudy {
  int32_t sequences = 0, length = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int32_t window = std::numeric_limits<int32_t>::max();  // maximum keys a token attends to
};

/// The head [vocab, hidden], the loss, and the gradient at the head's input, as in a training step.
struct HeadStudy {
  int64_t tokens = 0, vocab = 0, hidden = 0;
  StorageFormat format = StorageFormat::f32;
};

struct KernelStudy {
  std::variant<LinearStudy, AttentionStudy, HeadStudy> subject;
  Precision precision = Precision::f32;
  int rounds = 1;
};

/// One kernel: operations per call, counting a multiply-add as two, and its shortest time.
struct KernelTime {
  std::string name;
  double operations = 0;
  double seconds = 0;
};

struct KernelTimes {
  std::vector<KernelTime> kernels;
  /// Operations per second of all threads in a multiply-add loop, measured between the rounds; none if the level has no
  /// such loop.
  std::optional<double> peak;
  /// Bytes that the head's first call made resident, activations and loss; none if the system does not report it.
  std::optional<int64_t> extra_bytes;
};

/// Times the kernels of a study in rounds. Other processes can only slow a kernel down, so the best round counts. A
/// single thread is timed by its CPU time, which excludes other processes. Throws Error("SHAPE") for sizes that are
/// invalid or not supported by a format.
KernelTimes time_kernels(Context& context, const KernelStudy& study);

}  // namespace lowrank
