#include "backends/cuda/kernels/loss.h"
#include "backends/cuda/launch/loss.h"

#include "core/error.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const CrossEntropy& k, Ptr<std::byte>) {
  if (k.weights || k.lse || k.inverse_temperature != 1)
    fail("UNSUPPORTED", "losses with a weight for each token do not run on CUDA yet; use device: cpu");
  if (k.smoothing != 0) fail("UNSUPPORTED", "label smoothing does not run on CUDA yet; use device: cpu");
  const CrossEntropyArgs args{k.rows,
                              k.vocab,
                              device_pointer(k.logits.data.as<float>()),
                              k.logits.ld,
                              device_pointer(k.labels),
                              k.weight,
                              device_pointer(k.loss),
                              device_pointer(k.grad.data),
                              k.grad.ld};
  launcher.launch(k.grad.dtype == DType::bf16 ? cross_entropy_bf16 : cross_entropy_f32, {k.rows}, 512, args);
}

}  // namespace lowrank::cuda
