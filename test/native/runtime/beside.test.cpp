// Training on a device that joins operands gives the same bits in fp32 as on one that does not, and near numbers in
// bf16.
#include "backends/cuda/session_test.h"
#include "device/wrapped.h"

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

/// Loss of a model with two adapters, the first one with some of its ranks.
double loss_of_two(Context& context, Pool& pool, const AdapterSpec& spec) {
  const auto model = model_of(pool, StorageFormat::f32);
  std::vector<std::shared_ptr<Adapter>> adapters;
  for (const uint64_t seed : {5, 6}) {
    const auto& adapter = adapters.emplace_back(std::make_shared<Adapter>(spec, context.device.memory()));
    for (int i = 0; i < static_cast<int>(spec.parameters.size()); ++i) {
      const HostView<float> values = adapter->edit(i);
      fill_normal(values.data(), values.size(), 0.1f, seed, spec.parameters[static_cast<size_t>(i)].name);
    }
  }
  PlanOptions options;
  options.mode = Mode::evaluate;
  options.tokens = options.head_rows = kTokens;
  options.sequences = 2;
  Session session(context, model, adapters, {{"evaluate", options}}, {0.5f, 2.0f}, {2, 0});
  return session.evaluate(context, "evaluate", input_of({}, 1), {}).loss_sum;
}

void like_apart(const std::vector<Way>& ways) {
  for (Way way : ways) {
    check_adapter(way.spec);
    Pool pool(1);
    cpu::CpuDevice apart(pool, cpu::kernels(cpu::Level::reference), cpu::CpuSizes(1));
    JoiningDevice beside(apart);
    Context of_apart{pool, apart}, of_beside{pool, beside};
    const std::vector<Piece> expected = results(of_apart, pool, way), found = results(of_beside, pool, way);
    check_near(found, expected, way);
    if (way.precision == Precision::bf16) continue;
    for (size_t i = 0; i < expected.size(); ++i) {
      const Scope scope(expected[i].name);
      CHECK(same_bits(found[i].numbers, expected[i].numbers));
    }
  }
}

}  // namespace

TEST("beside each other: gradients of LoRA with dropout, and with activations that are recomputed or offloaded") {
  like_apart(activations());
}
TEST("beside each other: gradients of linears whose outputs are cut, of convolutions, and of delta rules") {
  like_apart(fused_linears());
  like_apart(convolutions());
  like_apart(delta_rules());
}
TEST("beside each other: gradients on a base of 4 bits") { like_apart(four_bits()); }
TEST("beside each other: gradients of magnitudes, gains, triplets, and snapshots") { like_apart(factors()); }
TEST("beside each other: gradients of pairs, Kronecker products, and rotations") { like_apart(other_terms()); }
TEST("beside each other: gradients of full fine-tuning") { like_apart(full_tuning()); }
TEST("beside each other: gradients with ranks drawn for a step, and in halves of one") {
  like_apart(optimizers());
  like_apart(losses());
}
TEST("beside each other: gradients of private training by example and by client") { like_apart(private_training()); }
TEST("beside each other: two adapters at once") {
  AdapterSpec spec = lora();
  check_adapter(spec);
  Pool pool(1);
  cpu::CpuDevice apart(pool, cpu::kernels(cpu::Level::reference), cpu::CpuSizes(1));
  JoiningDevice beside(apart);
  Context of_apart{pool, apart}, of_beside{pool, beside};
  CHECK_EQ(loss_of_two(of_beside, pool, spec), loss_of_two(of_apart, pool, spec));
}
