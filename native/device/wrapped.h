// A device that wraps another.
#pragma once

#include <memory>

#include "device/device.h"

namespace lowrank {

/// Uses the memory and weights of another device, and launches in its own way.
class WrappedDevice : public Device {
 public:
  explicit WrappedDevice(Device& of) : of_(of) {}
  const KernelSizes& sizes() const override { return of_.sizes(); }
  Memory& memory() override { return of_.memory(); }
  std::unique_ptr<PlacedWeights> place(const WeightStore& weights) override { return of_.place(weights); }
  void use(const PlacedWeights* weights) override { of_.use(weights); }
  int64_t rows_at_once(int weight, int64_t rows) const override { return of_.rows_at_once(weight, rows); }
  std::unique_ptr<Hold> hold(const WeightRows& rows) override { return of_.hold(rows); }

 protected:
  Device& of_;
};

}  // namespace lowrank
