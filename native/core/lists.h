// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include <cstdint>

namespace lowrank {

/// Operations of a graph, each with its inputs by role and its attributes.
enum class Op : uint8_t {
  add,
  attention,
  cast,
  embedding,
  gated_delta_rule,
  gated_unit,
  linear,
  lm_head,
  receive,
  send,
  rms_norm,
  rope,
  short_conv,
  silu_conv,
  slice,
};
inline constexpr const char* kOpNames[] = {
    "add",
    "attention",
    "cast",
    "embedding",
    "gated_delta_rule",
    "gated_unit",
    "linear",
    "lm_head",
    "receive",
    "send",
    "rms_norm",
    "rope",
    "short_conv",
    "silu_conv",
    "slice",
};
constexpr const char* name_of(Op value) { return kOpNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Op) { return kOpNames; }
/// The roles of its inputs; null: no more.
inline constexpr const char* kOpInputs[][3] = {
    {"x"},
    {"q", "k", "v"},
    {"x"},
    {},
    {"x", "beta", "alpha"},
    {"gate", "up"},
    {"x"},
    {"x"},
    {},
    {"x"},
    {"x"},
    {"x"},
    {"x"},
    {"x"},
    {"x"},
};

/// Functions of one number; `gelu` uses the approximation by tanh.
enum class Activation : uint8_t {
  silu,
  gelu,
  sigmoid,
  relu2,
};
inline constexpr const char* kActivationNames[] = {
    "silu",
    "gelu",
    "sigmoid",
    "relu2",
};
constexpr const char* name_of(Activation value) { return kActivationNames[static_cast<int>(value)]; }
constexpr const auto& names_of(Activation) { return kActivationNames; }

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

/// Arrays of an adapter's parameter; sensitivity and uncertainty exist for triplets, and start at zero.
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

/// Results of locking a file: `taken` on success, `held` if another descriptor has the lock, `unsupported` if the file
/// system has no locks.
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

/// Resolved operand type of matrix products; sums are always fp32.
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

/// Units whose contributions are clipped individually in private training.
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

/// Categories of memory; `paged_weights` is the memory budget of a paged base.
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

/// Kinds of memory: host memory, host memory pinned for copies to a device, and device memory.
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

/// Element or block types for writing weights to a file.
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

/// Element or block types of a tensor in a file. Those from `NF4` on have separate scales.
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

/// Formats of a weight in memory; those called double also quantize the absmax values. The last ones are GGUF block
/// types. Weight files store the number of a format, so the order must not change.
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

/// Launchers of MPI by the way they connect ranks: Open MPI's own, or any that uses PMI or PMIx.
enum class MpiLauncher : uint8_t {
  open_mpi,
  pmi,
  pmix,
};
inline constexpr const char* kMpiLauncherNames[] = {
    "open_mpi",
    "pmi",
    "pmix",
};
constexpr const char* name_of(MpiLauncher value) { return kMpiLauncherNames[static_cast<int>(value)]; }
constexpr const auto& names_of(MpiLauncher) { return kMpiLauncherNames; }

/// Attributes of nodes; what an operation does not have keeps its default.
struct NodeAttributes {
  int residual = -1;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;
  int window = -1;
  int weight = -1;
  int bias = -1;
  int key_heads = 0;
  int key_dim = 0;
  Activation function = {};
  float eps = 0;
  float offset = 0;
  int table = 0;
  int first = 0;
};
/// Calls visit.<type>(name in TypeScript, attribute, whether it may be absent) for each attribute of an operation.
template <class Visit>
void each_attribute(Op op, NodeAttributes& of, Visit&& visit) {
  switch (op) {
    case Op::add:
      visit.value("residual", of.residual, false);
      return;
    case Op::attention:
      visit.integer("heads", of.heads, false);
      visit.integer("kvHeads", of.kv_heads, false);
      visit.integer("headDim", of.head_dim, false);
      visit.number("scale", of.scale, false);
      visit.integer("window", of.window, true);
      return;
    case Op::cast:
      return;
    case Op::embedding:
      visit.weight("weight", of.weight, false);
      visit.number("scale", of.scale, true);
      return;
    case Op::gated_delta_rule:
      visit.weight("weight", of.weight, false);
      visit.weight("bias", of.bias, false);
      visit.integer("heads", of.heads, false);
      visit.integer("keyHeads", of.key_heads, false);
      visit.integer("keyDim", of.key_dim, false);
      return;
    case Op::gated_unit:
      visit.choice("function", of.function, false);
      return;
    case Op::linear:
      visit.weight("weight", of.weight, false);
      visit.weight("bias", of.bias, true);
      visit.value("residual", of.residual, true);
      return;
    case Op::lm_head:
      visit.weight("weight", of.weight, false);
      return;
    case Op::receive:
      return;
    case Op::send:
      return;
    case Op::rms_norm:
      visit.weight("weight", of.weight, false);
      visit.number("eps", of.eps, false);
      visit.number("scale", of.scale, true);
      visit.number("offset", of.offset, true);
      return;
    case Op::rope:
      visit.integer("heads", of.heads, false);
      visit.integer("headDim", of.head_dim, false);
      visit.integer("table", of.table, true);
      return;
    case Op::short_conv:
      visit.weight("weight", of.weight, false);
      visit.weight("bias", of.bias, true);
      return;
    case Op::silu_conv:
      visit.weight("weight", of.weight, false);
      visit.weight("bias", of.bias, true);
      return;
    case Op::slice:
      visit.integer("first", of.first, false);
      visit.integer("heads", of.heads, true);
      return;
  }
}
/// True if nodes of the operation have no output.
constexpr bool ends(Op op) { return op == Op::lm_head || op == Op::send; }
/// Tokens between positions at which nodes of the operation keep their state, besides the end of a text; 0: they keep none.
constexpr int64_t state_block(Op op) {
  switch (op) {
    case Op::gated_delta_rule:
      return 512;
    case Op::short_conv:
      return 64;
    case Op::silu_conv:
      return 64;
    default:
      return 0;
  }
}

}  // namespace lowrank
