#include "adapters/kronecker.h"

#include "adapters/check.h"
#include "core/error.h"

namespace lowrank {

KroneckerShape kronecker_shape(const AdapterSpec& spec, const KroneckerSlot& slot) {
  const auto of = [&](int index) -> const ParameterSpec& { return spec.parameters[index]; };
  return {of(slot.c).rows, of(slot.c2 >= 0 ? slot.c2 : slot.c).cols, of(slot.d).rows,
          of(slot.d2 >= 0 ? slot.d2 : slot.d).cols, slot.d2 >= 0 ? of(slot.d).cols : 0};
}

void check_kronecker(const AdapterSpec& spec, const KroneckerSlot& slot) {
  if (slot.c < 0 || slot.d < 0) fail("SHAPE", "adapter at ", slot.target, " needs both C and D");
  for (const auto& [name, first, second] : {std::tuple{"C", slot.c, slot.c2}, {"D", slot.d, slot.d2}}) {
    if (second < 0) continue;
    const ParameterSpec &a = spec.parameters[first], &b = spec.parameters[second];
    if (a.cols != b.rows)
      fail("SHAPE", "adapter at ", slot.target, ": ", name, " is a product of [", a.rows, ", ", a.cols, "] and [", b.rows,
           ", ", b.cols, "]");
  }
  check_dropout(slot.delta_dropout, slot.target);
}

const float* kronecker_c(const Adapter& adapter, const KroneckerSlot& slot, float* room) {
  if (slot.c2 < 0) return adapter.data(slot.c);
  const KroneckerShape s = kronecker_shape(adapter.spec(), slot);
  multiply_small(s.l, adapter.spec().parameters[slot.c].cols, s.p, adapter.data(slot.c), adapter.data(slot.c2), room);
  return room;
}

KroneckerRows::KroneckerRows(const Adapter& adapter, const KroneckerSlot& slot)
    : shape_(kronecker_shape(adapter.spec(), slot)), scale_(slot.scale), c_(shape_.l * shape_.p) {
  const float* c = kronecker_c(adapter, slot, c_.data());
  c_.assign(c, c + shape_.l * shape_.p);
  const float* d = adapter.data(slot.d);
  d_.assign(d, d + shape_.d_elements());
  if (slot.d2 < 0) return;
  d_.resize(shape_.k * shape_.q);
  multiply_small(shape_.k, shape_.r, shape_.q, d, adapter.data(slot.d2), d_.data());
}

void KroneckerRows::add_row(int64_t row, float weight, float* out) const {
  const float* c = c_.data() + row / shape_.k * shape_.p;
  const float* d = d_.data() + row % shape_.k * shape_.q;
  for (int64_t a = 0; a < shape_.p; ++a) {
    const float factor = weight * scale_ * c[a];
    for (int64_t b = 0; b < shape_.q; ++b) out[a * shape_.q + b] += factor * d[b];
  }
}

}  // namespace lowrank
