#include <algorithm>
#include <initializer_list>
#include <limits>
#include <vector>

#include "backends/cuda/attention_launches.h"
#include "backends/cuda/flash.h"
#include "backends/cuda/launch_cells.h"
#include "core/math.h"

namespace lowrank::cuda {
namespace {

int32_t window_of(const Heads& heads) { return heads.window > 0 ? heads.window : std::numeric_limits<int32_t>::max(); }

/// Room for the tiles of any packing: sequences without tokens have none.
int64_t tile_bytes(int64_t tokens) { return round_up(tokens * int64_t{sizeof(AttentionTile)}, 256); }

/// Tiles of `rows` rows, those that see the most keys first.
std::vector<AttentionTile> tiles_of(std::span<const int32_t> seqlens, int32_t rows) {
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
  const std::vector<AttentionTile> tiles = tiles_of(seqlens, rows);
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

// ---- decoding

/// Queries that are decoded together rather than tile by tile.
int64_t decoded_tokens(const Heads& heads) { return std::max(1, 8 / (heads.heads / heads.kv_heads)); }

bool decodes(const Attention& k) {
  return k.keys > k.tokens && k.tokens <= decoded_tokens(k.shape) && k.shape.head_dim <= kAttentionCols;
}

void decode(Launcher& launcher, const Attention& k, Ptr<std::byte> workspace) {
  const auto& [heads, kv_heads, head_dim, window, scale] = k.shape;
  DecodeArgs args{};
  args.positions = device_pointer(k.positions);
  args.tokens = static_cast<int32_t>(k.tokens);
  args.past = k.positions ? 0 : static_cast<int32_t>(k.keys - k.tokens);
  args.heads = heads;
  args.kv_heads = kv_heads;
  args.head_dim = head_dim;
  args.window = window_of(k.shape);
  args.scale = scale;
  args.q = device_pointer(k.q.data);
  args.k = device_pointer(k.k.data);
  args.v = device_pointer(k.v.data);
  args.q_ld = k.q.ld;
  args.k_ld = k.k.ld;
  args.v_ld = k.v.ld;
  const Ptr<float> parts = workspace.as<float>();
  args.parts = device_pointer(parts);
  args.tops = device_pointer(parts + int64_t{kMostSplits} * k.tokens * heads * head_dim);
  args.out = device_pointer(k.out.data);
  args.out_ld = k.out.ld;
  args.lse = device_pointer(k.lse);
  const int64_t rows = k.tokens * (heads / kv_heads);
  const bool bf16 = k.q.dtype == DType::bf16;
  const int64_t together = rows == 1 ? 1 : bf16 && rows <= 4 ? 4 : 8;
  const KernelOf<DecodeArgs>& kernel = !bf16 ? (together == 1 ? attention_decode_f32_1 : attention_decode_f32_8)
                                       : together == 1 ? attention_decode_bf16_1
                                       : together == 4 ? attention_decode_bf16_4
                                                       : attention_decode_bf16_8;
  launcher.launch(kernel, {decoded_splits(static_cast<int32_t>(k.keys)), kv_heads, ceil_div(rows, together)},
                  32 * kAttentionRows, args);
  launcher.launch(bf16 ? attention_combine_bf16 : attention_combine_f32, {k.tokens * heads}, 32 * kAttentionRows, args);
}

}  // namespace

int64_t workspace(const Card&, const Attention& k) {
  const int64_t decoded = std::min(k.tokens, decoded_tokens(k.shape)) * k.shape.heads;
  return std::max(tile_bytes(k.tokens), round_up(int64_t{kMostSplits} * decoded * (k.shape.head_dim + 2) * 4, 256));
}

int64_t workspace(const Card&, const AttentionBackward& k) {
  return tile_bytes(k.tokens) + round_up(k.tokens * k.shape.heads * 4, 256);
}

void run(Launcher& launcher, const AppendToCache& k, Ptr<std::byte>) {
  const AppendToCacheArgs args{
      tiles_of(k.tokens, k.cols),     device_pointer(k.positions),   cells_of(k.k), cells_of(k.v),
      cells_of(k.to_k.rows(-k.past)), cells_of(k.to_v.rows(-k.past))};
  Grid blocks = grid_of(args.tiles);
  blocks.z = 2;
  launcher.launch(append_to_cache, blocks, kTileThreads, args);
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
