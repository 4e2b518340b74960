// Short convolutions within columns.
#pragma once

#include "kernels/operands.h"

namespace lowrank {

/// Weights of a convolution within columns: w [cols, taps], the last for the row itself, and bias [cols] or null. Its
/// input is B X of rows that hold B, C, and X [3 cols] if it is gated, and the rows themselves if it is not.
struct ConvWeights {
  bool gated;
  int64_t cols;
  int32_t taps;
  Ptr<float> w, bias;
  int64_t width() const { return gated ? 3 * cols : cols; }
  /// Lags at which a row at a position reads others, or itself.
  int64_t lags(int32_t position) const { return position < taps ? int64_t{position} + 1 : taps; }
};

/// out = C conv(B X), or silu(conv(x)) if it is not gated. A row of the input counts at lag j if the position of its
/// reader is at least j. Rows before the first are in `earlier` [taps - 1, cols] f32, at position modulo taps - 1.
struct ShortConv {
  static constexpr const char* kName = "short_conv";
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix earlier;
  Matrix out;
  void operands(Operands& see) const {
    see.reads(x, rows, conv.width());
    see.reads(conv.w, conv.cols * conv.taps);
    see.reads(conv.bias, conv.cols);
    see.reads(positions, rows);
    see.may_read(earlier, conv.taps - 1, conv.cols);
    see.writes(out, rows, conv.cols);
  }
};

/// dconv = dout silu'(conv(x)) of a convolution that is not gated.
struct SiluConvSlope {
  static constexpr const char* kName = "silu_conv_slope";
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix dout, dconv;
  void operands(Operands& see) const {
    see.reads(x, rows, conv.cols);
    see.reads(conv.w, conv.cols * conv.taps);
    see.reads(conv.bias, conv.cols);
    see.reads(positions, rows);
    see.reads(dout, rows, conv.cols);
    see.writes(dconv, rows, conv.cols);
  }
};

/// The gradient of x. If the convolution is not gated, `dout` is that of conv(x), and x is not read.
struct ShortConvBackward {
  static constexpr const char* kName = "short_conv_backward";
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix dout, dx;
  void operands(Operands& see) const {
    if (conv.gated) {
      see.reads(x, rows, conv.width());
      see.reads(conv.bias, conv.cols);
    }
    see.reads(conv.w, conv.cols * conv.taps);
    see.reads(positions, rows);
    see.reads(dout, rows, conv.cols);
    see.writes(dx, rows, conv.width());
  }
};

/// Adds the gradients of w and the bias, either of which may be null. If the convolution is not gated, `dout` is that
/// of conv(x). The weights themselves are not read.
struct ShortConvGradient {
  static constexpr const char* kName = "short_conv_gradient";
  static constexpr bool kNeedsRoom = true;
  int64_t rows;
  ConvWeights conv;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix dout;
  Ptr<float> dw, dbias;
  void operands(Operands& see) const {
    see.reads(x, rows, conv.width());
    see.reads(positions, rows);
    see.reads(dout, rows, conv.cols);
    see.adds(dw, conv.cols * conv.taps);
    see.adds(dbias, conv.cols);
  }
};

/// Keeps rows of the input by position p: the last `count` in `last`, at row p % count, and the last `count` of each
/// `block` of positions in `ends`, which has `count` rows per block from that of `past` on. positions[0] is `past` as
/// well.
struct KeepConvInputs {
  static constexpr const char* kName = "keep_conv_inputs";
  int64_t rows, past;
  bool gated;
  int64_t cols;
  int32_t count;
  int64_t block;
  Matrix x;
  Ptr<int32_t> positions;
  Matrix last, ends;
  void operands(Operands& see) const {
    const int64_t blocks = (past + rows - 1) / block + 1 - past / block;
    see.reads(x, rows, cols);
    if (gated) see.reads(x.columns(2 * cols), rows, cols);
    see.reads(positions, 1);
    see.adds(last, count, cols);
    see.adds(ends, blocks * count, cols);
  }
};

}  // namespace lowrank
