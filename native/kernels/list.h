// Made by scripts/lists.mjs from the headers that state kernels.
#pragma once

#include "kernels/adafactor.h"
#include "kernels/attention.h"
#include "kernels/columns.h"
#include "kernels/cross_entropy.h"
#include "kernels/delta_rule.h"
#include "kernels/elementwise.h"
#include "kernels/factors.h"
#include "kernels/gains.h"
#include "kernels/gated_unit.h"
#include "kernels/gemm.h"
#include "kernels/kronecker.h"
#include "kernels/norm.h"
#include "kernels/pair.h"
#include "kernels/projection.h"
#include "kernels/rotation.h"
#include "kernels/row_norms.h"
#include "kernels/rows_by_id.h"
#include "kernels/short_conv.h"
#include "kernels/sum_of_squares.h"
#include "kernels/times_weight.h"
#include "kernels/updates.h"

/// X(Kernel) for every kernel.
#define LOWRANK_KERNELS(X) \
  X(Adafactor) \
  X(AppendToCache) \
  X(Attention) \
  X(AttentionBackward) \
  X(BiasGradient) \
  X(ScaleColumnsBackward) \
  X(CrossEntropy) \
  X(LabelHits) \
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
  X(Fold) \
  X(FoldGradient) \
  X(FoldSnapshot) \
  X(BuildPairA) \
  X(FoldPair) \
  X(SpreadPairA) \
  X(SpreadPairB) \
  X(DrawRows) \
  X(AddRatios) \
  X(RatiosOver) \
  X(MagnitudeGains) \
  X(GatedUnit) \
  X(GatedUnitBackward) \
  X(GemmNt) \
  X(GroupedGemmNt) \
  X(GemmNtByRow) \
  X(GemmNn) \
  X(ReduceTokens) \
  X(Kronecker) \
  X(KroneckerBackward) \
  X(KroneckerC) \
  X(SpreadKroneckerC) \
  X(RmsNorm) \
  X(RmsNormBackward) \
  X(NormGradient) \
  X(AddPair) \
  X(SplitPair) \
  X(ProjectGradient) \
  X(Orthogonal) \
  X(CayleyNeumann) \
  X(CayleyNeumannBackward) \
  X(Rotate) \
  X(RotateBySeries) \
  X(RotationGradient) \
  X(RowSquares) \
  X(Gram) \
  X(AdaptedRowNorms) \
  X(SecondMoment) \
  X(DecodeRows) \
  X(EmbeddingGradient) \
  X(GatherColumns) \
  X(ScatterColumns) \
  X(ShortConv) \
  X(SiluConvSlope) \
  X(ShortConvBackward) \
  X(ShortConvGradient) \
  X(KeepConvInputs) \
  X(SumOfSquares) \
  X(TimesWeight) \
  X(AdamW) \
  X(Sgd) \
  X(Lion) \
  X(FollowImportances)

/// X(Kernel) for kernels that need room beside their operands on some device.
#define LOWRANK_KERNELS_WITH_ROOM(X) \
  X(Adafactor) \
  X(Attention) \
  X(AttentionBackward) \
  X(BiasGradient) \
  X(ScaleColumnsBackward) \
  X(GatedDeltaRule) \
  X(GatedDeltaRuleBackward) \
  X(FoldGradient) \
  X(GemmNt) \
  X(GroupedGemmNt) \
  X(GemmNtByRow) \
  X(GemmNn) \
  X(ReduceTokens) \
  X(Kronecker) \
  X(KroneckerBackward) \
  X(NormGradient) \
  X(ProjectGradient) \
  X(Orthogonal) \
  X(CayleyNeumann) \
  X(CayleyNeumannBackward) \
  X(Rotate) \
  X(RotateBySeries) \
  X(RotationGradient) \
  X(SecondMoment) \
  X(ShortConvGradient) \
  X(SumOfSquares) \
  X(TimesWeight)

namespace lowrank {

inline constexpr int kKernels = 74;

}  // namespace lowrank
