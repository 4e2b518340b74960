// Made by scripts/lists.mjs from the headers that state kernels.
#pragma once

#include "kernels/adapter_kernels.h"
#include "kernels/columns.h"
#include "kernels/cross_entropy.h"
#include "kernels/delta_rule.h"
#include "kernels/elementwise.h"
#include "kernels/gated_unit.h"
#include "kernels/kronecker.h"
#include "kernels/norm.h"
#include "kernels/op_kernels.h"
#include "kernels/optimizer_kernels.h"
#include "kernels/rotation.h"
#include "kernels/rows_by_id.h"
#include "kernels/short_conv.h"

/// X(Kernel) for every kernel.
#define LOWRANK_KERNELS(X) \
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
  X(RowSquares) \
  X(Gram) \
  X(AdaptedRowNorms) \
  X(AddRatios) \
  X(RatiosOver) \
  X(MagnitudeGains) \
  X(SecondMoment) \
  X(GatherColumns) \
  X(ScatterColumns) \
  X(BiasGradient) \
  X(ScaleColumnsBackward) \
  X(CrossEntropy) \
  X(GatedDeltaRule) \
  X(GatedDeltaRuleBackward) \
  X(DeltaRuleGradient) \
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
  X(Kronecker) \
  X(KroneckerBackward) \
  X(KroneckerC) \
  X(SpreadKroneckerC) \
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
  X(DecodeRows) \
  X(AdamW) \
  X(Sgd) \
  X(Lion) \
  X(Adafactor) \
  X(SumOfSquares) \
  X(ProjectGradient) \
  X(Orthogonal) \
  X(FollowImportances) \
  X(CayleyNeumann) \
  X(CayleyNeumannBackward) \
  X(Rotate) \
  X(RotateBySeries) \
  X(RotationGradient) \
  X(EmbeddingGradient) \
  X(ShortConv) \
  X(SiluConvSlope) \
  X(ShortConvBackward) \
  X(ShortConvGradient) \
  X(KeepConvInputs)

/// Those whose functions are found by their structs.
#define LOWRANK_MOVED_KERNELS(X) \
  X(BiasGradient) \
  X(ScaleColumnsBackward) \
  X(CrossEntropy) \
  X(GatedDeltaRule) \
  X(GatedDeltaRuleBackward) \
  X(DeltaRuleGradient) \
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
  X(Kronecker) \
  X(KroneckerBackward) \
  X(KroneckerC) \
  X(SpreadKroneckerC) \
  X(RmsNorm) \
  X(RmsNormBackward) \
  X(NormGradient) \
  X(CayleyNeumann) \
  X(CayleyNeumannBackward) \
  X(Rotate) \
  X(RotateBySeries) \
  X(RotationGradient) \
  X(EmbeddingGradient) \
  X(ShortConv) \
  X(SiluConvSlope) \
  X(ShortConvBackward) \
  X(ShortConvGradient) \
  X(KeepConvInputs)

/// Those of them that need room beside their operands on some device.
#define LOWRANK_KERNELS_WITH_ROOM(X) \
  X(BiasGradient) \
  X(ScaleColumnsBackward) \
  X(GatedDeltaRule) \
  X(GatedDeltaRuleBackward) \
  X(Kronecker) \
  X(KroneckerBackward) \
  X(NormGradient) \
  X(CayleyNeumann) \
  X(CayleyNeumannBackward) \
  X(Rotate) \
  X(RotateBySeries) \
  X(RotationGradient) \
  X(ShortConvGradient)

namespace lowrank {

inline constexpr int kKernels = 71;

}  // namespace lowrank
