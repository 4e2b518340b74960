// Made by scripts/lists.mjs from native/boundary.json.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/lists.h"
#include "core/parameter_index.h"

namespace lowrank {

class TokenRules;

/// Options of a plan.
struct PlanOptions {
  Mode mode{};
  /// Maximum tokens per call.
  int64_t tokens = 0;
  /// Maximum sequences per call.
  int64_t sequences = 0;
  /// Maximum head rows per call: labeled positions (train, evaluate), or positions whose logits are read (forward).
  int64_t head_rows = 0;
  Precision precision{};
  /// `forward` only: capacity of the KV cache in tokens, at least 1.
  int64_t kv_capacity = 0;
  /// `train` and `evaluate`: bytes of logits computed at a time, at least one tile of rows. Default 48 MiB.
  int64_t logits_bytes = 50331648;
  /// `train` only: recompute each block in the backward pass instead of keeping its activations.
  bool recompute = false;
  /// With `recompute`: keep the inputs of blocks in a file.
  bool offload = false;
  /// Folder of that file; not needed for planning.
  std::string offload_folder{};
  /// With `recompute`: keep the attention outputs instead of recomputing them.
  bool keep_attention = false;
  /// `evaluate` only: measure the output that the first adapter adds at each layer.
  bool output_norms = false;
  /// `train` only: each labeled position has its own weight in the loss, given with the call.
  bool row_weights = false;
  /// With `rowWeights`: the weights are given once the log-probabilities are known, and logits are recomputed.
  bool two_passes = false;
  /// `train` and `evaluate`: count the labeled positions whose label has the largest logit, the first one on a tie.
  bool counts_hits = false;

  friend bool operator==(const PlanOptions&, const PlanOptions&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("mode", of.mode, false);
    visit("tokens", of.tokens, false);
    visit("sequences", of.sequences, false);
    visit("headRows", of.head_rows, false);
    visit("precision", of.precision, false);
    visit("kvCapacity", of.kv_capacity, true);
    visit("logitsBytes", of.logits_bytes, true);
    visit("recompute", of.recompute, true);
    visit("offload", of.offload, true);
    visit("offloadFolder", of.offload_folder, true);
    visit("keepAttention", of.keep_attention, true);
    visit("outputNorms", of.output_norms, true);
    visit("rowWeights", of.row_weights, true);
    visit("twoPasses", of.two_passes, true);
    visit("countsHits", of.counts_hits, true);
  }
};

/// Bytes of one category.
struct PlanRow {
  Category category{};
  /// In the memory of the computing device.
  int64_t bytes = 0;
  /// In pinned host memory, alongside a GPU; absent if zero.
  int64_t pinned_bytes = 0;

  friend bool operator==(const PlanRow&, const PlanRow&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("category", of.category, false);
    visit("bytes", of.bytes, false);
    visit("pinnedBytes", of.pinned_bytes, true);
  }
};

/// A step of a plan: its kernel, the memory in use, and its work.
struct PlanMoment {
  Phase phase{};
  std::string kernel{};
  /// Path of the node in the model; empty if it belongs to none.
  std::string node{};
  /// Arena bytes in use.
  int64_t live_bytes = 0;
  /// Multiply-adds of products with base weights at full capacity, excluding those of adapters and attention.
  double multiply_adds = 0;

  friend bool operator==(const PlanMoment&, const PlanMoment&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("phase", of.phase, false);
    visit("kernel", of.kernel, false);
    visit("node", of.node, false);
    visit("liveBytes", of.live_bytes, false);
    visit("multiplyAdds", of.multiply_adds, false);
  }
};

/// Planned bytes. The rows are the bytes in use at the peak and add up to `peakBytes`.
struct PlanReport {
  int64_t peak_bytes = 0;
  /// Pinned host memory used alongside a GPU, in bytes; the sum of the rows' `pinnedBytes`.
  int64_t pinned_bytes = 0;
  std::vector<PlanRow> rows{};
  /// Exact size of the arena (activations, loss, workspace, and gradients of updates in the backward pass), in bytes.
  int64_t arena_bytes = 0;
  /// Path and phase of the step with the highest memory use, e.g. `backward model.layers.29.mlp`.
  std::string peak_at{};
  /// The steps of the plan with the largest arena, in order; computed on each access.
  std::vector<PlanMoment> timeline{};
  int64_t trainable_parameters = 0;
  int64_t total_parameters = 0;
  /// Bytes of a paged base that each call of the plan with the largest arena reads from disk, or on a GPU from pinned
  /// memory.
  int64_t paged_read_bytes = 0;
  /// Bytes of activations on disk or in pinned memory that each call of a training plan writes and reads.
  int64_t offloaded_bytes = 0;
  /// Bytes of paged optimizer state on disk or in pinned memory that each update reads and writes.
  int64_t paged_state_bytes = 0;
  /// Whether file pages are released as soon as they are dropped, as on Linux; elsewhere the system decides when.
  bool drops_pages = false;

  friend bool operator==(const PlanReport&, const PlanReport&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("peakBytes", of.peak_bytes, false);
    visit("pinnedBytes", of.pinned_bytes, false);
    visit("rows", of.rows, false);
    visit("arenaBytes", of.arena_bytes, false);
    visit("peakAt", of.peak_at, false);
    visit("timeline", of.timeline, false);
    visit("trainableParameters", of.trainable_parameters, false);
    visit("totalParameters", of.total_parameters, false);
    visit("pagedReadBytes", of.paged_read_bytes, false);
    visit("offloadedBytes", of.offloaded_bytes, false);
    visit("pagedStateBytes", of.paged_state_bytes, false);
    visit("dropsPages", of.drops_pages, false);
  }
};

/// All tokens by id.
struct TokenTable {
  /// The bytes of all tokens, one after the other.
  std::vector<uint8_t> bytes{};
  /// Where each token ends in them; a token without bytes is never allowed.
  std::vector<int32_t> ends{};
  /// 1 for special tokens, which texts do not have.
  std::vector<uint8_t> special{};

  friend bool operator==(const TokenTable&, const TokenTable&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("bytes", of.bytes, false);
    visit("ends", of.ends, false);
    visit("special", of.special, false);
  }
};

/// States as lists of edges and of calls; those of state `s` are `begin[s]` to `begin[s + 1] - 1`.
struct GrammarTables {
  int start = 0;
  std::vector<int32_t> edge_begin{};
  /// Bytes `edgeLow[e]` to `edgeHigh[e]`, after which `edgeTo[e]` is next; in ascending order, without overlaps.
  std::vector<int32_t> edge_low{};
  std::vector<int32_t> edge_high{};
  std::vector<int32_t> edge_to{};
  std::vector<int32_t> call_begin{};
  /// A rule begins at `callStart[c]`, and at its end `callTo[c]` is next.
  std::vector<int32_t> call_start{};
  std::vector<int32_t> call_to{};
  /// 1 where a rule may end.
  std::vector<int32_t> accepts{};

  friend bool operator==(const GrammarTables&, const GrammarTables&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("start", of.start, false);
    visit("edgeBegin", of.edge_begin, false);
    visit("edgeLow", of.edge_low, false);
    visit("edgeHigh", of.edge_high, false);
    visit("edgeTo", of.edge_to, false);
    visit("callBegin", of.call_begin, false);
    visit("callStart", of.call_start, false);
    visit("callTo", of.call_to, false);
    visit("accepts", of.accepts, false);
  }
};

/// Settings of Adafactor.
struct AdafactorSettings {
  /// Of the means of squares: their decay at step t is 1 - t^decayRate.
  double decay_rate = -0.8;
  /// Added to squared gradients.
  double epsilon = 1e-30;
  /// Minimum root mean square of a parameter, if it scales the rate.
  double least_scale = 0.001;
  /// Maximum root mean square of an update.
  double clip_threshold = 1;
  /// Whether the rate is relative to the parameter's root mean square.
  bool scale_parameter = false;

  friend bool operator==(const AdafactorSettings&, const AdafactorSettings&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("decayRate", of.decay_rate, false);
    visit("epsilon", of.epsilon, false);
    visit("leastScale", of.least_scale, false);
    visit("clipThreshold", of.clip_threshold, false);
    visit("scaleParameter", of.scale_parameter, false);
  }
};

/// Settings shared by the parameters of one group.
struct GroupSettings {
  float learning_rate = 0;
  float weight_decay = 0;

  friend bool operator==(const GroupSettings&, const GroupSettings&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("learningRate", of.learning_rate, false);
    visit("weightDecay", of.weight_decay, false);
  }
};

/// Ranks that a step trains.
struct TrainedRanks {
  /// Number of leading ranks in use; 0 (default) is all.
  int64_t active = 0;
  /// Whether only the last of them gets gradients.
  bool last_only = false;

  friend bool operator==(const TrainedRanks&, const TrainedRanks&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("active", of.active, true);
    visit("lastOnly", of.last_only, true);
  }
};

/// Ranks that a step trains, each with its own count of updates.
struct RankDraws : TrainedRanks {
  /// `draws[b - 1]`: number of steps so far with b ranks in use, including this one.
  std::vector<int64_t> draws{};

  friend bool operator==(const RankDraws&, const RankDraws&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    TrainedRanks::each_key(of, visit);
    visit("draws", of.draws, false);
  }
};

/// An update of the trained parameters of an adapter.
struct OptimizerStep {
  OptimizerKind kind{};
  /// Momentum, for SGD.
  float beta1 = 0;
  float beta2 = 0;
  float epsilon = 0;
  AdafactorSettings adafactor{};
  /// By `ParameterSpec.group`.
  std::vector<GroupSettings> groups{};
  /// Global L2 norm above which gradients are scaled down; 0 or less turns clipping off.
  double max_grad_norm = 0;
  /// Norm of the gradient over all ranks, if this one has only a part of it. Default: that of the adapter's own.
  std::optional<double> grad_norm{};
  /// Optimizer step, counted from 1.
  int64_t step = 0;
  /// Update only rows of A and columns of B that got gradients. Default: update all.
  std::optional<RankDraws> ranks{};

  friend bool operator==(const OptimizerStep&, const OptimizerStep&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("kind", of.kind, false);
    visit("beta1", of.beta1, false);
    visit("beta2", of.beta2, false);
    visit("epsilon", of.epsilon, false);
    visit("adafactor", of.adafactor, true);
    visit("groups", of.groups, false);
    visit("maxGradNorm", of.max_grad_norm, false);
    visit("gradNorm", of.grad_norm, true);
    visit("step", of.step, false);
    visit("ranks", of.ranks, true);
  }
};

/// Kind and storage of the optimizer state of an adapter.
struct StateSpec {
  OptimizerKind kind{};
  /// Whether SGD has momentum. Default true.
  bool momentum = true;
  /// Block-wise 8-bit state of AdamW and Lion, for parameters of at least 4096 elements. Default false.
  bool eight_bit = false;
  /// Maximum bytes of state in memory, including the page cache; at least 1 MiB. Default: all, which is -1.
  int64_t resident = -1;
  /// Folder of the file for the rest.
  std::string folder{};
  /// Update each parameter during the backward pass (`TrainInput.update`) as soon as its gradient is complete:
  /// gradients live in the arena and never exist all at once. Not for private training. Default false.
  bool in_backward = false;

  friend bool operator==(const StateSpec&, const StateSpec&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("kind", of.kind, false);
    visit("momentum", of.momentum, true);
    visit("eightBit", of.eight_bit, true);
    visit("resident", of.resident, true);
    visit("folder", of.folder, true);
    visit("inBackward", of.in_backward, true);
  }
};

/// The end of a round of private training.
struct Release : TrainedRanks {
  /// 32 bytes; the noise is a function of (key, round, coordinate) only.
  std::vector<uint8_t> key{};
  uint64_t round = 0;
  /// Standard deviation of the noise added to each coordinate of the sum; 0 for none.
  double deviation = 0;
  /// Expected number of contributions, by which the sum is divided.
  double cohort = 0;

  friend bool operator==(const Release&, const Release&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    TrainedRanks::each_key(of, visit);
    visit("key", of.key, false);
    visit("round", of.round, false);
    visit("deviation", of.deviation, false);
    visit("cohort", of.cohort, false);
  }
};

/// The part of a weight update that survives quantization: sums over its elements, where d is the adapters' update and
/// q is the change in the quantized weight.
struct MergeSums {
  /// |d|^2
  double change = 0;
  /// <q, d>
  double kept = 0;
  /// |q - d|^2
  double error = 0;

  friend bool operator==(const MergeSums&, const MergeSums&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("change", of.change, false);
    visit("kept", of.kept, false);
    visit("error", of.error, false);
  }
};

/// Factors of a matrix.
struct Decomposition {
  /// `[rank, in]`
  std::vector<float> a{};
  /// `[out, rank]`
  std::vector<float> b{};
  /// Sum of the squares of the matrix's elements.
  double square = 0;
  /// The same for B A, the approximation of the matrix.
  double kept = 0;

  friend bool operator==(const Decomposition&, const Decomposition&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("a", of.a, false);
    visit("b", of.b, false);
    visit("square", of.square, false);
    visit("kept", of.kept, false);
  }
};

/// A weight as bitsandbytes stores it: bytes of codes and of scales, little-endian.
struct PackedWeight {
  /// `[ceil(elements / 2)]`, element 2j in the high nibble; for int8 `[elements]`, signed.
  std::vector<uint8_t> codes{};
  /// fp32 `[blocks]`, for int8 `[rows]`; with double quantization one code per block.
  std::vector<uint8_t> absmax{};
  /// fp32 `[ceil(blocks / 256)]`.
  std::vector<uint8_t> nested_absmax{};
  std::optional<float> absmax_offset{};

  friend bool operator==(const PackedWeight&, const PackedWeight&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("codes", of.codes, false);
    visit("absmax", of.absmax, false);
    visit("nestedAbsmax", of.nested_absmax, true);
    visit("absmaxOffset", of.absmax_offset, true);
  }
};

/// A packed micro-batch; sequence s is tokens cuSeqlens[s] .. cuSeqlens[s + 1] - 1.
struct MicroBatch {
  std::vector<int32_t> tokens{};
  std::vector<int32_t> cu_seqlens{};
  /// Token id to predict at each position, or -100; already shifted.
  std::vector<int32_t> labels{};

  friend bool operator==(const MicroBatch&, const MicroBatch&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("tokens", of.tokens, false);
    visit("cuSeqlens", of.cu_seqlens, false);
    visit("labels", of.labels, false);
  }
};

/// A micro-batch of a training step.
struct TrainInput : MicroBatch {
  /// Factor on every token's loss gradient: 1 / labeled tokens of the whole accumulation window.
  float loss_scale = 1;
  /// Weight of each labeled position in order, replacing `lossScale`; only, and required, for plans with `rowWeights`.
  std::vector<float> weights{};
  /// Divides the logits; default 1.
  float temperature = 1;
  /// Label smoothing: fraction of each label spread over the vocabulary; default 0.
  float label_smoothing = 0;
  /// Alpha of NEFTune's noise on the embeddings; default 0, no noise.
  float embedding_noise = 0;
  /// Counters for random dropout and noise.
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t micro_step = 0;
  /// Number of leading ranks in use; default all, which is 0.
  int64_t active_rank = 0;
  /// Whether only the last of those ranks gets gradients. Default false.
  bool last_rank_only = false;
  /// Clipping bound for the gradient of each sequence (a mean over its own labels), if the adapter is trained privately
  /// by `examples`: clipped gradients are added to the round's sum, and the adapter's gradient is unchanged.
  double clipping_norm = 0;
  /// True for the last micro-batch of this rank in a step. Its gradients are summed over ranks while the backward pass
  /// goes on; `sumGradients` waits for that. With an update, a batch without tokens is that of a rank that has no
  /// micro-batch in the step. Default false.
  bool last_of_step = false;
  /// Update to make during the backward pass, if and only if the adapter's state is `inBackward`; without clipping. If
  /// the loss is not finite, nothing is updated. Rejects with DIVERGED for a gradient that is not finite; parameters
  /// whose gradients came earlier in the backward pass have then been updated, as when the job is canceled.
  std::optional<OptimizerStep> update{};

  friend bool operator==(const TrainInput&, const TrainInput&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    MicroBatch::each_key(of, visit);
    visit("lossScale", of.loss_scale, false);
    visit("weights", of.weights, true);
    visit("temperature", of.temperature, true);
    visit("labelSmoothing", of.label_smoothing, true);
    visit("embeddingNoise", of.embedding_noise, true);
    visit("seed", of.seed, false);
    visit("step", of.step, false);
    visit("microStep", of.micro_step, false);
    visit("activeRank", of.active_rank, true);
    visit("lastRankOnly", of.last_rank_only, true);
    visit("clippingNorm", of.clipping_norm, true);
    visit("lastOfStep", of.last_of_step, true);
    visit("update", of.update, true);
  }
};

/// Input of an evaluation.
struct EvaluateInput : MicroBatch {
  /// Divides the logits; default 1.
  float temperature = 1;
  /// Return `logProbs`.
  bool want_log_probs = false;
  /// Return `logits`; rejects with CONFIG if they exceed what the plan holds at a time.
  bool want_logits = false;

  friend bool operator==(const EvaluateInput&, const EvaluateInput&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    MicroBatch::each_key(of, visit);
    visit("temperature", of.temperature, true);
    visit("wantLogProbs", of.want_log_probs, true);
    visit("wantLogits", of.want_logits, true);
  }
};

/// What a training step or an evaluation computed.
struct LossResult {
  /// Sum over labeled positions, nats.
  double loss_sum = 0;
  /// Number of labeled positions.
  int64_t count = 0;
  /// Gradient norms of the sequences before clipping, if they are clipped.
  std::vector<double> norms{};
  /// Norm of the gradient, if an update was made in the backward pass.
  std::optional<double> grad_norm{};
  /// Log-probability of each labeled position in order; for plans with `rowWeights`, or if requested.
  std::vector<float> log_probs{};
  /// Logits of each labeled position `[positions, labels]`; for evaluations, if requested.
  std::vector<float> logits{};
  /// Labeled positions whose label has the largest logit; for plans that count them.
  std::optional<int64_t> hits{};

  friend bool operator==(const LossResult&, const LossResult&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("lossSum", of.loss_sum, false);
    visit("count", of.count, false);
    visit("norms", of.norms, true);
    visit("gradNorm", of.grad_norm, true);
    visit("logProbs", of.log_probs, true);
    visit("logits", of.logits, true);
    visit("hits", of.hits, true);
  }
};

/// Numbers that are added to the logits of tokens.
struct LogitBias {
  std::vector<int32_t> ids{};
  /// As long as `ids`.
  std::vector<float> values{};

  friend bool operator==(const LogitBias&, const LogitBias&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("ids", of.ids, false);
    visit("values", of.values, false);
  }
};

/// How a token is drawn.
struct Sampling {
  /// 0 is greedy.
  float temperature = 0;
  /// 0: all.
  int64_t top_k = 0;
  float top_p = 1;
  uint64_t seed = 0;
  /// Counter for the random draw.
  uint64_t position = 0;
  /// Subtracted from a token's logit for each time that it is among `drawn`, before the temperature. Default 0.
  float frequency_penalty = 0;
  /// Subtracted once from the logit of each token among `drawn`. Default 0.
  float presence_penalty = 0;
  /// The answer so far, if there are penalties.
  std::vector<int32_t> drawn{};
  /// Added to the logits after the penalties.
  LogitBias logit_bias{};
  /// Only tokens that may come next are drawn; the drawn one moves it on.
  std::shared_ptr<TokenRules> rules{};

  friend bool operator==(const Sampling&, const Sampling&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("temperature", of.temperature, false);
    visit("topK", of.top_k, false);
    visit("topP", of.top_p, false);
    visit("seed", of.seed, false);
    visit("position", of.position, false);
    visit("frequencyPenalty", of.frequency_penalty, true);
    visit("presencePenalty", of.presence_penalty, true);
    visit("drawn", of.drawn, true);
    visit("logitBias", of.logit_bias, true);
    visit("rules", of.rules, true);
  }
};

/// Log-probabilities in nats in the model's own distribution, which temperature, penalties, biases, and grammars do not
/// change.
struct OwnLogProbs {
  /// Log-probability of the drawn token.
  double log_prob = 0;
  /// The likeliest tokens, in descending order; ties by id.
  std::vector<int32_t> top{};
  std::vector<double> top_log_probs{};

  friend bool operator==(const OwnLogProbs&, const OwnLogProbs&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("logProb", of.log_prob, false);
    visit("top", of.top, false);
    visit("topLogProbs", of.top_log_probs, false);
  }
};

/// New tokens of a text whose earlier ones are in the KV cache.
struct CachedText {
  std::vector<int32_t> tokens{};
  /// Number of tokens already in the KV cache, followed by the new ones.
  int64_t past = 0;
  /// Maximum tokens that the cached text may reach, which selects the frequencies in models with separate ones for long
  /// texts; must be the same in all calls for one text. Default: the tokens so far, including this call.
  int64_t reach = 0;

  friend bool operator==(const CachedText&, const CachedText&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("tokens", of.tokens, false);
    visit("past", of.past, false);
    visit("reach", of.reach, true);
  }
};

/// How the token after a text is drawn, and what is told of it.
struct Drawing {
  /// Sample the next token, from the last row.
  std::optional<Sampling> sampling{};
  /// Return the log-probability of that token.
  bool want_log_prob = false;
  /// Return `own`, with this many of the likeliest tokens.
  std::optional<int64_t> top_log_probs{};

  friend bool operator==(const Drawing&, const Drawing&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("sampling", of.sampling, true);
    visit("wantLogProb", of.want_log_prob, true);
    visit("topLogProbs", of.top_log_probs, true);
  }
};

/// New tokens of one of several texts that share a cache.
struct TextInput : CachedText, Drawing {
  /// First token of the text's own part of the cache.
  int64_t begin = 0;
  /// Numbers of the session's adapters that act on the text, ascending.
  std::vector<int32_t> adapters{};

  friend bool operator==(const TextInput&, const TextInput&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    CachedText::each_key(of, visit);
    Drawing::each_key(of, visit);
    visit("begin", of.begin, false);
    visit("adapters", of.adapters, false);
  }
};

/// New tokens of a text.
struct ForwardInput : CachedText, Drawing {
  /// Rows of `tokens` whose logits are needed, ascending; usually only the last, and none while processing a prompt.
  std::vector<int32_t> rows{};
  /// Return the logits `[rows, vocab]` (tests, scoring).
  bool want_logits = false;

  friend bool operator==(const ForwardInput&, const ForwardInput&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    CachedText::each_key(of, visit);
    Drawing::each_key(of, visit);
    visit("rows", of.rows, false);
    visit("wantLogits", of.want_logits, true);
  }
};

/// What came of new tokens of a text.
struct ForwardResult {
  /// The drawn token.
  std::optional<int> token{};
  /// Log-probability of `token` in nats: the softmax of logits / temperature over the whole vocabulary.
  std::optional<double> log_prob{};
  std::optional<OwnLogProbs> own{};
  /// `[rows, vocab]`, if requested.
  std::optional<std::vector<float>> logits{};

  friend bool operator==(const ForwardResult&, const ForwardResult&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("token", of.token, true);
    visit("logProb", of.log_prob, true);
    visit("own", of.own, true);
    visit("logits", of.logits, true);
  }
};

/// One trainable or frozen array of an adapter: `[rows, cols]` f32, row-major.
struct ParameterSpec {
  std::string name{};
  int64_t rows = 0;
  int64_t cols = 0;
  bool trained = false;
  /// Index into `OptimizerStep.groups`; default 0.
  int group = 0;

  friend bool operator==(const ParameterSpec&, const ParameterSpec&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("name", of.name, false);
    visit("rows", of.rows, false);
    visit("cols", of.cols, false);
    visit("trained", of.trained, false);
    visit("group", of.group, true);
  }
};

/// One computation at one linear layer or embedding, as data. The kind is implemented in native/adapters, which names
/// the parameter roles and the numbers, and rejects unknown ones; lib/strategies/terms.ts documents their meaning.
struct TermSpec {
  std::string kind{};
  /// Path of the node.
  std::string target{};
  /// Parameters by role. Several terms may use the same one (shared factors).
  std::map<std::string, ParameterIndex> parameters{};
  std::map<std::string, double> numbers{};

  friend bool operator==(const TermSpec&, const TermSpec&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("kind", of.kind, false);
    visit("target", of.target, false);
    visit("parameters", of.parameters, false);
    visit("numbers", of.numbers, false);
  }
};

/// A parameter that replaces a base weight of the same shape while the adapter is active: for full fine-tuning, and for
/// modules trained alongside a low-rank adapter.
struct WeightCopy {
  std::string weight{};
  ParameterIndex parameter{};

  friend bool operator==(const WeightCopy&, const WeightCopy&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("weight", of.weight, false);
    visit("parameter", of.parameter, false);
  }
};

/// Before each update, the gradient of the trained `b` [out, rank] becomes dB (A A^T + 1e-8 I)^-1 / scale^2, with the
/// frozen `a` [rank, in].
struct GradientProjection {
  ParameterIndex a{};
  ParameterIndex b{};
  float scale = 1;

  friend bool operator==(const GradientProjection&, const GradientProjection&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("a", of.a, false);
    visit("b", of.b, false);
    visit("scale", of.scale, false);
  }
};

/// Row i of `a` [rank, in], element i of `d` [1, rank], and column i of `b` [out, rank], all trained and in no other
/// triplet: a regularizer keeps the vectors nearly orthogonal, and updates track the importance of every element.
struct TripletSpec {
  ParameterIndex a{};
  ParameterIndex d{};
  ParameterIndex b{};
  /// Decays of the moving averages of sensitivity and uncertainty, in [0, 1).
  float beta1 = 0;
  float beta2 = 0;
  /// Weight of ||A A^T - I||_F + ||B^T B - I||_F, added to the loss; 0 turns it off.
  float orthogonal = 0;

  friend bool operator==(const TripletSpec&, const TripletSpec&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("a", of.a, false);
    visit("d", of.d, false);
    visit("b", of.b, false);
    visit("beta1", of.beta1, false);
    visit("beta2", of.beta2, false);
    visit("orthogonal", of.orthogonal, false);
  }
};

/// An adapter as data.
struct AdapterParts {
  std::vector<ParameterSpec> parameters{};
  /// At most one per node.
  std::vector<TermSpec> terms{};
  /// Default none.
  std::vector<WeightCopy> copies{};
  /// Default none.
  std::vector<GradientProjection> projections{};
  /// Default none.
  std::vector<TripletSpec> triplets{};
  /// What private training clips: gradients of `examples`, or updates of `clients` in a round. Only A and B of low-rank
  /// terms and copies of weights can be trained. With copies, or a term at an embedding, plans for examples have one
  /// sequence. Default none.
  Privacy privacy = Privacy::none;

  friend bool operator==(const AdapterParts&, const AdapterParts&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("parameters", of.parameters, false);
    visit("terms", of.terms, false);
    visit("copies", of.copies, true);
    visit("projections", of.projections, true);
    visit("triplets", of.triplets, true);
    visit("privacy", of.privacy, true);
  }
};

/// Totals over the launches of one kernel.
struct KernelCounts {
  std::string kernel{};
  int64_t launches = 0;
  /// Bytes read and written, counting each operand once per launch.
  int64_t bytes_moved = 0;
  /// Maximum workspace of a launch.
  int64_t workspace_bytes = 0;
  /// Multiply-adds of products; 0 for memory-bound kernels.
  double multiply_adds = 0;

  friend bool operator==(const KernelCounts&, const KernelCounts&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("kernel", of.kernel, false);
    visit("launches", of.launches, false);
    visit("bytesMoved", of.bytes_moved, false);
    visit("workspaceBytes", of.workspace_bytes, false);
    visit("multiplyAdds", of.multiply_adds, false);
  }
};

/// Work counted on a device that does not compute.
struct WorkCounts {
  /// All kernels, launched or not.
  std::vector<KernelCounts> kernels{};
  int64_t uploaded_bytes = 0;
  /// By the purpose of the read.
  std::map<std::string, int64_t> downloaded_bytes{};
  /// Bytes of activations offloaded, and fetched back.
  int64_t stashed_bytes = 0;
  int64_t fetched_bytes = 0;

  friend bool operator==(const WorkCounts&, const WorkCounts&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("kernels", of.kernels, false);
    visit("uploadedBytes", of.uploaded_bytes, false);
    visit("downloadedBytes", of.downloaded_bytes, false);
    visit("stashedBytes", of.stashed_bytes, false);
    visit("fetchedBytes", of.fetched_bytes, false);
  }
};

/// The work of a full micro-batch.
struct StepCounts : WorkCounts {
  /// The optimizer's update after the last micro-batch; absent without training, and if updates are made in the
  /// backward pass.
  std::optional<WorkCounts> update{};

  friend bool operator==(const StepCounts&, const StepCounts&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    WorkCounts::each_key(of, visit);
    visit("update", of.update, true);
  }
};

/// The processor, and how the engine uses it.
struct CpuInfo {
  /// Instruction-set level in use.
  std::string isa{};
  /// Levels that this machine supports.
  std::vector<std::string> levels{};
  int threads = 0;
  int cores = 0;
  /// Whether bf16 operands are faster on this machine.
  bool prefers_bf16 = false;

  friend bool operator==(const CpuInfo&, const CpuInfo&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("isa", of.isa, false);
    visit("levels", of.levels, false);
    visit("threads", of.threads, false);
    visit("cores", of.cores, false);
    visit("prefersBf16", of.prefers_bf16, false);
  }
};

/// Properties of a GPU that determine the workspace of its kernels.
struct CardSizes {
  /// Compute capability times ten.
  int sm = 0;
  int multiprocessors = 0;
  /// Maximum shared memory per block.
  int64_t shared_bytes = 0;

  friend bool operator==(const CardSizes&, const CardSizes&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("sm", of.sm, false);
    visit("multiprocessors", of.multiprocessors, false);
    visit("sharedBytes", of.shared_bytes, false);
  }
};

/// An NVIDIA GPU reported by the driver.
struct CudaCard : CardSizes {
  /// As in `cuda:N`.
  int number = 0;
  std::string name{};
  /// Address on the bus of the machine, the same for all processes.
  std::string bus{};
  int64_t memory_bytes = 0;
  /// Why it cannot be used; empty if it can.
  std::string reason{};

  friend bool operator==(const CudaCard&, const CudaCard&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    CardSizes::each_key(of, visit);
    visit("number", of.number, false);
    visit("name", of.name, false);
    visit("bus", of.bus, false);
    visit("memoryBytes", of.memory_bytes, false);
    visit("reason", of.reason, false);
  }
};

/// CUDA on this machine.
struct CudaReport {
  /// True if there is a GPU that can be used.
  bool available = false;
  /// CUDA version supported by the driver; empty without a driver.
  std::string version{};
  /// Why CUDA is unavailable, one reason per attempt.
  std::vector<std::string> reasons{};
  std::vector<CudaCard> cards{};

  friend bool operator==(const CudaReport&, const CudaReport&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("available", of.available, false);
    visit("version", of.version, false);
    visit("reasons", of.reasons, false);
    visit("cards", of.cards, false);
  }
};

/// Compressed code in the kernel pack.
struct PackedImage {
  /// In the file.
  int64_t offset = 0;
  /// Bytes there.
  int64_t stored = 0;
  /// Bytes once it is inflated.
  int64_t bytes = 0;

  friend bool operator==(const PackedImage&, const PackedImage&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("offset", of.offset, false);
    visit("stored", of.stored, false);
    visit("bytes", of.bytes, false);
  }
};

/// The compressed kernels that a GPU needs.
struct PackedKernels {
  /// The kernel pack.
  std::string path{};
  std::vector<PackedImage> images{};

  friend bool operator==(const PackedKernels&, const PackedKernels&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("path", of.path, false);
    visit("images", of.images, false);
  }
};

/// One of them, inflated.
struct InflatedImage {
  /// As in the pack.
  int64_t offset = 0;
  std::vector<uint8_t> bytes{};

  friend bool operator==(const InflatedImage&, const InflatedImage&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("offset", of.offset, false);
    visit("bytes", of.bytes, false);
  }
};

/// A library of MPI that can be opened.
struct MpiLibrary {
  std::string name{};
  std::string version{};

  friend bool operator==(const MpiLibrary&, const MpiLibrary&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("name", of.name, false);
    visit("version", of.version, false);
  }
};

/// Available MPI libraries.
struct MpiReport {
  /// Libraries that can be opened, by file name, with their own version strings.
  std::vector<MpiLibrary> libraries{};
  /// System messages for those that cannot be opened.
  std::vector<std::string> reasons{};

  friend bool operator==(const MpiReport&, const MpiReport&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("libraries", of.libraries, false);
    visit("reasons", of.reasons, false);
  }
};

/// The library for communication between GPUs.
struct NcclReport {
  /// Path or file name; empty if it cannot be used.
  std::string library{};
  std::string version{};
  /// Why it cannot be used; empty if it can.
  std::string reason{};

  friend bool operator==(const NcclReport&, const NcclReport&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("library", of.library, false);
    visit("version", of.version, false);
    visit("reason", of.reason, false);
  }
};

/// This process's rank among those that train together.
struct JoinedRanks {
  int rank = 0;
  int size = 0;
  /// Including its version.
  std::string library{};

  friend bool operator==(const JoinedRanks&, const JoinedRanks&) = default;
  template <class Of, class Visit>
  static void each_key(Of& of, const Visit& visit) {
    visit("rank", of.rank, false);
    visit("size", of.size, false);
    visit("library", of.library, false);
  }
};

}  // namespace lowrank
