// Every kernel that a step may launch, as a value: what it computes, and the location of its operands. Devices
// implement kernels; planning, tracing, and counting visit them. Activations are row-major; operands are f32 or bf16
// according to the plan's precision; the residual stream and all statistics are f32. `operands` declares the memory a
// kernel accesses, which LOWRANK_CHECK=operands verifies.
#pragma once

#include <variant>
#include <vector>

#include "kernels/adapter_kernels.h"
#include "kernels/op_kernels.h"
#include "kernels/optimizer_kernels.h"

namespace lowrank {

using Kernel = std::variant<GemmNt, GroupedGemmNt, GemmNn, ReduceTokens, RmsNorm, RmsNormBackward, NormGradient, Rope, AppendToCache,
                            Attention, AttentionBackward, Swiglu, SwigluBackward, Geglu, GegluBackward, Glu,
                            GluBackward, ShortConv, SiluConvSlope, ShortConvBackward, ShortConvGradient, KeepConvInputs,
                            GatedDeltaRule, GatedDeltaRuleBackward, DeltaRuleGradient, GatherRows, ScatterAddRows, CrossEntropy, Zero, Cast, AddConstant, AddNoise, DecodeRows, EmbeddingGradient,
                            BiasGradient, Dropout, DropoutBackward,
                            ScaleColumns, ScaleColumnsBackward, Fold, FoldGradient, FoldSnapshot, BuildPairA, FoldPair,
                            SpreadPairA, SpreadPairB, AddPair, SplitPair, DrawRows, Kronecker, KroneckerBackward,
                            KroneckerC, SpreadKroneckerC, CayleyNeumann, CayleyNeumannBackward, Rotate,
                            RotateBySeries, RotationGradient, RowSquares, Gram, AdaptedRowNorms, AddRatios, RatiosOver,
                            MagnitudeGains, SecondMoment, GatherColumns, ScatterColumns, AdamW, Sgd, Lion,
                            Adafactor, SumOfSquares, ProjectGradient, Orthogonal, FollowImportances>;

/// Names of all kernels.
std::vector<const char*> kernel_names();
inline const char* name_of(const Kernel& kernel) {
  return std::visit([](const auto& k) { return k.kName; }, kernel);
}

/// Minimum multiply-adds of products: for Kronecker products in the cheaper order. 0 for kernels without products and
/// for memory-bound ones.
double multiply_adds(const Kernel& kernel);

}  // namespace lowrank
