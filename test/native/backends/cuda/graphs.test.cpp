// Tokens that are decoded one by one are launched as graphs: the bits of launches one by one, whatever changes
// meanwhile.
#include <algorithm>

#include "backends/cpu/device.h"
#include "backends/cuda/card_test.h"
#include "backends/cuda/device.h"
#include "core/error.h"
#include "runtime/ways.h"

namespace lowrank::test {
namespace {

void repeat(UsedCard& used, const std::function<void()>& body) {
  {
    const cuda::Gpu::Entered entered(used.gpu);
    used.gpu.begin_repeat(&used);
  }
  body();
  const cuda::Gpu::Entered entered(used.gpu);
  used.gpu.end_repeat();
}

TEST("launches that come again are a graph, in order with all other work") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}, {"LOWRANK_STANDIN_FAIL", "cuGraphLaunch:5"}});
    {
      UsedCard used(card);
      const auto at = used.memory.allocate(Category::workspace, 400);
      const auto twice = [&](float value) {
        used.add(at->data(), 100, value);
        used.add(at->data(), 50, value);
      };
      const auto first = [&] { return used.read(at->data(), 100).front(); };
      for (int i = 0; i < 4; ++i) repeat(used, [&] { twice(1); });  // a graph from the second time on
      CHECK_EQ(first(), 8.0f);
      repeat(used, [&] { twice(2); });
      repeat(used, [&] { twice(1); });
      CHECK_EQ(first(), 14.0f);
      repeat(used, [&] {
        twice(1);
        CHECK_EQ(first(), 16.0f);  // what waits is done before it is read
        twice(1);
      });
      repeat(used, [&] {
        used.add(at->data(), 100, 1);
        const auto gone = used.memory.scratch(400);
        used.memory.copy(gone->data(), at->data(), 400);
        used.add(gone->data(), 100, 1);  // and before its memory goes back
      });
      CHECK_EQ(first(), 19.0f);
      repeat(used, [&] { twice(1); });
      {
        const cuda::Gpu::Entered entered(used.gpu);
        used.gpu.begin_repeat(&used);
      }
      twice(100);
      used.gpu.drop_repeat();
      CHECK_EQ(first(), 21.0f);
      CHECK_THROWS(repeat(used, [&] { twice(1); }), "cuGraphLaunch: CUDA_ERROR_LAUNCH_FAILED");
    }
    CHECK_EQ(standin_leaks(), std::string());
  }
}

/// Logits of tokens that are decoded after a prompt. The number of parts that attention cuts the keys into grows
/// meanwhile, and so do the values of the adapter change.
std::vector<float> decode(Device& device, const Way& way) {
  Pool pool(1);
  Context context{pool, device};
  const auto model = model_of(pool, way.base);
  const auto adapter = std::make_shared<Adapter>(way.spec, device.memory());
  const auto fill = [&](float scale) {
    for (int i = 0; i < static_cast<int>(way.spec.parameters.size()); ++i) {
      const HostView<float> values = adapter->edit(i);
      fill_normal(values.data(), values.size(), scale, 5, way.spec.parameters[static_cast<size_t>(i)].name);
    }
  };
  fill(0.1f);
  PlanOptions options;
  options.mode = Mode::forward;
  options.tokens = 126;
  options.head_rows = options.sequences = 1;
  options.precision = way.precision;
  options.kv_capacity = 140;
  Session session(context, model, {adapter}, {{"generate", options}});
  std::vector<int32_t> prompt(126);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>(i * 7 % kVocab);
  (void)session.forward(context, "generate", {{prompt, 0}, {}, {}}, {});
  std::vector<float> all;
  for (int32_t token = 0; token < 9; ++token) {
    if (token == 6) fill(0.2f);
    const HostView<const float> logits = session.forward(context, "generate", {{{token}, 126 + token}, {}, {0}}, {});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

std::vector<float> decode_on_card(std::initializer_list<std::pair<const char*, std::string>> variables,
                                  const Way& way) {
  StandinCard card(variables);
  cuda::CudaDevice device(card.driver(), card.found(), card.pack());
  return decode(device, way);
}

TEST("tokens that are decoded by graphs have the bits of those that are not") {
  Way quantized{.spec = lora(), .base = StorageFormat::nf4, .precision = Precision::bf16};
  Way scaled{.spec = lora_with(add_magnitude)};
  for (Way& way : {std::ref(quantized), std::ref(scaled)}) {
    check_adapter(way.spec);
    const std::vector<float> expected = decode_on_card({{"LOWRANK_CUDA_GRAPHS", "0"}}, way);
    for (const char* const order : {"late", "early", "random:1"})
      CHECK(decode_on_card({{"LOWRANK_STANDIN_ORDER", order}}, way) == expected);
    Pool pool(1);
    cpu::CpuDevice cpu(pool, cpu::kernels(cpu::Level::reference), cpu::CpuSizes(1));
    CHECK_ALL_CLOSE(expected, decode(cpu, way), way.precision == Precision::bf16 ? 5e-2 : 1e-4);
  }
}

TEST("calls for graphs that fail, at any use, end in one clear error and leave nothing behind") {
  Way way{.spec = lora(), .base = StorageFormat::nf4, .precision = Precision::bf16};
  check_adapter(way.spec);
  // Two of one part of the keys, then seven of two.
  for (const auto& [call, uses] : {std::pair{"cuStreamBeginCapture_v2", 2},
                                   {"cuStreamEndCapture", 2},
                                   {"cuGraphInstantiateWithFlags", 2},
                                   {"cuGraphDestroy", 2},
                                   {"cuGraphLaunch", 7},
                                   {"cuGraphExecDestroy", 2}})
    for (int use = 1; use <= uses + 1; ++use) {
      const Scope scope(std::string(call) + ":" + std::to_string(use));
      const bool gives_back = std::string(call).find("Destroy") != std::string::npos;
      std::string code;
      try {
        (void)decode_on_card({{"LOWRANK_STANDIN_FAIL", std::string(call) + ":" + std::to_string(use)}}, way);
      } catch (const Error& error) {
        code = error.code();
        CHECK(std::string(error.what()).find("cuda:0 failed: ") == 0);
      }
      if (!gives_back) CHECK_EQ(code, std::string(use <= uses ? "DEVICE" : ""));
      CHECK_EQ(standin_leaks(), std::string());
    }
}

}  // namespace
}  // namespace lowrank::test
