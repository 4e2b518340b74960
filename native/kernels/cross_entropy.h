// The loss of rows of logits, and its gradient.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// loss[i] = logsumexp(logits[i]) - logits[i, labels[i]] in nats and, if `grad` is given, (softmax(logits[i]) -
/// onehot(labels[i])) weight, which may overwrite the logits. These are destroyed by it, and by an inverse temperature
/// other than 1, which multiplies them first. Label smoothing replaces onehot by (1 - smoothing) onehot + smoothing /
/// vocab.
struct CrossEntropy {
  static constexpr const char* kName = "cross_entropy";
  int64_t rows, vocab;
  Matrix logits;
  Ptr<int32_t> labels;
  float weight;
  Ptr<float> loss;
  Matrix grad;
  Ptr<float> weights = {};  // one per row, replacing `weight`
  Ptr<float> lse = {};      // logsumexp of each row, written; if `lse_known` it is read, and no loss is written
  bool lse_known = false;
  float inverse_temperature = 1;
  float smoothing = 0;
  void operands(Operands& see) const {
    grad.data || inverse_temperature != 1 ? see.spends(logits, rows, vocab) : see.reads(logits, rows, vocab);
    see.reads(labels, rows);
    if (grad.data) see.reads(weights, rows);
    lse_known ? see.reads(lse, rows) : see.writes(lse, rows);
    if (!lse_known) see.writes(loss, rows);
    see.writes(grad, rows, vocab);
  }
};

/// hits[i] = 1 if labels[i] has the largest of logits[i], the first one on a tie; else 0.
struct LabelHits {
  static constexpr const char* kName = "label_hits";
  int64_t rows, vocab;
  Matrix logits;
  Ptr<int32_t> labels;
  Ptr<float> hits;
  void operands(Operands& see) const {
    see.reads(logits, rows, vocab);
    see.reads(labels, rows);
    see.writes(hits, rows);
  }
};

}  // namespace lowrank
