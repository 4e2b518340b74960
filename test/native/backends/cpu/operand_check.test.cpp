#include "backends/cpu/operand_check.h"

#include <functional>
#include <numeric>

#include "backends/cpu/device.h"
#include "check.h"

using namespace lowrank;

namespace {

constexpr int64_t kRows = 6;

/// A device that computes in whatever way a test plants.
class Planted final : public Device {
 public:
  using Compute = std::function<void(const Kernel&)>;
  explicit Planted(Compute compute) : compute_(std::move(compute)) {}

  const KernelSizes& sizes() const override { return sizes_; }
  Memory& memory() override { return cpu::memory(); }
  std::unique_ptr<PlacedWeights> place(const WeightStore&) override { return nullptr; }
  void use(const PlacedWeights*) override {}
  int64_t rows_at_once(int, int64_t rows) const override { return rows; }
  std::unique_ptr<Hold> hold(const WeightRows&) override { return nullptr; }
  void launch(const Kernel& kernel, Ptr<std::byte>) override { compute_(kernel); }

 private:
  const cpu::CpuSizes sizes_{1};
  const Compute compute_;
};

void right(const AddRatios& k, float* m, float* c, float* gain) {
  for (int64_t i = 0; i < k.rows; ++i) gain[i] += k.weight * (m[i] / c[i]);
}

/// Three vectors and a number behind each, of a device that computes AddRatios.
void checked(void (*compute)(const AddRatios& k, float* m, float* c, float* gain)) {
  std::vector<float> memory(3 * (kRows + 1));
  std::iota(memory.begin(), memory.end(), 1.0f);
  const std::vector<float> before = memory;
  float *m = memory.data(), *c = m + kRows + 1, *gain = c + kRows + 1;
  Planted device([&](const Kernel& kernel) { compute(std::get<AddRatios>(kernel), m, c, gain); });
  cpu::OperandCheck check(device, {{reinterpret_cast<std::byte*>(m), memory.size() * sizeof(float)}});
  check.launch(AddRatios{kRows, 0.5f, cpu::address_of(m), cpu::address_of(c), cpu::address_of(gain)}, {});
  for (int64_t i = 0; i < kRows; ++i) CHECK_EQ(gain[i], before[2 * kRows + 2 + i] + 0.5f * (m[i] / c[i]));
  CHECK(std::equal(before.begin(), before.end() - kRows - 1, memory.begin()));
}

}  // namespace

TEST("a kernel that keeps to its operands passes the check, and has run once") { checked(right); }

TEST("a kernel that writes what it does not name fails the check") {
  CHECK_THROWS(checked([](const AddRatios& k, float* m, float* c, float* gain) {
                 right(k, m, c, gain);
                 c[0] = 2;
               }),
               "add_ratios writes to memory that it does not name");
  CHECK_THROWS(checked([](const AddRatios& k, float* m, float* c, float* gain) {
                 right(k, m, c, gain);
                 gain[k.rows] = 0;
               }),
               "add_ratios writes to memory that it does not name");
}

TEST("a kernel that reads what it does not name fails the check") {
  CHECK_THROWS(checked([](const AddRatios& k, float* m, float* c, float* gain) {
                 right(k, m, c, gain);
                 gain[0] += m[k.rows];
               }),
               "add_ratios reads memory that it does not name");
}

TEST("a kernel that does not look at the end of an operand fails the check") {
  CHECK_THROWS(checked([](const AddRatios& k, float* m, float* c, float* gain) {
                 for (int64_t i = 0; i < k.rows; ++i) gain[i] += k.weight * (m[i] / c[i / 2]);
               }),
               "add_ratios does not look at the end of what it reads");
}

TEST("a kernel that leaves a part of its output fails the check") {
  std::vector<float> memory(kRows, 1.0f);
  Planted half([](const Kernel& kernel) {
    const auto& zero = std::get<Zero>(kernel);
    std::fill_n(cpu::host(zero.to), zero.bytes / 2, std::byte{0});
  });
  cpu::OperandCheck check(half, {{reinterpret_cast<std::byte*>(memory.data()), memory.size() * sizeof(float)}});
  CHECK_THROWS(check.launch(Zero{cpu::address_of(memory.data()).as<std::byte>(), kRows * 4}, {}),
               "zero reads memory that it does not name, or leaves a part of its output as it was");
}
