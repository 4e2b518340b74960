// The CUDA device on the stand-in driver: weights that are placed, kernels that are launched, and what is said where
// there are none.
#include "backends/cuda/device.h"

#include "card_test.h"
#include "core/error.h"
#include "adapters/adapter.h"
#include "weights/quantizer.h"
#include "weights/weights.h"

namespace lowrank::test {
namespace {

/// Weights that a test made.
class MadeWeights final : public WeightStore {
 public:
  explicit MadeWeights(std::vector<Weight> weights) : weights_(std::move(weights)) {}
  void expect_loaded() const override {}
  const void* model() const override { return this; }
  int count() const override { return static_cast<int>(weights_.size()); }
  WeightView view(int weight) const override { return weights_[static_cast<size_t>(weight)].view(); }
  int64_t rows_at_once(int, int64_t) const override { return at_once; }
  std::unique_ptr<Hold> hold(const WeightRows& rows) const override {
    held += rows.end - rows.begin;
    return nullptr;
  }
  int64_t gathered_at_once(int) const override { return 0; }
  std::unique_ptr<Hold> gather(int, std::span<const int32_t>) const override { return nullptr; }
  int64_t at_once = 1 << 20;
  mutable int64_t held = 0;

 private:
  std::vector<Weight> weights_;
};

Weight made(StorageFormat format, int64_t rows, int64_t cols) {
  Weight weight(format, rows, cols);
  auto* const bytes = static_cast<uint8_t*>(weight.data());
  for (int64_t i = 0; i < weight_bytes(format, rows, cols); ++i) bytes[i] = static_cast<uint8_t>(7 * i + rows);
  auto* const constants = static_cast<uint8_t*>(weight.constants());
  for (int64_t i = 0; i < constants_bytes(format, rows, cols); ++i) constants[i] = static_cast<uint8_t>(5 * i + 1);
  return weight;
}

int64_t on_device(Category category) { return allocated_bytes(category, Place::device); }

TEST("every weight is copied to the card, once for all that use a model, in as many rows as the host holds") {
  StandinCard card;
  {
    cuda::CudaDevice device(card.driver(), card.found(), card.pack());
    std::vector<Weight> weights;
    int64_t bytes = 0, constants = 0;
    for (const StorageFormat format :
         {StorageFormat::f32, StorageFormat::bf16, StorageFormat::nf4, StorageFormat::nf4_double, StorageFormat::int8,
          StorageFormat::q4_k, StorageFormat::q8_0}) {
      weights.push_back(made(format, 130, 256));
      bytes += weight_bytes(format, 130, 256);
      constants += constants_bytes(format, 130, 256);
    }
    MadeWeights store(std::move(weights));
    for (const int64_t at_once : {1 << 20, 64}) {
      store.at_once = at_once;
      store.held = 0;
      const auto placed = device.place(store), again = device.place(store);
      CHECK_EQ(store.held, 7 * 130);
      CHECK_EQ(on_device(Category::weights), bytes);
      CHECK_EQ(on_device(Category::quantization_constants), constants);
      CHECK_EQ(placed->vector(0).address(), again->vector(0).address());
      for (int weight = 0; weight < store.count(); ++weight) {
        const WeightView view = store.view(weight);
        std::vector<uint8_t> there(static_cast<size_t>(cuda::bytes_of(view).data));
        device.memory().download(there.data(), placed->vector(weight).as<std::byte>(),
                                 static_cast<int64_t>(there.size()), "test");
        CHECK(std::memcmp(there.data(), view.data, there.size()) == 0);
      }
    }
    CHECK_EQ(on_device(Category::weights), 0);
  }
  CHECK_EQ(standin_leaks(), std::string());
}

TEST("kernels run on the card, in the order of the calls") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}});
    cuda::CudaDevice device(card.driver(), card.found(), card.pack());
    Memory& memory = device.memory();
    const int64_t rows = 3, cols = 40;
    std::vector<float> x(static_cast<size_t>(rows * cols)), w(static_cast<size_t>(cols), 2.0f), y(x.size()),
        expected(x.size());
    fill_normal(x.data(), rows * cols, 1, 3, "x");
    for (int64_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (int64_t c = 0; c < cols; ++c)
        squares += double{x[static_cast<size_t>(r * cols + c)]} * x[static_cast<size_t>(r * cols + c)];
      for (int64_t c = 0; c < cols; ++c)
        expected[static_cast<size_t>(r * cols + c)] =
            static_cast<float>(2 * x[static_cast<size_t>(r * cols + c)] / std::sqrt(squares / cols + 1e-5));
    }
    const auto at_x = memory.allocate(Category::activations, rows * cols * 4),
               at_y = memory.allocate(Category::activations, rows * cols * 4),
               at_w = memory.allocate(Category::weights, cols * 4),
               rstd = memory.allocate(Category::activations, rows * 4);
    memory.upload(at_x->data(), x.data(), at_x->bytes());
    memory.upload(at_w->data(), w.data(), at_w->bytes());
    const auto stash = memory.stash(Category::activations, "", at_x->bytes());
    stash->put(0, at_x->data(), at_x->bytes());
    device.launch(Zero{at_x->data(), at_x->bytes()}, {});
    stash->fetch(at_x->data(), 0, at_x->bytes());
    device.launch(RmsNorm{rows, 1, cols, f32_matrix(at_x->data().as<float>(), cols), at_w->data().as<float>(), 1e-5f,
                          f32_matrix(at_y->data().as<float>(), cols), rstd->data().as<float>()},
                  {});
    device.launch(AddConstant{rows * cols, 0.0f, at_y->data().as<float>()}, {});
    memory.download(y.data(), at_y->data(), at_y->bytes(), "test");
    CHECK_ALL_CLOSE(y, expected, 1e-6);
  }
}

TEST("a card without kernels for it, without a pack, or without one of the pack's kernels says so") {
  StandinCard card;
  CHECK_THROWS(cuda::CudaDevice(card.driver(), card.found(), "/nowhere/lowrank.cuda"), "/nowhere/lowrank.cuda");
  const TemporaryFile newer(PackBytes::of({{0, 90, false, "\177ELFnames\n"}}, {}));
  CHECK_THROWS(cuda::CudaDevice(card.driver(), card.found(), newer.path()),
               "has no kernels for compute capability 8.0");
  const TemporaryFile empty(
      PackBytes::of({{0, 80, false, std::string("\177ELFnames\nother\0", 16)}}, {{"standin_add", 0}}));
  {
    cuda::Gpu gpu(card.driver(), card.found(), empty.path());
    const cuda::Gpu::Entered entered(gpu);
    const standin::AddArgs args{};
    CHECK_THROWS(gpu.launch("standin_copy", {}, 32, &args, sizeof args, 0),
                 "cuda:0: the kernel pack has no kernel standin_copy");
    CHECK_THROWS(gpu.launch("standin_add", {}, 32, &args, sizeof args, 0),
                 "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND (500)");
  }
  CHECK_EQ(standin_leaks(), std::string());
}

TEST("workspace is known for a card that is not there, and is never less for more rows") {
  const cuda::CudaSizes sizes(cuda::Card{89, 128, 99 * 1024});
  const auto attention = [](int64_t tokens) {
    AttentionBackward kernel{};
    kernel.tokens = tokens;
    kernel.shape = {8, 2, 64, 0, 1};
    return kernel;
  };
  CHECK_LE(sizes.workspace(attention(100)), sizes.workspace(attention(1000)));
  CHECK(sizes.workspace(attention(1000)) > 0);
  CHECK_EQ(sizes.workspace(Zero{}), 0);
}

#if defined(LOWRANK_CUBLASLT_STANDIN)
TEST("large products go to cuBLASLt, in order with the kernels around them") {
  for (const char* const order : kOrders) {
    StandinCard card({{"LOWRANK_STANDIN_ORDER", order}, {"LOWRANK_CUBLASLT", LOWRANK_CUBLASLT_STANDIN}});
    cuda::FoundCard found = card.found();
    found.card.library_least = 1;
    cuda::CudaDevice device(card.driver(), found, card.pack());
    REQUIRE(device.library() != nullptr);
    Memory& memory = device.memory();
    constexpr int64_t kSide = 128, kCount = kSide * kSide;
    std::vector<float> x(kCount), w(kCount), y(kCount), expected(kCount);
    fill_normal(x.data(), kCount, 1, 3, "x");
    fill_normal(w.data(), kCount, 1, 3, "w");
    for (int64_t i = 0; i < kSide; ++i) {
      for (int64_t j = 0; j < kSide; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < kSide; ++k)
          sum += (x[static_cast<size_t>(i * kSide + k)] + 1.0) * w[static_cast<size_t>(j * kSide + k)];
        expected[static_cast<size_t>(i * kSide + j)] = static_cast<float>(sum - 2);
      }
    }
    const auto make = [&] { return memory.allocate(Category::activations, kCount * 4); };
    const auto at_x = make(), at_w = make(), at_y = make();
    memory.upload(at_x->data(), x.data(), at_x->bytes());
    memory.upload(at_w->data(), w.data(), at_w->bytes());
    const Segment segment{f32_matrix(at_x->data().as<float>(), kSide),
                          {kSide, kSide, -1, 0, at_w->data().as<float>(), kSide}};
    const GemmNt product{Precision::f32, kSide, kSide, {&segment, 1}, {f32_matrix(at_y->data().as<float>(), kSide)}};
    const auto room = memory.scratch(device.sizes().workspace(product));
    device.launch(AddConstant{kCount, 1.0f, at_x->data().as<float>()}, {});
    device.launch(product, room->data());
    device.launch(AddConstant{kCount, -2.0f, at_y->data().as<float>()}, {});
    memory.download(y.data(), at_y->data(), at_y->bytes(), "test");
    CHECK_ALL_CLOSE(y, expected, 1e-5);
  }
}
#endif

}  // namespace
}  // namespace lowrank::test
