#include "backends/cuda/gains_launches.h"

#include "backends/cuda/gains.h"
#include "backends/cuda/launch_cells.h"
#include "core/random.h"

namespace lowrank::cuda {

void run(Launcher& launcher, const DrawRows& k, Ptr<std::byte>) {
  launcher.launch(draw_rows, {k.rows > 0}, kDrawThreads,
                  {k.rows, k.drop_row, k.drop_all, k.rescale, mix(k.key), device_pointer(k.gains)});
}

void run(Launcher& launcher, const AddRatios& k, Ptr<std::byte>) {
  launcher.launch(add_ratios, blocks_of(k.rows, kGainThreads), kGainThreads,
                  {k.rows, device_pointer(k.m), device_pointer(k.c), device_pointer(k.gain), nullptr, k.weight});
}

void run(Launcher& launcher, const RatiosOver& k, Ptr<std::byte>) {
  launcher.launch(
      ratios_over, blocks_of(k.rows, kGainThreads), kGainThreads,
      {k.rows, device_pointer(k.m), device_pointer(k.c), device_pointer(k.gain), device_pointer(k.over), 0});
}

void run(Launcher& launcher, const MagnitudeGains& k, Ptr<std::byte>) {
  launcher.launch(
      magnitude_gains, blocks_of(k.rows, kGainThreads), kGainThreads,
      {k.rows, device_pointer(k.m), device_pointer(k.c), k.of_scaled, device_pointer(k.gain), device_pointer(k.share)});
}

}  // namespace lowrank::cuda
