// Rows of tables whose elements need no decoding.
#pragma once

static void run(const Cpu& cpu, const DecodeRows& k) {
  const WeightView table = view(cpu, k.table);
  const auto copy = [&](auto element) {
    using T = decltype(element);
    for_gathered(cpu, k, [&](int64_t first, int64_t last) {
      for_rows(cpu.pool, last - first, table.cols, [&](int64_t row) {
        const T* const from = static_cast<const T*>(table.data) + host(k.ids)[first + row] * table.ld;
        float* const to = row_as<float>(k.out, first + row);
        if constexpr (std::is_same_v<T, float>) {
          std::memcpy(to, from, static_cast<size_t>(table.cols) * sizeof(float));
        } else {
          convert_row(from, to, table.cols);
        }
      });
    });
  };
  switch (table.format) {
    case WeightFormat::f32:
      return copy(float{});
    case WeightFormat::bf16:
      return copy(Bf16{});
    case WeightFormat::f16:
      return copy(F16{});
    default:
      return reference(cpu, k);
  }
}
