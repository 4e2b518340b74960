// Sessions by the PTX of two compilers, which the stand-in driver interprets: kernels go the way from a pack through
// the driver. Where LOWRANK_CUDA_PTX names the folder that `scripts/cuda.mjs ptx --out FOLDER` filled.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "backends/cuda/card_test.h"
#include "backends/cuda/device.h"
#include "backends/cuda/session_test.h"

using namespace lowrank;
using namespace lowrank::test;

namespace {

/// A pack of what a compiler made.
std::vector<uint8_t> ptx_pack(const std::filesystem::path& folder) {
  std::vector<PackBytes::Image> images;
  std::vector<PackBytes::Kernel> kernels;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    std::stringstream text;
    text << std::ifstream(file.path()).rdbuf();
    const std::string code = text.str();
    const auto module = static_cast<uint32_t>(images.size());
    for (std::string word; text >> word;)
      if (word == ".entry" && text >> word) kernels.push_back({word.substr(0, word.find('(')), module});
    images.push_back({module, 80, true, code});
  }
  return PackBytes::of(images, kernels);
}

void by_ptx(const std::vector<Way>& ways) {
  const char* const folder = std::getenv("LOWRANK_CUDA_PTX");
  if (folder == nullptr) SKIP("LOWRANK_CUDA_PTX is not set");
  Pool pool(1);
  for (Way way : ways) {
    check_adapter(way.spec);
    const std::vector<Piece> expected = results_on_cpu(pool, way);
    for (const char* const compiler : {"nvcc", "nvrtc"}) {
      const Scope scope(compiler);
      StandinCard card({{"LOWRANK_STANDIN", "ptx"}}, ptx_pack(std::filesystem::path(folder) / compiler));
      cuda::CudaDevice device(card.driver(), card.found(), card.pack());
      Context context{pool, device};
      check_near(results(context, pool, way), expected, way);
    }
  }
}

}  // namespace

TEST("by PTX: LoRA on a base of 4 bits with 8-bit state") { by_ptx(four_bits()); }
TEST("by PTX: LoRA with dropout, and with activations that are recomputed or offloaded") { by_ptx(activations()); }
TEST("by PTX: linears whose outputs are cut, and rotations of a part of each head") { by_ptx(fused_linears()); }
TEST("by PTX: short convolutions, whose weights are trained too") { by_ptx(convolutions()); }
TEST("by PTX: gated delta rules, whose weights are trained too") { by_ptx(delta_rules()); }
TEST("by PTX: magnitudes, gains, triplets, and snapshots") { by_ptx(factors()); }
TEST("by PTX: pairs, Kronecker products, rotations, and factors at the embedding") { by_ptx(other_terms()); }
TEST("by PTX: full fine-tuning, with updates after and in the backward pass") { by_ptx(full_tuning()); }
TEST("by PTX: each optimizer, projected gradients, and ranks drawn for a step") { by_ptx(optimizers()); }
TEST("by PTX: smoothed labels, noise on embeddings, temperature, and steps in halves") { by_ptx(losses()); }
TEST("by PTX: private training by example and by client") { by_ptx(private_training()); }
