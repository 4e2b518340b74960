// Made by scripts/lists.mjs from the headers that state kernels.
#pragma once

#include "kernels/adapter_kernels.h"
#include "kernels/elementwise.h"
#include "kernels/gated_unit.h"
#include "kernels/norm.h"
#include "kernels/op_kernels.h"
#include "kernels/optimizer_kernels.h"

/// X(Kernel) for every kernel.
#define LOWRANK_KERNELS(X) \
  X(ScaleColumnsBackward) \
  X(Fold) \
  X(FoldGradient) \
  X(FoldSnapshot) \
  X(BuildPairA) \
  X(FoldPair) \
  X(SpreadPairA) \
  X(SpreadPairB) \
  X(AddPair) \
  X(SplitPair) \
  X(DrawRows) \
  X(Kronecker) \
  X(KroneckerBackward) \
  X(KroneckerC) \
  X(SpreadKroneckerC) \
  X(CayleyNeumann) \
  X(CayleyNeumannBackward) \
  X(Rotate) \
  X(RotateBySeries) \
  X(RotationGradient) \
  X(RowSquares) \
  X(Gram) \
  X(AdaptedRowNorms) \
  X(AddRatios) \
  X(RatiosOver) \
  X(MagnitudeGains) \
  X(SecondMoment) \
  X(GatherColumns) \
  X(ScatterColumns) \
  X(Rope) \
  X(GatherRows) \
  X(ScatterAddRows) \
  X(Zero) \
  X(Cast) \
  X(AddConstant) \
  X(AddNoise) \
  X(Dropout) \
  X(DropoutBackward) \
  X(ScaleColumns) \
  X(GatedUnit) \
  X(GatedUnitBackward) \
  X(RmsNorm) \
  X(RmsNormBackward) \
  X(NormGradient) \
  X(GemmNt) \
  X(GroupedGemmNt) \
  X(GemmNn) \
  X(ReduceTokens) \
  X(AppendToCache) \
  X(Attention) \
  X(AttentionBackward) \
  X(ShortConv) \
  X(SiluConvSlope) \
  X(ShortConvBackward) \
  X(ShortConvGradient) \
  X(KeepConvInputs) \
  X(GatedDeltaRule) \
  X(GatedDeltaRuleBackward) \
  X(DeltaRuleGradient) \
  X(CrossEntropy) \
  X(DecodeRows) \
  X(EmbeddingGradient) \
  X(BiasGradient) \
  X(AdamW) \
  X(Sgd) \
  X(Lion) \
  X(Adafactor) \
  X(SumOfSquares) \
  X(ProjectGradient) \
  X(Orthogonal) \
  X(FollowImportances)

/// Those whose functions are found by their structs.
#define LOWRANK_MOVED_KERNELS(X) \
  X(Rope) \
  X(GatherRows) \
  X(ScatterAddRows) \
  X(Zero) \
  X(Cast) \
  X(AddConstant) \
  X(AddNoise) \
  X(Dropout) \
  X(DropoutBackward) \
  X(ScaleColumns) \
  X(GatedUnit) \
  X(GatedUnitBackward) \
  X(RmsNorm) \
  X(RmsNormBackward) \
  X(NormGradient)

/// Those of them that need room beside their operands on some device.
#define LOWRANK_KERNELS_WITH_ROOM(X) \
  X(NormGradient)

namespace lowrank {

inline constexpr int kKernels = 71;

}  // namespace lowrank
