#include "backends/cuda/loss.h"
#include "backends/cuda/loss_launches.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const CrossEntropy& k, Ptr<std::byte>) {
  const CrossEntropyArgs args{k.rows,
                              k.vocab,
                              device_pointer(k.logits.data.as<float>()),
                              k.logits.ld,
                              device_pointer(k.labels),
                              device_pointer(k.weights),
                              k.weight,
                              k.inverse_temperature,
                              k.smoothing,
                              k.lse_known,
                              device_pointer(k.lse),
                              device_pointer(k.loss),
                              device_pointer(k.grad.data),
                              k.grad.ld};
  launcher.launch(k.grad.dtype == DType::bf16 ? cross_entropy_bf16 : cross_entropy_f32, {k.rows}, 512, args);
}

}  // namespace lowrank::cuda
