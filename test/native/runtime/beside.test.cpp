// Sessions on a device that wants operands beside each other: every kind of training gives the bits of one that does not.
#include "backends/cpu/device.h"
#include "device/wrapped.h"
#include "runtime/ways.h"

using namespace lowrank;
using namespace lowrank::test;

namespace {

class JoiningSizes final : public KernelSizes {
 public:
  explicit JoiningSizes(const KernelSizes& of) : of_(of) {}
  int64_t workspace(const Kernel& kernel) const override { return of_.workspace(kernel); }
  int threads() const override { return of_.threads(); }
  bool joins_operands() const override { return true; }

 private:
  const KernelSizes& of_;
};

class JoiningDevice final : public WrappedDevice {
 public:
  explicit JoiningDevice(Device& of) : WrappedDevice(of), sizes_(of.sizes()) {}
  const KernelSizes& sizes() const override { return sizes_; }
  void launch(const Kernel& kernel, Ptr<std::byte> workspace) override { of_.launch(kernel, workspace); }

 private:
  const JoiningSizes sizes_;
};

void same_bits_beside(const std::vector<Way>& ways) {
  for (Way way : ways) {
    check_adapter(way.spec);
    Pool pool(1);
    cpu::CpuDevice apart(pool, cpu::kernels(cpu::Level::reference), cpu::CpuSizes(1));
    JoiningDevice beside(apart);
    Context of_apart{pool, apart}, of_beside{pool, beside};
    const std::vector<Piece> expected = results(of_apart, pool, way), found = results(of_beside, pool, way);
    CHECK_EQ(found.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const Scope scope(expected[i].name);
      CHECK(same_bits(found[i].numbers, expected[i].numbers));
    }
  }
}

}  // namespace

TEST("beside each other: gradients of LoRA with dropout, and with activations that are recomputed or offloaded") {
  same_bits_beside(activations());
}
TEST("beside each other: gradients of linears whose outputs are cut, of convolutions, and of delta rules") {
  same_bits_beside(fused_linears());
  same_bits_beside(convolutions());
  same_bits_beside(delta_rules());
}
TEST("beside each other: gradients on a base of 4 bits") { same_bits_beside(four_bits()); }
TEST("beside each other: gradients of magnitudes, gains, triplets, and snapshots") { same_bits_beside(factors()); }
TEST("beside each other: gradients of pairs, Kronecker products, and rotations") { same_bits_beside(other_terms()); }
TEST("beside each other: gradients of full fine-tuning") { same_bits_beside(full_tuning()); }
TEST("beside each other: gradients with ranks drawn for a step, and in halves of one") {
  same_bits_beside(optimizers());
  same_bits_beside(losses());
}
TEST("beside each other: gradients of private training by example and by client") { same_bits_beside(private_training()); }
