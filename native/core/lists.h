// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include <cstdint>
#include <string>

namespace lowrank {

/// Operations of a graph, each with its inputs by role.
enum class Op : uint8_t {
  embedding,
  rms_norm,
  linear,
  cast,
  add,
  rope,
  attention,
  swiglu,
  geglu,
  slice,
  lm_head,
};
inline constexpr const char* kOpNames[] = {
    "embedding",
    "rms_norm",
    "linear",
    "cast",
    "add",
    "rope",
    "attention",
    "swiglu",
    "geglu",
    "slice",
    "lm_head",
};
constexpr const char* name_of(Op value) { return kOpNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Op) { return kOpNames; }
/// The roles of its inputs; null: no more.
inline constexpr const char* kOpInputs[][3] = {
    {},
    {"x"},
    {"x"},
    {"x"},
    {"x"},
    {"x"},
    {"q", "k", "v"},
    {"gate", "up"},
    {"gate", "up"},
    {"x"},
    {"x"},
};

/// Kinds of weights of a graph.
enum class WeightKind : uint8_t {
  matrix,
  table,
  vector,
};
inline constexpr const char* kWeightKindNames[] = {
    "matrix",
    "table",
    "vector",
};
constexpr const char* name_of(WeightKind value) { return kWeightKindNames[static_cast<int>(value)]; }
constexpr const auto& names_of(WeightKind) { return kWeightKindNames; }

/// Types of values of a graph.
enum class ValueType : uint8_t {
  residual,
  operand,
};
inline constexpr const char* kValueTypeNames[] = {
    "residual",
    "operand",
};
constexpr const char* name_of(ValueType value) { return kValueTypeNames[static_cast<int>(value)]; }
constexpr const auto& names_of(ValueType) { return kValueTypeNames; }

/// Modes of plans; `forward` keeps a KV cache and serves generation (prefill and decode).
enum class Mode : uint8_t {
  train,
  evaluate,
  forward,
};
inline constexpr const char* kModeNames[] = {
    "train",
    "evaluate",
    "forward",
};
constexpr const char* name_of(Mode value) { return kModeNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Mode) { return kModeNames; }

/// Arrays of an adapter's parameter; sensitivity and uncertainty are of triplets, and zero before the first step.
enum class AdapterArray : uint8_t {
  value,
  gradient,
  sensitivity,
  uncertainty,
};
inline constexpr const char* kAdapterArrayNames[] = {
    "value",
    "gradient",
    "sensitivity",
    "uncertainty",
};
constexpr const char* name_of(AdapterArray value) { return kAdapterArrayNames[static_cast<int>(value)]; }
constexpr const auto& names_of(AdapterArray) { return kAdapterArrayNames; }

/// Decompositions of a weight into factors.
enum class FactorForm : uint8_t {
  svd,
  qr,
};
inline constexpr const char* kFactorFormNames[] = {
    "svd",
    "qr",
};
constexpr const char* name_of(FactorForm value) { return kFactorFormNames[static_cast<int>(value)]; }
constexpr const auto& names_of(FactorForm) { return kFactorFormNames; }

/// Results of locking a file: `held` where another descriptor has the lock, `unsupported` where the file system has no
/// locks.
enum class FileLock : uint8_t {
  taken,
  held,
  unsupported,
};
inline constexpr const char* kFileLockNames[] = {
    "taken",
    "held",
    "unsupported",
};
constexpr const char* name_of(FileLock value) { return kFileLockNames[static_cast<int>(value)]; }
constexpr const auto& names_of(FileLock) { return kFileLockNames; }

/// Phases of a plan's steps.
enum class Phase : uint8_t {
  forward,
  recompute,
  backward,
};
inline constexpr const char* kPhaseNames[] = {
    "forward",
    "recompute",
    "backward",
};
constexpr const char* name_of(Phase value) { return kPhaseNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Phase) { return kPhaseNames; }

/// Types of the operands of matrix products, as resolved; sums are fp32 either way.
enum class Precision : uint8_t {
  f32,
  bf16,
};
inline constexpr const char* kPrecisionNames[] = {
    "f32",
    "bf16",
};
constexpr const char* name_of(Precision value) { return kPrecisionNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Precision) { return kPrecisionNames; }

/// Units whose contributions private training clips, one by one.
enum class Privacy : uint8_t {
  none,
  examples,
  clients,
};
inline constexpr const char* kPrivacyNames[] = {
    "none",
    "examples",
    "clients",
};
constexpr const char* name_of(Privacy value) { return kPrivacyNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Privacy) { return kPrivacyNames; }

/// Kinds of optimizers.
enum class OptimizerKind : uint8_t {
  adamw,
  sgd,
  lion,
  adafactor,
};
inline constexpr const char* kOptimizerKindNames[] = {
    "adamw",
    "sgd",
    "lion",
    "adafactor",
};
constexpr const char* name_of(OptimizerKind value) { return kOptimizerKindNames[static_cast<int>(value)]; }
constexpr const auto& names_of(OptimizerKind) { return kOptimizerKindNames; }

/// Categories of memory; `paged_weights` is the part of a paged base's file that may be in memory.
enum class Category : uint8_t {
  weights,
  quantization_constants,
  paged_weights,
  adapters,
  gradients,
  optimizer,
  activations,
  kv_cache,
  loss,
  workspace,
};
inline constexpr const char* kCategoryNames[] = {
    "weights",
    "quantization_constants",
    "paged_weights",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "kv_cache",
    "loss",
    "workspace",
};
constexpr const char* name_of(Category value) { return kCategoryNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Category) { return kCategoryNames; }

/// Kinds of memory: the host's, that of the host which is pinned for copies to a device, and a device's own.
enum class Place : uint8_t {
  host,
  pinned,
  device,
};
inline constexpr const char* kPlaceNames[] = {
    "host",
    "pinned",
    "device",
};
constexpr const char* name_of(Place value) { return kPlaceNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Place) { return kPlaceNames; }

/// Element or block types of a file that weights are written to.
enum class FileType : uint8_t {
  f32,
  bf16,
  f16,
  q8_0,
};
inline constexpr const char* kFileTypeNames[] = {
    "f32",
    "bf16",
    "f16",
    "q8_0",
};
constexpr const char* name_of(FileType value) { return kFileTypeNames[static_cast<int>(value)]; }
constexpr const auto& names_of(FileType) { return kFileTypeNames; }

/// Element or block types of a tensor in a file. Those from `NF4` on have scales of their own.
enum class SourceDtype : uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  iq4_nl,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_xs,
  nf4,
  nf4_double,
  fp4,
  fp4_double,
  int8,
};
inline constexpr const char* kSourceDtypeNames[] = {
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q4_0",
    "Q4_1",
    "Q5_0",
    "Q5_1",
    "IQ4_NL",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_XS",
    "NF4",
    "NF4_DOUBLE",
    "FP4",
    "FP4_DOUBLE",
    "INT8",
};
constexpr const char* name_of(SourceDtype value) { return kSourceDtypeNames[static_cast<int>(value)]; }
constexpr const auto& names_of(SourceDtype) { return kSourceDtypeNames; }

/// Formats of a weight in memory; those called double also quantize the absmax values. The last ones are the blocks of
/// GGUF files. Weight files hold the number of a format, so the order stays.
enum class StorageFormat : uint8_t {
  f32,
  bf16,
  f16,
  nf4,
  nf4_double,
  fp4,
  fp4_double,
  int8,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  iq4_nl,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_xs,
};
inline constexpr const char* kStorageFormatNames[] = {
    "f32",
    "bf16",
    "f16",
    "nf4",
    "nf4_double",
    "fp4",
    "fp4_double",
    "int8",
    "q8_0",
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "iq4_nl",
    "q2_k",
    "q3_k",
    "q4_k",
    "q5_k",
    "q6_k",
    "iq4_xs",
};
constexpr const char* name_of(StorageFormat value) { return kStorageFormatNames[static_cast<int>(value)]; }
constexpr const auto& names_of(StorageFormat) { return kStorageFormatNames; }

/// Options of a plan.
struct PlanOptions {
  Mode mode = {};
  /// Most tokens of one call.
  int64_t tokens = 0;
  /// Most sequences of one call.
  int64_t sequences = 0;
  /// Most head rows of one call: labeled positions (train, evaluate), or positions whose logits are read (forward).
  int64_t head_rows = 0;
  Precision precision = {};
  /// `forward` only: tokens that the KV cache holds. There at least 1.
  int64_t kv_capacity = 0;
  /// `train` and `evaluate`: bytes of logits that are formed at a time, of one tile of rows at least. Default 48 MiB.
  int64_t logits_bytes = 50331648;
  /// `train` only: each block runs again in the backward pass, and its activations are not kept.
  bool recompute = false;
  /// With `recompute`: the inputs of blocks wait in a file.
  bool offload = false;
  /// The folder of that file, which a plan alone does not need.
  std::string offload_folder;
  /// With `recompute`: the output of attention is kept, so that attention does not run again.
  bool keep_attention = false;
  /// `evaluate` only: measures the output that the first adapter adds at each linear.
  bool output_norms = false;
  /// `train` only: each labeled position has its own weight in the loss, given with the call.
  bool row_weights = false;
  /// With `rowWeights`: the weights are given after the log-probabilities are known, and the logits are formed again.
  bool two_passes = false;
};
/// Calls with the name of each field in TypeScript, the field, and whether it may be absent.
template <class Visit>
void each_field(PlanOptions& fields, Visit&& visit) {
  visit("mode", fields.mode, false);
  visit("tokens", fields.tokens, false);
  visit("sequences", fields.sequences, false);
  visit("headRows", fields.head_rows, false);
  visit("precision", fields.precision, false);
  visit("kvCapacity", fields.kv_capacity, true);
  visit("logitsBytes", fields.logits_bytes, true);
  visit("recompute", fields.recompute, true);
  visit("offload", fields.offload, true);
  visit("offloadFolder", fields.offload_folder, true);
  visit("keepAttention", fields.keep_attention, true);
  visit("outputNorms", fields.output_norms, true);
  visit("rowWeights", fields.row_weights, true);
  visit("twoPasses", fields.two_passes, true);
}

}  // namespace lowrank
