#include "runtime/session.h"

#include <cmath>
#include <limits>

#include "check.h"

using namespace lowrank;

TEST("drawing a token from logits that are not finite says so instead of drawing") {
  float logits[] = {0, 3, 1};
  Sampling greedy, drawn;
  drawn.temperature = 1;
  CHECK_EQ(sample_token(logits, 3, greedy), 1);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    logits[2] = bad;
    CHECK_THROWS(sample_token(logits, 3, greedy), "the logit of token 2 is");
    CHECK_THROWS(sample_token(logits, 3, drawn), "the logit of token 2 is");
  }
}
