// Made by scripts/lists.mjs from native/lists.json.
#pragma once

#include <cstdint>

namespace lowrank {

/// Operations of a graph, each with its inputs by role.
enum class Op : uint8_t {
  embedding,
  rms_norm,
  linear,
  rope,
  attention,
  swiglu,
  lm_head,
};
inline constexpr const char* kOpNames[] = {
    "embedding",
    "rms_norm",
    "linear",
    "rope",
    "attention",
    "swiglu",
    "lm_head",
};
constexpr const char* name_of(Op value) { return kOpNames[static_cast<int>(value)]; }
/// The roles of its inputs; null: no more.
inline constexpr const char* kOpInputs[][3] = {
    {},
    {"x"},
    {"x"},
    {"x"},
    {"q", "k", "v"},
    {"gate", "up"},
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

}  // namespace lowrank
