// Sessions on a device whose memory traps: every kind of training gives the bits of the CPU, so nothing outside of a
// device's folder follows an address.
#include "device/shadow.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <csignal>

#include "runtime/ways.h"

using namespace lowrank;
using namespace lowrank::test;

namespace {

void same_on_both(Way way) {
  check_adapter(way.spec);
  Pool pool(2);
  cpu::CpuDevice cpu(pool, cpu::kernels(cpu::default_level()), cpu::CpuSizes(pool.threads()));
  ShadowDevice shadow(cpu);
  Context of_cpu{pool, cpu}, of_shadow{pool, shadow};
  const std::vector<Piece> expected = results(of_cpu, pool, way), found = results(of_shadow, pool, way);
  CHECK_EQ(found.size(), expected.size());
  CHECK(shadow.launches > 0);
  for (size_t i = 0; i < expected.size(); ++i) {
    const Scope scope(expected[i].name);
    CHECK(same_bits(found[i].numbers, expected[i].numbers));
  }
}

}  // namespace

TEST("the shadow device traps whoever follows its addresses") {
#if defined(_WIN32)
  SKIP("Windows has no fork, and the trap ends the process");
#else
  Pool pool(1);
  cpu::CpuDevice cpu(pool, cpu::kernels(cpu::default_level()), cpu::CpuSizes(1));
  ShadowDevice shadow(cpu);
  const auto memory = shadow.allocate(Category::adapters, 64);
  const float number = 7;
  shadow.upload(memory->data(), &number, sizeof number);
  CHECK_EQ(HostView<const float>(shadow, memory->data().as<float>(), 1, "a number")[0], 7.0f);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    _exit(*cpu::host(memory->data().as<volatile float>()) == 7 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
#endif
}

TEST("on the shadow device: LoRA with dropout, and with activations that are recomputed or offloaded") {
  for (const Way& way : activations()) same_on_both(way);
}

TEST("on the shadow device: short convolutions, whose weights are trained too") {
  for (const Way& way : convolutions()) same_on_both(way);
}

TEST("on the shadow device: gated delta rules, whose weights are trained too") {
  for (const Way& way : delta_rules()) same_on_both(way);
}

TEST("on the shadow device: LoRA on a base of 4 bits with 8-bit state") {
  for (const Way& way : four_bits()) same_on_both(way);
}

TEST("on the shadow device: magnitudes, gains, triplets, and snapshots") {
  for (const Way& way : factors()) same_on_both(way);
}

TEST("on the shadow device: pairs, Kronecker products, rotations, and factors at the embedding") {
  for (const Way& way : other_terms()) same_on_both(way);
}

TEST("on the shadow device: full fine-tuning, with updates after and in the backward pass") {
  for (const Way& way : full_tuning()) same_on_both(way);
}

TEST("on the shadow device: each optimizer, projected gradients, and ranks drawn for a step") {
  for (const Way& way : optimizers()) same_on_both(way);
}

TEST("on the shadow device: smoothed labels, noise on embeddings, temperature, and steps in halves") {
  for (const Way& way : losses()) same_on_both(way);
}

TEST("on the shadow device: private training by example and by client") {
  for (const Way& way : private_training()) same_on_both(way);
}

TEST("on the shadow device: optimizer state that is paged") {
  for (const bool in_backward : {false, true}) {
    AdapterSpec spec;
    spec.trainable = true;
    for (int i = 0; i < 4; ++i) parameter(spec, "p" + std::to_string(i), 400, 301 + i);
    spec.state.resident = 2 << 20;
    spec.state.folder = std::filesystem::temp_directory_path().string();
    spec.state.in_backward = in_backward;
    Way way{spec};
    Pool pool(1);
    cpu::CpuDevice cpu(pool, cpu::kernels(cpu::default_level()), cpu::CpuSizes(1));
    ShadowDevice shadow(cpu);
    std::vector<std::vector<float>> values;
    for (const int64_t resident : {int64_t{2} << 20, int64_t{-1}}) {
      way.spec.state.resident = resident;
      Adapter adapter(way.spec, shadow);
      const std::unique_ptr<Allocation> gradient = shadow.allocate(Category::gradients, 400 * 304 * 4);
      for (int i = 3; i >= 0; --i) {
        const int64_t count = 400 * (301 + i);
        if (in_backward) adapter.place_gradient(i, gradient->data().as<float>());
        fill_normal(adapter.edit(i, AdapterArray::gradient).data(), count, 1, 9, std::to_string(i));
        if (in_backward) update_parameter(shadow, adapter, update_of(way, 1), i);
      }
      if (!in_backward) optimizer_step(shadow, adapter, update_of(way, 1));
      CHECK_EQ(adapter.state().stash() != nullptr, resident > 0);
      std::vector<float>& all = values.emplace_back();
      for (int i = 0; i < 4; ++i) {
        const HostView<const float> view = adapter.view(i);
        all.insert(all.end(), view.begin(), view.end());
      }
    }
    CHECK(values[0] == values[1]);
  }
}

TEST("on the shadow device: linears whose outputs are cut, and rotations of a part of each head") {
  for (const Way& way : fused_linears()) same_on_both(way);
}
