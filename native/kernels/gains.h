// Factors of rows: magnitudes over norms, and draws of rows under dropout.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// Row gains of an update under dropout: 0 where dropped, else 1, or 1 / (1 - p) with rescaling.
struct DrawRows {
  static constexpr const char* kName = "draw_rows";
  int64_t rows;
  float drop_row, drop_all;
  bool rescale;
  uint64_t key;
  Ptr<float> gains;
  void operands(Operands& see) const { see.writes(gains, rows); }
};

/// gain[i] += weight m[i] / c[i].
struct AddRatios {
  static constexpr const char* kName = "add_ratios";
  int64_t rows;
  float weight;
  Ptr<float> m, c, gain;
  void operands(Operands& see) const {
    see.reads(m, rows);
    see.reads(c, rows);
    see.adds(gain, rows);
  }
};

/// over[i] = (m[i] / c[i]) / gain[i], or 1 / gain[i] if m is null; a zero gain is first replaced by one too small to
/// affect any sum.
struct RatiosOver {
  static constexpr const char* kName = "ratios_over";
  int64_t rows;
  Ptr<float> m, c, gain, over;
  void operands(Operands& see) const {
    if (m) see.reads(c, rows);
    see.reads(m, rows);
    see.adds(gain, rows);
    see.writes(over, rows);
  }
};

/// gain[i] = m[i] / c[i], and share[i] = 1 / m[i] (0 for 0) if the scaled output is available, else 1 / c[i].
struct MagnitudeGains {
  static constexpr const char* kName = "magnitude_gains";
  int64_t rows;
  Ptr<float> m, c;
  bool of_scaled;
  Ptr<float> gain, share;
  void operands(Operands& see) const {
    see.reads(m, rows);
    see.reads(c, rows);
    see.writes(gain, rows);
    see.writes(share, rows);
  }
};

}  // namespace lowrank
