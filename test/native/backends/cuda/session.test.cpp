// Sessions on CUDA: every kind of training on the stand-in driver is as near to the CPU's as their kernels are, and
// gives the same bits whatever the order of its streams. With LOWRANK_TEST_CARD=1 on a card, as often.
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "backends/cuda/card_test.h"
#include "backends/cuda/device.h"
#include "backends/cuda/session_test.h"

using namespace lowrank;
using namespace lowrank::test;

namespace {

/// Calls body(device) on the stand-in driver, or on the card that was asked for.
void on_card(const char* order, const std::function<void(Device&)>& body) {
  const char* const asked = std::getenv("LOWRANK_TEST_CARD");
  if (asked == nullptr || std::strcmp(asked, "1") != 0) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    cuda::CudaDevice device(card.driver(), card.found(), card.pack());
    return body(device);
  }
  const cuda::Probe found = cuda::probe();
  const char* const pack = std::getenv("LOWRANK_CUDA_PACK");
  if (found.usable() == nullptr || pack == nullptr)
    throw std::runtime_error("LOWRANK_TEST_CARD: there is no card that can be used, or LOWRANK_CUDA_PACK is not set");
  cuda::CudaDevice device(found.driver, *found.usable(), pack);
  body(device);
}

void like_the_cpu(Way way) {
  check_adapter(way.spec);
  Pool pool(1);
  const std::vector<Piece> expected = results_on_cpu(pool, way);
  std::vector<Piece> first;
  for (const char* const order : {"late", "early", "random:1"}) {
    const Scope scope(order);
    std::vector<Piece> found;
    on_card(order, [&](Device& device) {
      Context context{pool, device};
      found = results(context, pool, way);
    });
    check_near(found, expected, way);
    for (size_t i = 0; i < std::min(found.size(), first.size()); ++i) {
      const Scope piece(expected[i].name);
      CHECK(same_bits(found[i].numbers, first[i].numbers));
    }
    if (first.empty()) first = found;
  }
}

void like_the_cpu(const std::vector<Way>& ways) {
  for (const Way& way : ways) like_the_cpu(way);
}

#if defined(LOWRANK_CUBLASLT_STANDIN)
/// Products with so many outputs a row that the stand-in served since the last call; 0: all of them.
int64_t products_served(uint64_t outputs) {
  void* const library = dlopen(LOWRANK_CUBLASLT_STANDIN, RTLD_NOW);
  REQUIRE(library != nullptr);
  return reinterpret_cast<int64_t (*)(uint64_t)>(dlsym(library, "lowrank_standin_products"))(outputs);
}

/// As like_the_cpu, with a library that serves every product it can.
/// @param outputs of a row of some products that it has to serve
void like_the_cpu_with_a_library(const std::vector<Way>& ways, uint64_t outputs = 0) {
  for (Way way : ways) {
    check_adapter(way.spec);
    Pool pool(1);
    const std::vector<Piece> expected = results_on_cpu(pool, way);
    StandinCard card({{"LOWRANK_STANDIN_ORDER", "late"}, {"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}});
    cuda::FoundCard found = card.found();
    found.card.library_least = found.card.library_side = 1;
    cuda::CudaDevice device(card.driver(), found, card.pack());
    REQUIRE(device.library() != nullptr);
    Context context{pool, device};
    (void)products_served(0);
    check_near(results(context, pool, way), expected, way);
    CHECK(products_served(outputs) > 0);
  }
}

TEST("on CUDA with cuBLASLt: LoRA, on linears apart and cut, and on a base of 4 bits") {
  like_the_cpu_with_a_library(activations());
  like_the_cpu_with_a_library(fused_linears());
  like_the_cpu_with_a_library(four_bits(), 2 * kWidth);  // gate and up
}
TEST("on CUDA with cuBLASLt: magnitudes, gains, triplets, and snapshots") { like_the_cpu_with_a_library(factors()); }
TEST("on CUDA with cuBLASLt: pairs, Kronecker products, rotations, and full fine-tuning") {
  like_the_cpu_with_a_library(other_terms());
  like_the_cpu_with_a_library(full_tuning());
}
#endif

}  // namespace

TEST("on CUDA: LoRA with dropout, and with activations that are recomputed or offloaded") {
  like_the_cpu(activations());
}
TEST("on CUDA: linears whose outputs are cut, and rotations of a part of each head") { like_the_cpu(fused_linears()); }
TEST("on CUDA: short convolutions, whose weights are trained too") { like_the_cpu(convolutions()); }
TEST("on CUDA: gated delta rules, whose weights are trained too") { like_the_cpu(delta_rules()); }
TEST("on CUDA: LoRA on a base of 4 bits with 8-bit state") { like_the_cpu(four_bits()); }
TEST("on CUDA: magnitudes, gains, triplets, and snapshots") { like_the_cpu(factors()); }
TEST("on CUDA: pairs, Kronecker products, rotations, and factors at the embedding") { like_the_cpu(other_terms()); }

TEST("on CUDA: Hadamard products with the weight") { like_the_cpu(hadamard_terms()); }
TEST("on CUDA: full fine-tuning, with updates after and in the backward pass") { like_the_cpu(full_tuning()); }
TEST("on CUDA: each optimizer, projected gradients, and ranks drawn for a step") { like_the_cpu(optimizers()); }
TEST("on CUDA: smoothed labels, noise on embeddings, temperature, and steps in halves") { like_the_cpu(losses()); }
TEST("on CUDA: private training by example and by client") { like_the_cpu(private_training()); }
