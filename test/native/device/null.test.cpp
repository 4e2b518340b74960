#include "device/null.h"

#include "check.h"

using namespace lowrank;

namespace {

struct Sizes final : KernelSizes {
  int64_t workspace(const Kernel& kernel) const override { return std::holds_alternative<GemmNt>(kernel) ? 640 : 0; }
};
const Sizes kSizes;

template <class T>
Ptr<T> nowhere() {
  return Ptr<T>(kNowhere);
}
Matrix f32(int64_t ld) { return {nowhere<std::byte>(), DType::f32, ld}; }

}  // namespace

TEST("the null device counts launches, bytes moved and workspace by kernel") {
  NullDevice device(kSizes, {{64, 64 * 10}, {48, 48 * 7}});
  // x [3, 10] bf16, rows 8 to 23 of weight 1, which take 7 bytes each; y [3, 16] f32, added to a residual.
  const Segment segment{{nowhere<std::byte>(), DType::bf16, 10}, {16, 10, 1, 8}};
  device.launch(GemmNt{Precision::bf16, 3, 16, {&segment, 1}, {f32(16), {}, nowhere<float>(), 16}}, {});
  device.launch(AddConstant{5, 1, nowhere<float>()}, {});
  device.launch(AddConstant{7, 1, nowhere<float>()}, {});
  CHECK_EQ(device.counts.kernels.at("gemm_nt").launches, 1);
  CHECK_EQ(device.counts.kernels.at("gemm_nt").bytes_moved, 3 * 10 * 2 + 16 * 7 + 2 * 3 * 16 * 4);
  CHECK_EQ(device.counts.kernels.at("gemm_nt").workspace_bytes, 640);
  CHECK_EQ(device.counts.kernels.at("gemm_nt").multiply_adds, 3.0 * 16 * 10);
  CHECK_EQ(device.counts.kernels.at("add_constant").launches, 2);
  CHECK_EQ(device.counts.kernels.at("add_constant").bytes_moved, 2 * (5 + 7) * 4);
  CHECK_EQ(device.counts.kernels.at("add_constant").workspace_bytes, 0);
  CHECK_EQ(device.counts.kernels.size(), size_t{2});
}

TEST("multiply-adds of attention are those of the pairs that it sees") {
  const int32_t seqlens[] = {0, 5, 5, 9};
  const auto of = [&](int32_t window, int64_t tokens, int64_t keys, std::span<const int32_t> begins) {
    return multiply_adds(Attention{tokens, keys, {4, 2, 8, window, 1}, begins, f32(32), f32(16), f32(16), f32(32), {}});
  };
  CHECK_EQ(of(0, 9, 9, seqlens), 2.0 * 4 * 8 * (1 + 2 + 3 + 4 + 5 + 1 + 2 + 3 + 4));
  CHECK_EQ(of(3, 9, 9, seqlens), 2.0 * 4 * 8 * (1 + 2 + 3 + 3 + 3 + 1 + 2 + 3 + 3));
  const int32_t two[] = {0, 2};
  CHECK_EQ(of(0, 2, 7, two), 2.0 * 4 * 8 * (6 + 7));
  CHECK_EQ(of(3, 2, 7, two), 2.0 * 4 * 8 * (3 + 3));
}

TEST("of a table the null device counts the rows that are looked up") {
  NullDevice device(kSizes, {{1000, 4000}});
  device.launch(DecodeRows{6, nowhere<int32_t>(), {1000, 32, 0}, f32(32)}, {});
  CHECK_EQ(device.counts.kernels.at("decode_rows").bytes_moved, 6 * 4 + 6 * 4 + 6 * 32 * 4);
}

TEST("the null device allocates nothing, counts copies by what they are and gives zeros") {
  NullDevice device(kSizes);
  const auto memory = device.allocate(Category::kv_cache, int64_t{1} << 50);
  CHECK_EQ(memory->bytes(), int64_t{1} << 50);
  CHECK_EQ(device.allocated.at(Category::kv_cache), int64_t{1} << 50);
  const float numbers[4] = {1, 2, 3, 4};
  device.upload(memory->data(), numbers, sizeof numbers);
  float losses[2] = {1, 2};
  device.download(losses, memory->data(), 8, "losses");
  CHECK_EQ(losses[0], 0);
  CHECK_EQ(losses[1], 0);
  device.number = 5;
  device.download(losses, memory->data(), 4, "losses");
  CHECK_EQ(losses[0], 5);
  CHECK(!device.allocate(Category::gradients, 0)->data());
  device.copy(memory->data(), memory->data(), 100);
  const auto stash = device.stash(Category::activations, "no such folder", 4096);
  stash->put(0, memory->data(), 50);
  stash->fetch(memory->data(), 0, 60);
  CHECK_EQ(device.counts.uploaded, 16);
  CHECK_EQ(device.counts.downloaded.at("losses"), 12);
  CHECK_EQ(device.counts.copied, 100);
  CHECK_EQ(device.counts.stashed, 50);
  CHECK_EQ(device.counts.fetched, 60);
}
