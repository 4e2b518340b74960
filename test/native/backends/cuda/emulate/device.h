// What device.cuh gives to kernels, emulated.
#pragma once

#include <utility>

#include "backends/cuda/emulate/emulate.h"

#if defined(LOWRANK_EMULATE_TRACKED)
#define LOWRANK_TRACKED true
#else
#define LOWRANK_TRACKED false
#endif

#define LOWRANK_KERNEL(name, Args, threads, blocks)                                                              \
  static void emulated_##name(const Args& args);                                                                 \
  static const ::lowrank::cuda::emulate::Registration registration_of_##name(                                    \
      {#name, threads, sizeof(Args), [](const void* args) { emulated_##name(*static_cast<const Args*>(args)); }, \
       LOWRANK_TRACKED});                                                                                        \
  static void emulated_##name([[maybe_unused]] const Args& args)
#define LOWRANK_DEVICE static inline

// The lambda's variable stands for the declaration.
#define LOWRANK_SHARED_ALIGNED(alignment, T, name, ...)                                    \
  auto& name = *reinterpret_cast<T(*) __VA_ARGS__>(::lowrank::cuda::emulate::shared_array( \
      [] {                                                                                 \
        static const char tag = 0;                                                         \
        return &tag;                                                                       \
      }(),                                                                                 \
      sizeof(T __VA_ARGS__), alignment))
#define LOWRANK_SHARED(T, name, ...) LOWRANK_SHARED_ALIGNED(alignof(T), T, name, __VA_ARGS__)
#define LOWRANK_DYNAMIC_SHARED(T, name) \
  T* const name =                       \
      static_cast<T*>(::lowrank::cuda::emulate::dynamic_shared(::lowrank::cuda::emulate::Place{__FILE__, __LINE__}))

namespace lowrank::cuda {

LOWRANK_DEVICE void cp_async16(void* shared, const void* global, LOWRANK_HERE) {
  emulate::copy_async(shared, global, 16, 16, here);
}
LOWRANK_DEVICE void cp_async16_zfill(void* shared, const void* global, int bytes, LOWRANK_HERE) {
  emulate::copy_async(shared, global, bytes, 16, here);
}
LOWRANK_DEVICE void cp_async_commit() { emulate::commit_copies(); }
template <int N>
LOWRANK_DEVICE void cp_async_wait() {
  emulate::wait_copies(N);
}

namespace emulate {
template <int N>
LOWRANK_DEVICE void load_matrices(uint32_t (&r)[N], const void* shared, bool transposed, const char* name, Place here) {
  struct Row {
    uint16_t at[8];
  } mine{};
  if (static_cast<int>(lane()) < 8 * N) {  // the addresses of the others do not matter
    check_alignment(shared, 16, "ldmatrix of a row that is not aligned to 16 bytes", here);
    std::memcpy(mine.at, shared, 16);
  }
  const Deposits all = meet(0xffffffffu, name, &mine, sizeof mine, nullptr, here);
  const auto element = [&](int matrix, int row, int col) -> uint32_t {
    if (transposed) std::swap(row, col);
    uint16_t value;
    std::memcpy(&value, all[8 * matrix + row] + 2 * col, sizeof value);
    return value;
  };
  const int row = static_cast<int>(lane()) / 4, col = static_cast<int>(lane()) % 4 * 2;
  for (int matrix = 0; matrix < N; ++matrix)
    r[matrix] = element(matrix, row, col) | element(matrix, row, col + 1) << 16;
}
void multiply_matrices(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place here);
}  // namespace emulate

LOWRANK_DEVICE void ldmatrix_x4(uint32_t (&r)[4], const void* shared, LOWRANK_HERE) {
  emulate::load_matrices(r, shared, false, "ldmatrix_x4", here);
}
LOWRANK_DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared, LOWRANK_HERE) {
  emulate::load_matrices(r, shared, true, "ldmatrix_x4_trans", here);
}
LOWRANK_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], LOWRANK_HERE) {
  emulate::multiply_matrices(d, a, b, here);
}

}  // namespace lowrank::cuda
