// A base that passes through the card: what is fetched when, and that runs with it have the bits of resident ones.
#include "backends/cuda/weight_ring.h"

#include <cstring>

#include "backends/cuda/card_test.h"
#include "backends/cuda/device.h"
#include "core/error.h"
#include "runtime/ways.h"
#include "weights/weight_stream.h"

namespace lowrank::test {
namespace {

std::vector<StorageFormat> formats_of(const Model& model) {
  std::vector<StorageFormat> formats;
  for (const Weight& weight : model.weights) formats.push_back(weight.format());
  return formats;
}

/// Smallest budget of a base, as the refusal of less names it.
int64_t smallest(const Graph& graph, const std::vector<StorageFormat>& formats) {
  int64_t most = stream_weights(graph, formats, 0).device_bytes, least = 1;
  while (least < most) {
    const int64_t middle = (least + most) / 2;
    try {
      (void)stream_weights(graph, formats, middle);
      most = middle;
    } catch (const Error&) {
      least = middle + 1;
    }
  }
  return most;
}

enum class Kept { two_blocks, head, some_blocks };

/// Has a model pass through a device, its image in pinned memory or not.
void stream(Model& model, Memory& memory, Kept kept, bool pinned) {
  const std::vector<StorageFormat> formats = formats_of(model);
  int64_t budget = kept == Kept::two_blocks ? smallest(model.graph, formats) : 0;
  if (kept == Kept::some_blocks) {
    const WeightStream least = stream_weights(model.graph, formats, 0);
    budget = least.device_bytes + least.slot_bytes;
  }
  model.device = "cuda:0";
  model.stream = std::make_unique<const WeightStream>(stream_weights(model.graph, formats, budget));
  if (!pinned) return;
  model.image = memory.pinned(Category::paged_weights, model.stream->image_bytes);
  if (model.image == nullptr) return;
  for (size_t i = 0; i < model.weights.size(); ++i)
    model.weights[i] = moved_to(model.image, model.stream->places[i], std::move(model.weights[i]));
}

std::vector<Piece> on_card(const char* order, Way way, std::optional<std::pair<Kept, bool>> streamed) {
  std::vector<Piece> found;
  {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    cuda::CudaDevice device(card.driver(), card.found(), card.pack());
    Pool pool(1);
    Context context{pool, device};
    if (streamed) way.place = [&](Model& model) { stream(model, device.memory(), streamed->first, streamed->second); };
    found = results(context, pool, way);
  }
  CHECK_EQ(standin_leaks(), std::string());
  return found;
}

void like_resident(Way way, const std::vector<std::pair<Kept, bool>>& places, const std::vector<const char*>& orders) {
  check_adapter(way.spec);
  const std::vector<Piece> expected = on_card("early", way, {});
  for (const auto& place : places)
    for (const char* const order : orders) {
      const std::vector<Piece> found = on_card(order, way, place);
      REQUIRE(found.size() == expected.size());
      for (size_t i = 0; i < expected.size(); ++i) {
        const Scope scope(std::string(order) + ", " + std::to_string(static_cast<int>(place.first)) +
                          (place.second ? " pinned, " : " staged, ") + expected[i].name);
        CHECK(found[i].numbers.size() == expected[i].numbers.size() &&
              std::memcmp(found[i].numbers.data(), expected[i].numbers.data(),
                          expected[i].numbers.size() * sizeof(double)) == 0);
      }
    }
}

constexpr int64_t kWide = 1100;
/// LoRA whose state does not fit into the 2 MiB that it may take.
AdapterSpec paged_state() {
  AdapterSpec spec = at_linears([](AdapterSpec& of, const Linear& at) -> TermSpec {
    const std::string name = at.path;
    return {"low_rank",
            "",
            {{"a", parameter(of, name + ".a", kWide, at.in)}, {"b", parameter(of, name + ".b", at.out, kWide)}},
            {{"rank", kWide}, {"scale", 0.5}}};
  });
  spec.state.resident = 2 << 20;
  spec.state.folder = std::filesystem::temp_directory_path().string();
  return spec;
}

Way blocks(Way way) {
  way.blocks = 3;
  return way;
}

TEST("on CUDA: a streamed base has the bits of a resident one, whatever stays and whichever copies run early or late") {
  Way way = blocks({.spec = lora(0.2), .base = StorageFormat::nf4_double, .precision = Precision::bf16});
  like_resident(way, {{Kept::two_blocks, true}}, {"late", "early", "random:1"});
  like_resident(way, {{Kept::two_blocks, false}, {Kept::head, true}, {Kept::some_blocks, true}}, {"random:3"});
}

TEST("on CUDA: so it has beside offloaded activations and paged state") {
  const Way way = blocks({.spec = paged_state(), .base = StorageFormat::int8, .offload = true});
  like_resident(way, {{Kept::two_blocks, true}}, {"random:1"});
}

TEST("on CUDA: so it has with a head that is read in slices, and with norms of adapted rows") {
  Way way = blocks({.spec = lora_with(add_magnitude), .recompute = true});
  way.vocab = kTableRows + 72;
  like_resident(way, {{Kept::two_blocks, true}}, {"late"});
  way.base = StorageFormat::nf4;
  like_resident(way, {{Kept::two_blocks, true}, {Kept::two_blocks, false}}, {"random:3"});
}

TEST("a streamed base takes and fetches what is planned, to the byte") {
  for (const Kept kept : {Kept::two_blocks, Kept::head, Kept::some_blocks})
    for (const bool pinned : {true, false}) {
      const Scope scope(std::to_string(static_cast<int>(kept)) + (pinned ? " pinned" : " staged"));
      StandinCard card;
      cuda::CudaDevice device(card.driver(), card.found(), card.pack());
      Pool pool(1);
      Context context{pool, device};
      const auto model =
          model_of(pool, StorageFormat::nf4_double, 5, kept == Kept::two_blocks && pinned ? kTableRows + 72 : kVocab);
      stream(*model, device.memory(), kept, pinned);
      AdapterSpec spec = paged_state();
      check_adapter(spec);
      const auto adapter = std::make_shared<Adapter>(spec, device.memory());
      PlanOptions train;
      train.tokens = train.head_rows = kTokens;
      train.sequences = 2;
      train.offload = train.recompute = true;
      train.offload_folder = spec.state.folder;
      Session session(context, model, {adapter}, {{"train", train}});
      const PlanReport planned = session.total();
      (void)adapter->state();  // made when it is first needed
      std::vector<int64_t> on_device(kCategories), in_pinned(kCategories);
      for (const PlanRow& row : planned.rows) {
        on_device[static_cast<size_t>(row.category)] = row.bytes;
        in_pinned[static_cast<size_t>(row.category)] = row.pinned_bytes;
      }
      // The arena is one allocation, whatever lies in it.
      const auto arena = [&](int category) {
        const auto of = static_cast<Category>(category);
        return of == Category::activations || of == Category::loss || of == Category::workspace;
      };
      int64_t device_bytes = 0;
      for (int category = 0; category < kCategories; ++category) {
        const auto of = static_cast<Category>(category);
        device_bytes += allocated_bytes(of, Place::device);
        CHECK_EQ(allocated_bytes(of, Place::pinned), in_pinned[static_cast<size_t>(category)]);
        if (!arena(category)) CHECK_EQ(allocated_bytes(of, Place::device), on_device[static_cast<size_t>(category)]);
      }
      CHECK_EQ(device_bytes, planned.peak_bytes);
      CHECK(in_pinned[static_cast<size_t>(Category::activations)] > 0 &&
            in_pinned[static_cast<size_t>(Category::optimizer)] > 0);
      CHECK_EQ(in_pinned[static_cast<size_t>(Category::paged_weights)] > 0, pinned);
      Way way{.spec = spec};
      int64_t before = 0;
      for (int step = 1; step <= 2; ++step) {
        (void)session.train_step(context, "train", input_of(way, step), {});
        (void)optimizer_step(device, *adapter, update_of(way, step));
        const int64_t fetched = device.fetched() - before;
        before += fetched;
        if (step > 1) CHECK_EQ(fetched, planned.paged_read_bytes);
      }
      CHECK(planned.paged_read_bytes > 0);
    }
  CHECK_EQ(standin_leaks(), std::string());
}

TEST("a budget in which two blocks do not fit is refused with what does") {
  Pool pool(1);
  const auto model = model_of(pool, StorageFormat::nf4, 3);
  const int64_t least = smallest(model->graph, formats_of(*model));
  CHECK_THROWS(stream_weights(model->graph, formats_of(*model), least - 1),
               "which two blocks of this model take on the card");
  const WeightStream all = stream_weights(model->graph, formats_of(*model), int64_t{1} << 30);
  CHECK_EQ(all.slot_bytes, 0);
  for (const WeightStream::Unit& unit : all.units) CHECK(unit.home >= 0);
}

TEST(
    "on CUDA: every call of the driver that fails while a base is streamed ends in one clear error and leaves nothing "
    "behind") {
  Way way = blocks({.spec = lora()});
  check_adapter(way.spec);
  Pool pool(1);
  int failed = 0;
  for (const bool pinned : {true, false})
    for (const char* const call : {"cuMemAlloc_v2", "cuMemHostAlloc", "cuMemcpyHtoDAsync_v2", "cuEventCreate",
                                   "cuEventRecord", "cuStreamWaitEvent", "cuEventQuery", "cuEventSynchronize"})
      for (const int use : {1, 4, 21, 55}) {
        StandinCard card({{"LOWRANK_STANDIN_FAIL", std::string(call) + ":" + std::to_string(use)}});
        try {
          cuda::CudaDevice device(card.driver(), card.found(), card.pack());
          Context context{pool, device};
          way.place = [&](Model& model) { stream(model, device.memory(), Kept::two_blocks, pinned); };
          (void)results(context, pool, way);
        } catch (const Error& error) {
          const std::string code = error.code();
          CHECK(code == "DEVICE" || code == "OUT_OF_MEMORY");
          ++failed;
        }
        if (standin_leaks() != "")
          report(__FILE__, __LINE__, std::string(call) + " at use " + std::to_string(use) + ": " + standin_leaks());
      }
  CHECK_LE(30, failed);
}

TEST("a weight that no step holds is found, and so is a step that holds more than there is room for") {
  StandinCard card;
  cuda::CudaDevice device(card.driver(), card.found(), card.pack());
  Pool pool(1);
  const auto model = model_of(pool, StorageFormat::f32, 4);
  stream(*model, device.memory(), Kept::two_blocks, true);
  const StoredWeights store(*model);
  const auto placed = device.place(store);
  device.use(placed.get());
  const auto weight = [&](const char* name) { return model->graph.weight_of_name.at(name); };
  const auto out = device.memory().scratch(kHidden * 8);
  const auto squares = [&](const char* name) {
    device.launch(RowSquares{{kHidden, kHidden, weight(name)}, out->data().as<double>()}, {});
  };
  const auto first = device.hold({weight("q"), 0, kHidden});
  CHECK(first != nullptr);
  squares("q");
  CHECK_THROWS(squares("1.q"), "is not on the device");
  CHECK(device.hold({weight("embed"), 0, kVocab}) == nullptr);
  {
    const auto second = device.hold({weight("1.q"), 0, kHidden});
    squares("1.q");
    CHECK_THROWS(device.hold({weight("2.q"), 0, kHidden}), "holds more of the base than two slots");
  }
  const auto third = device.hold({weight("2.q"), 0, kHidden});
  squares("2.q");
  squares("q");
  CHECK_THROWS(squares("1.q"), "is not on the device");
  device.use(nullptr);
}

}  // namespace
}  // namespace lowrank::test
