// Attention with sums in fp32 for any operands: a warp a query or a key, whose lanes have 32 keys or queries at a time,
// then the columns of the head.
#include "attention.h"

#if LOWRANK_ON_DEVICE
#include "attention.cuh"

namespace lowrank::cuda {
namespace {

template <class T>
LOWRANK_DEVICE float dot(const T* a, const T* b, int count) {
  float sum = 0;
  for (int i = 0; i < count; ++i) sum = fmaf(to_float(a[i]), to_float(b[i]), sum);
  return sum;
}

/// Columns of a head of which each lane of a warp has every 32nd.
struct Columns {
  int first, count;
  float at[kPerLane];

  __device__ __forceinline__ Columns(int first_column, int head_dim)
      : first(first_column + lane_of()), count(head_dim) {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) at[e] = 0;
  }
  __device__ __forceinline__ void scale(float factor) {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e) at[e] *= factor;
  }
  template <class T>
  __device__ __forceinline__ void add(float factor, const T* row) {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e)
      if (first + 32 * e < count) at[e] = fmaf(factor, to_float(row[first + 32 * e]), at[e]);
  }
  template <class T>
  __device__ __forceinline__ void store(T* row) const {
#pragma unroll
    for (int e = 0; e < kPerLane; ++e)
      if (first + 32 * e < count) row[first + 32 * e] = from_float<T>(at[e]);
  }
};

template <class T>
LOWRANK_DEVICE void attend(const AttentionArgs& args) {
  const AttentionTile tile = args.tiles[blockIdx.x];
  const int query = tile.first + warp_of(), head = static_cast<int>(blockIdx.y), lane = lane_of(), d = args.head_dim;
  if (query >= tile.count) return;
  const int kv_head = head / (args.heads / args.kv_heads);
  const int visible = args.past + query + 1;
  const T* const q = head_row<T>(args.q, int64_t{tile.begin} + query, args.q_ld, head, d);
  const T* const k = head_row<T>(args.k, tile.begin, args.k_ld, kv_head, d);
  const T* const v = head_row<T>(args.v, tile.begin, args.v_ld, kv_head, d);
  Columns out(static_cast<int>(blockIdx.z) * kAttentionCols, d);
  float top = -kInfinity, total = 0;
  for (int begin = max(visible - args.window, 0); begin < visible; begin += 32) {
    const int key = begin + lane;
    const float score = key < visible ? args.scale * dot(q, k + key * args.k_ld, d) : -kInfinity;
    const float most = fmaxf(top, warp_max(score)), factor = expf(top - most), p = expf(score - most);
    top = most;
    total = total * factor + warp_sum(p);
    out.scale(factor);
    for (int j = 0; j < min(32, visible - begin); ++j)
      out.add(__shfl_sync(kAllLanes, p, j), v + (begin + j) * args.v_ld);
  }
  out.scale(1 / total);
  out.store(const_cast<T*>(head_row<T>(args.out, int64_t{tile.begin} + query, args.out_ld, head, d)));
  if (args.lse && lane == 0 && blockIdx.z == 0)
    args.lse[(int64_t{tile.begin} + query) * args.heads + head] = top + logf(total);
}

template <class T>
LOWRANK_DEVICE void add_up(const AttentionSumsArgs& args) {
  const int64_t token = int64_t{blockIdx.x} * kAttentionRows + warp_of();
  const int head = static_cast<int>(blockIdx.y), d = args.head_dim;
  if (token >= args.tokens) return;
  const T* const out = head_row<T>(args.out, token, args.out_ld, head, d);
  const T* const dout = head_row<T>(args.dout, token, args.dout_ld, head, d);
  float sum = 0;
  for (int c = lane_of(); c < d; c += 32) sum = fmaf(to_float(out[c]), to_float(dout[c]), sum);
  sum = warp_sum(sum);
  if (lane_of() == 0) args.sums[token * args.heads + head] = sum;
}

/// The gradient of a query: the sum over its keys of scale p (dp - the product of out and dout) k.
template <class T>
LOWRANK_DEVICE void queries_gradient(const AttentionBackwardArgs& args) {
  const AttentionTile tile = args.tiles[blockIdx.x];
  const int query = tile.first + warp_of(), head = static_cast<int>(blockIdx.y), lane = lane_of(), d = args.head_dim;
  if (query >= tile.count) return;
  const int kv_head = head / (args.heads / args.kv_heads);
  const int64_t row = int64_t{tile.begin} + query;
  const T* const q = head_row<T>(args.q, row, args.q_ld, head, d);
  const T* const dout = head_row<T>(args.dout, row, args.dout_ld, head, d);
  const T* const k = head_row<T>(args.k, tile.begin, args.k_ld, kv_head, d);
  const T* const v = head_row<T>(args.v, tile.begin, args.v_ld, kv_head, d);
  const float lse = args.lse[row * args.heads + head], own = args.sums[row * args.heads + head];
  Columns dq(static_cast<int>(blockIdx.z) * kAttentionCols, d);
  for (int begin = max(query + 1 - args.window, 0); begin <= query; begin += 32) {
    const int key = begin + lane;
    float ds = 0;
    if (key <= query) {
      const float p = expf(args.scale * dot(q, k + key * args.k_ld, d) - lse);
      ds = p * (dot(dout, v + key * args.v_ld, d) - own) * args.scale;
    }
    for (int j = 0; j < min(32, query + 1 - begin); ++j)
      dq.add(__shfl_sync(kAllLanes, ds, j), k + (begin + j) * args.k_ld);
  }
  __syncwarp();  // dq may be q
  dq.store(const_cast<T*>(head_row<T>(args.dq, row, args.dq_ld, head, d)));
}

/// The gradients of a key and its value, of all query heads of their group.
template <class T>
LOWRANK_DEVICE void keys_gradient(const AttentionBackwardArgs& args) {
  const AttentionTile tile = args.tiles[blockIdx.x];
  const int key = tile.first + warp_of(), kv_head = static_cast<int>(blockIdx.y), lane = lane_of(), d = args.head_dim;
  if (key >= tile.count) return;
  const int group = args.heads / args.kv_heads;
  const int64_t row = int64_t{tile.begin} + key;
  const T* const k = head_row<T>(args.k, row, args.k_ld, kv_head, d);
  const T* const v = head_row<T>(args.v, row, args.v_ld, kv_head, d);
  Columns dk(static_cast<int>(blockIdx.z) * kAttentionCols, d), dv = dk;
  const int last = args.window < tile.count - key ? key + args.window : tile.count;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const T* const q = head_row<T>(args.q, tile.begin, args.q_ld, head, d);
    const T* const dout = head_row<T>(args.dout, tile.begin, args.dout_ld, head, d);
    for (int begin = key; begin < last; begin += 32) {
      const int query = begin + lane;
      float p = 0, ds = 0;
      if (query < last) {
        const int64_t at = (int64_t{tile.begin} + query) * args.heads + head;
        p = expf(args.scale * dot(q + query * args.q_ld, k, d) - args.lse[at]);
        ds = p * (dot(dout + query * args.dout_ld, v, d) - args.sums[at]) * args.scale;
      }
      for (int i = 0; i < min(32, last - begin); ++i) {
        dk.add(__shfl_sync(kAllLanes, ds, i), q + (begin + i) * args.q_ld);
        dv.add(__shfl_sync(kAllLanes, p, i), dout + (begin + i) * args.dout_ld);
      }
    }
  }
  dk.store(const_cast<T*>(head_row<T>(args.dk, row, args.dk_ld, kv_head, d)));
  dv.store(const_cast<T*>(head_row<T>(args.dv, row, args.dv_ld, kv_head, d)));
}

}  // namespace

LOWRANK_KERNEL(attention_f32, AttentionArgs, 128, 4) { attend<float>(args); }
LOWRANK_KERNEL(attention_bf16, AttentionArgs, 128, 4) { attend<__nv_bfloat16>(args); }
LOWRANK_KERNEL(attention_sums_f32, AttentionSumsArgs, 128, 4) { add_up<float>(args); }
LOWRANK_KERNEL(attention_sums_bf16, AttentionSumsArgs, 128, 4) { add_up<__nv_bfloat16>(args); }
LOWRANK_KERNEL(attention_gradient_queries_f32, AttentionBackwardArgs, 128, 4) { queries_gradient<float>(args); }
LOWRANK_KERNEL(attention_gradient_queries_bf16, AttentionBackwardArgs, 128, 4) {
  queries_gradient<__nv_bfloat16>(args);
}
LOWRANK_KERNEL(attention_gradient_keys_f32, AttentionBackwardArgs, 128, 4) { keys_gradient<float>(args); }
LOWRANK_KERNEL(attention_gradient_keys_bf16, AttentionBackwardArgs, 128, 4) { keys_gradient<__nv_bfloat16>(args); }

}  // namespace lowrank::cuda

#else
#include "backends/cuda/runs.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "backends/cuda/flash.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

// By the type of the operands.
constexpr auto attention_f32 = kernel_of<AttentionArgs>("attention_f32");
constexpr auto attention_bf16 = kernel_of<AttentionArgs>("attention_bf16");
constexpr auto attention_sums_f32 = kernel_of<AttentionSumsArgs>("attention_sums_f32");
constexpr auto attention_sums_bf16 = kernel_of<AttentionSumsArgs>("attention_sums_bf16");
constexpr auto attention_gradient_queries_f32 = kernel_of<AttentionBackwardArgs>("attention_gradient_queries_f32");
constexpr auto attention_gradient_queries_bf16 = kernel_of<AttentionBackwardArgs>("attention_gradient_queries_bf16");
constexpr auto attention_gradient_keys_f32 = kernel_of<AttentionBackwardArgs>("attention_gradient_keys_f32");
constexpr auto attention_gradient_keys_bf16 = kernel_of<AttentionBackwardArgs>("attention_gradient_keys_bf16");
// Those on matrix units, by the columns of a head.
constexpr auto flash_64 = kernel_of<AttentionArgs>("flash_64");
constexpr auto flash_128 = kernel_of<AttentionArgs>("flash_128");
constexpr auto flash_256 = kernel_of<AttentionArgs>("flash_256");
constexpr auto flash_gradient_queries_64 = kernel_of<AttentionBackwardArgs>("flash_gradient_queries_64");
constexpr auto flash_gradient_queries_128 = kernel_of<AttentionBackwardArgs>("flash_gradient_queries_128");
constexpr auto flash_gradient_queries_256 = kernel_of<AttentionBackwardArgs>("flash_gradient_queries_256");
constexpr auto flash_gradient_keys_64 = kernel_of<AttentionBackwardArgs>("flash_gradient_keys_64");
constexpr auto flash_gradient_keys_128 = kernel_of<AttentionBackwardArgs>("flash_gradient_keys_128");
constexpr auto flash_gradient_keys_256 = kernel_of<AttentionBackwardArgs>("flash_gradient_keys_256");

/// Room for the tiles of any packing: sequences without tokens have none.
int64_t tile_bytes(int64_t tokens) { return round_up(tokens * int64_t{sizeof(AttentionTile)}, 256); }

/// Tiles of `rows` rows, those that see the most keys first.
std::vector<AttentionTile> attention_tiles(std::span<const int32_t> seqlens, int32_t rows) {
  std::vector<AttentionTile> tiles;
  for (size_t s = 0; s + 1 < seqlens.size(); ++s) {
    const int32_t begin = seqlens[s], count = seqlens[s + 1] - begin;
    for (int32_t first = 0; first < count; first += rows) tiles.push_back({begin, count, first, 0});
  }
  std::stable_sort(tiles.begin(), tiles.end(),
                   [](const AttentionTile& a, const AttentionTile& b) { return a.first > b.first; });
  return tiles;
}

/// Uploads the tiles of the sequences to the workspace. Returns their number.
int64_t upload_tiles(Launcher& launcher, std::span<const int32_t> seqlens, int32_t rows, Ptr<std::byte> to) {
  const std::vector<AttentionTile> tiles = attention_tiles(seqlens, rows);
  if (!tiles.empty()) launcher.upload(to, tiles.data(), static_cast<int64_t>(tiles.size() * sizeof(AttentionTile)));
  return static_cast<int64_t>(tiles.size());
}

/// Index of the smallest shape that the matrix units can take these heads with, or -1.
int flash_of(std::span<const FlashShape> shapes, int own, const Card& card, int32_t head_dim,
             std::initializer_list<Matrix> operands) {
  if (head_dim % 8 != 0) return -1;
  for (const Matrix& m : operands)
    if (m.dtype != DType::bf16 || m.ld % 8 != 0 || m.data.address() % 16 != 0) return -1;
  for (size_t i = 0; i < shapes.size(); ++i)
    if (head_dim <= shapes[i].dim) return shapes[i].bytes(own) <= card.shared_bytes ? static_cast<int>(i) : -1;
  return -1;
}

}  // namespace

int64_t workspace(const Card&, const Attention& k) { return std::max(tile_bytes(k.tokens), decode_workspace(k)); }

int64_t workspace(const Card&, const AttentionBackward& k) {
  return tile_bytes(k.tokens) + round_up(k.tokens * k.shape.heads * 4, 256);
}

void run(Launcher& launcher, const Attention& k, Ptr<std::byte> workspace) {
  if (k.tokens == 0) return;
  if (decodes(k)) return decode(launcher, k, workspace);
  const auto& [heads, kv_heads, head_dim, window, scale] = k.shape;
  const AttentionArgs args{reinterpret_cast<const AttentionTile*>(device_pointer(workspace)),
                           heads,
                           kv_heads,
                           head_dim,
                           static_cast<int32_t>(k.keys - k.tokens),
                           window_of(k.shape),
                           scale,
                           device_pointer(k.q.data),
                           device_pointer(k.k.data),
                           device_pointer(k.v.data),
                           k.q.ld,
                           k.k.ld,
                           k.v.ld,
                           device_pointer(k.out.data),
                           k.out.ld,
                           device_pointer(k.lse)};
  const int flash = flash_of(kFlash, 1, launcher.card(), head_dim, {k.q, k.k, k.v, k.out});
  if (flash < 0) {
    const int64_t tiles = upload_tiles(launcher, k.host_seqlens, kAttentionRows, workspace);
    launcher.launch(k.q.dtype == DType::bf16 ? attention_bf16 : attention_f32,
                    {tiles, heads, ceil_div(head_dim, kAttentionCols)}, 32 * kAttentionRows, args);
    return;
  }
  constexpr KernelOf<AttentionArgs> kKernels[] = {flash_64, flash_128, flash_256};
  const FlashShape& shape = kFlash[flash];
  const int64_t tiles = upload_tiles(launcher, k.host_seqlens, shape.rows, workspace);
  launcher.launch(kKernels[flash], {tiles, heads}, 2 * shape.rows, args, shape.bytes(1));
}

void run(Launcher& launcher, const AttentionBackward& k, Ptr<std::byte> workspace) {
  if (k.tokens == 0) return;
  const auto& [heads, kv_heads, head_dim, window, scale] = k.shape;
  const Ptr<float> sums = (workspace + tile_bytes(k.tokens)).as<float>();
  const bool bf16 = k.q.dtype == DType::bf16;
  const AttentionSumsArgs sums_args{k.tokens,
                                    heads,
                                    head_dim,
                                    device_pointer(k.out.data),
                                    device_pointer(k.dout.data),
                                    k.out.ld,
                                    k.dout.ld,
                                    device_pointer(sums)};
  launcher.launch(bf16 ? attention_sums_bf16 : attention_sums_f32, {ceil_div(k.tokens, kAttentionRows), heads},
                  32 * kAttentionRows, sums_args);

  AttentionBackwardArgs args{};
  args.tiles = reinterpret_cast<const AttentionTile*>(device_pointer(workspace));
  args.heads = heads;
  args.kv_heads = kv_heads;
  args.head_dim = head_dim;
  args.window = window_of(k.shape);
  args.scale = scale;
  args.q = device_pointer(k.q.data);
  args.k = device_pointer(k.k.data);
  args.v = device_pointer(k.v.data);
  args.dout = device_pointer(k.dout.data);
  args.q_ld = k.q.ld;
  args.k_ld = k.k.ld;
  args.v_ld = k.v.ld;
  args.dout_ld = k.dout.ld;
  args.lse = device_pointer(k.lse);
  args.sums = device_pointer(sums);
  args.dq = device_pointer(k.dq.data);
  args.dk = device_pointer(k.dk.data);
  args.dv = device_pointer(k.dv.data);
  args.dq_ld = k.dq.ld;
  args.dk_ld = k.dk.ld;
  args.dv_ld = k.dv.ld;
  // The queries' gradients last, for they may take the place of the queries.
  const int flash = flash_of(kFlashBackward, 2, launcher.card(), head_dim, {k.q, k.k, k.v, k.dout, k.dq, k.dk, k.dv});
  if (flash < 0) {
    const int64_t tiles = upload_tiles(launcher, k.host_seqlens, kAttentionRows, workspace);
    const int64_t parts = ceil_div(head_dim, kAttentionCols);
    launcher.launch(bf16 ? attention_gradient_keys_bf16 : attention_gradient_keys_f32, {tiles, kv_heads, parts},
                    32 * kAttentionRows, args);
    launcher.launch(bf16 ? attention_gradient_queries_bf16 : attention_gradient_queries_f32, {tiles, heads, parts},
                    32 * kAttentionRows, args);
    return;
  }
  constexpr KernelOf<AttentionBackwardArgs> kKeys[] = {flash_gradient_keys_64, flash_gradient_keys_128,
                                                       flash_gradient_keys_256};
  constexpr KernelOf<AttentionBackwardArgs> kQueries[] = {flash_gradient_queries_64, flash_gradient_queries_128,
                                                          flash_gradient_queries_256};
  const FlashShape& shape = kFlashBackward[flash];
  const int64_t tiles = upload_tiles(launcher, k.host_seqlens, shape.rows, workspace);
  launcher.launch(kKeys[flash], {tiles, kv_heads, ceil_div(shape.dim, kFlashGradientCols)}, 2 * shape.rows, args,
                  shape.bytes(2));
  launcher.launch(kQueries[flash], {tiles, heads}, 2 * shape.rows, args, shape.bytes(2));
}

}  // namespace lowrank::cuda

#endif
