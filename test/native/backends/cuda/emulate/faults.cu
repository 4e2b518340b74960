#include "backends/cuda/emulate/faults.h"
#include "backends/cuda/device.cuh"

namespace lowrank::cuda {
namespace {

template <bool kTransposed, bool kSwapped>
LOWRANK_DEVICE void product(const ProductArgs& args) {
  LOWRANK_SHARED_ALIGNED(16, uint16_t, a, [16 * 16]);
  LOWRANK_SHARED_ALIGNED(16, uint16_t, b, [16 * 8]);
  const int lane = static_cast<int>(threadIdx.x);
  cp_async16(a + lane * 8, static_cast<const uint16_t*>(args.a) + lane * 8);
  if (lane < 16) cp_async16(b + lane * 8, static_cast<const uint16_t*>(args.b) + lane * 8);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  uint32_t left[4], twice[4];
  ldmatrix_x4(left, a + lane % 16 * 16 + lane / 16 * 8);
  // The two matrices of b, and both once more.
  if (kTransposed) {
    ldmatrix_x4_trans(twice, b + lane % 16 * 8);
  } else {
    ldmatrix_x4(twice, b + lane % 8 * 16 + lane / 8 % 2 * 8);
  }
  const uint32_t right[2] = {twice[0], twice[1]};
  if (kSwapped) {
    const uint32_t second = left[1];
    left[1] = left[2];
    left[2] = second;
  }
  float d[4] = {};
  mma_bf16(d, left, right);
  float* to = args.d + lane / 4 * 8 + lane % 4 * 2;
  to[0] = d[0];
  to[1] = d[1];
  to[64] = d[2];
  to[65] = d[3];
}

}  // namespace

LOWRANK_KERNEL(emulator_product, ProductArgs, 32, 1) { product<false, false>(args); }
LOWRANK_KERNEL(emulator_product_transposed, ProductArgs, 32, 1) { product<true, false>(args); }
LOWRANK_KERNEL(emulator_product_swapped, ProductArgs, 32, 1) { product<false, true>(args); }

LOWRANK_KERNEL(emulator_fault, FaultArgs, 64, 1) {
  LOWRANK_SHARED(float, numbers, [64]);
  const int thread = static_cast<int>(threadIdx.x);
  const int fault = args.fault;
  if (fault == kPastGlobal) args.out[thread + 1] = 0;
  if (fault == kBlocksWriteOneNumber && thread == 0) args.out[0] = static_cast<float>(blockIdx.x);
  if (fault == kBarrierInBranch && thread < 32) __syncthreads();
  if (fault == kTwoBarriers) {
    if (thread < 32)
      __syncthreads();
    else
      __syncthreads();
  }
  if (fault == kEarlyEnd && thread == 5) return;
  if (fault == kLaneOutsideMask) __syncwarp(0xffff);
  if (fault == kShuffleOutsideMask) args.out[thread] = __shfl_sync(thread % 32 < 16 ? 0xffffu : 0xffff0000u, 1.0f, 31);
  if (fault == kTwoShuffles) {
    if (thread % 2 == 0)
      args.out[thread] = __shfl_xor_sync(kAllLanes, 1.0f, 1);
    else
      args.out[thread] = __shfl_xor_sync(kAllLanes, 1.0f, 2);
  }
  if (fault == kActiveMask) args.out[thread] = static_cast<float>(__activemask());
  if (fault == kTooMuchShared) {
    LOWRANK_SHARED(float, large, [20000]);
    large[thread] = 1;
  }
  if (fault == kMisalignedAccess) store16(numbers + (thread + 1) % 4, Pack<float>{});

  // Sums of neighbors, through shared memory.
  numbers[thread] = static_cast<float>(thread);
  if (fault == kMissingSyncwarp) {
    args.out[thread] = numbers[thread ^ 1];
  }
  if (fault != kMissingBarrier) __syncthreads();
  float sum = numbers[thread] + numbers[63 - thread];
  if (fault == kPastShared) sum += numbers[thread + 1];
  if (fault != kMissingTrailingBarrier) __syncthreads();
  numbers[thread] = sum;
  __syncthreads();
  if (fault != kBlocksWriteOneNumber && fault != kPastGlobal && fault != kShuffleOutsideMask)
    args.out[static_cast<int64_t>(blockIdx.x) * 64 + thread] = numbers[thread];
}

LOWRANK_KERNEL(emulator_copy, CopyArgs, 32, 1) {
  LOWRANK_SHARED(float, loose, [32]);
  LOWRANK_SHARED_ALIGNED(16, float, close, [32]);
  float* const shared = args.fault == kMisalignedArray ? loose : close;
  const int lane = static_cast<int>(threadIdx.x);
  if (lane < 8) cp_async16_zfill(shared + lane * 4, static_cast<const float*>(args.from) + lane * 4, args.bytes);
  cp_async_commit();
  if (args.fault != kMissingWait && args.fault != kLateWait) cp_async_wait<0>();
  __syncthreads();
  args.to[lane] = shared[lane];
  if (args.fault == kLateWait) cp_async_wait<0>();
}

/// Results of shuffles and votes: out [8, 32].
LOWRANK_KERNEL(emulator_lanes, FaultArgs, 32, 1) {
  const int lane = static_cast<int>(threadIdx.x);
  const auto value = static_cast<float>(lane);
  float* const out = args.out + lane;
  out[0] = __shfl_sync(kAllLanes, value, 5);
  out[32] = __shfl_xor_sync(kAllLanes, value, 9);
  out[64] = __shfl_down_sync(kAllLanes, value, 3);
  out[96] = __shfl_up_sync(kAllLanes, value, 2, 8);
  out[128] = static_cast<float>(__popc(__ballot_sync(kAllLanes, lane % 3 == 0)));
  out[160] = static_cast<float>(__syncthreads_count(lane < 7));
  out[192] = __shfl_sync(kAllLanes, value, 3, 16);
  out[224] = warp_sum(value);
}

}  // namespace lowrank::cuda
