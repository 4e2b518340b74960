// Made by scripts/lists.mjs from the headers that state terms.
#pragma once

#include "adapters/embedding_term.h"
#include "adapters/hadamard_term.h"
#include "adapters/kronecker_term.h"
#include "adapters/low_rank_term.h"
#include "adapters/pair_term.h"
#include "adapters/rotation_term.h"

/// X(Term) for every kind of term.
#define LOWRANK_TERMS(X) \
  X(EmbeddingTerm) \
  X(HadamardTerm) \
  X(KroneckerTerm) \
  X(LowRank) \
  X(PairTerm) \
  X(RotationTerm)
