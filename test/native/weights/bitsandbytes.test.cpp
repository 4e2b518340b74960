// Loaded quantized weights against those of bitsandbytes (test/parity/nf4 and quantized) and the hashes of
// dequantized model weights (test/parity/lora/cases.json).
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "golden.h"
#include "quant/four_bit_packing.h"
#include "quant/sha256.h"
#include "weights/weights.h"

namespace {

using namespace lowrank;

SourceDtype dtype_of(const std::string& name) {
  if (name == "F32") return SourceDtype::f32;
  if (name == "F16") return SourceDtype::f16;
  if (name == "BF16") return SourceDtype::bf16;
  throw std::runtime_error("unexpected dtype " + name);
}

TensorSource source_of(const test::GoldenFile& file, const std::string& name) {
  const test::GoldenTensor& tensor = file.at(name);
  TensorSource source{name, file.path(), tensor.offset, tensor.bytes, dtype_of(tensor.dtype), 1, 1, 0};
  source.cols = tensor.shape.back();
  for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) source.rows *= tensor.shape[i];
  return source;
}

std::vector<std::string> cases(const test::GoldenFile& file) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : file.tensors()) {
    if (name.ends_with(".input")) names.push_back(name.substr(0, name.size() - 6));
  }
  return names;
}

std::vector<float> decoded(const Weight& weight) {
  std::vector<float> values(weight.rows() * weight.cols());
  for (int64_t row = 0; row < weight.rows(); ++row) {
    decode_row(weight.view(), row, 0, weight.cols(), values.data() + row * weight.cols());
  }
  return values;
}

/// bitsandbytes rounds to the dtype that the weights had; ours stay fp32 until a kernel rounds them.
void check_values(const test::GoldenFile& file, const std::string& name, const std::vector<float>& ours) {
  const std::string dtype = file.at(name).dtype;
  if (dtype == "F32") {
    CHECK(ours == file.values<float>(name));
    return;
  }
  const auto theirs = file.values<uint16_t>(name);
  REQUIRE(theirs.size() == ours.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    if (dtype == "BF16") {
      CHECK_EQ(f32_from_bf16(bf16_from_f32(ours[i])), f32_from_bf16(theirs[i]));
    } else {
      const float value = f32_from_f16(theirs[i]);
      CHECK_LE(std::fabs(ours[i] - value), std::fabs(ours[i]) * 0x1p-11f + 0x1p-25f);  // half a unit in the last place
    }
  }
}

}  // namespace

TEST("loaded NF4 weights have the bytes, scales and values of bitsandbytes") {
  const test::GoldenFile file("nf4/nf4.safetensors");
  Pool pool(2);
  REQUIRE(cases(file).size() > 40);
  for (const std::string& name : cases(file)) {
    const Weight weight = load_weight(pool, source_of(file, name + ".input"), StorageFormat::nf4);
    const int64_t count = weight.rows() * weight.cols();
    std::vector<uint8_t> packed(packed_code_bytes(count));
    pack_codes(static_cast<const uint8_t*>(weight.data()), count, packed.data());
    if (packed != file.values<uint8_t>(name + ".packed")) CHECK_EQ(name, "packed bytes");
    const std::vector<float> absmax(weight.absmax(), weight.absmax() + code_blocks(count));
    if (absmax != file.values<float>(name + ".absmax")) CHECK_EQ(name, "absmax");
    check_values(file, name + ".dequantized", decoded(weight));
  }
}

TEST("double quantization gives the nearest codes and the nested scales and mean of bitsandbytes") {
  const test::GoldenFile file("nf4/nf4.safetensors");
  Pool pool(2);
  for (const std::string& name : cases(file)) {
    const Weight weight = load_weight(pool, source_of(file, name + ".input"), StorageFormat::nf4_double);
    const int64_t blocks = code_blocks(weight.rows() * weight.cols());
    const std::vector<uint8_t> codes(weight.absmax_codes(), weight.absmax_codes() + blocks);
    if (codes != file.values<uint8_t>(name + ".double.exact_codes")) CHECK_EQ(name, "codes");
    const std::vector<float> nested(weight.nested_absmax(), weight.nested_absmax() + nested_blocks(blocks));
    if (nested != file.values<float>(name + ".double.nested_absmax")) CHECK_EQ(name, "nested_absmax");
    std::vector<float> scales(blocks);
    for (int64_t b = 0; b < blocks; ++b) scales[b] = weight.view().scale_of_block(b);
    if (scales != file.values<float>(name + ".double.exact_absmax")) CHECK_EQ(name, "reconstructed absmax");
  }
}

TEST("codes that bitsandbytes stored decode to its values") {
  const test::GoldenFile file("nf4/nf4.safetensors");
  for (const std::string& name : cases(file)) {
    const TensorSource source = source_of(file, name + ".input");
    const int64_t count = source.rows * source.cols;
    const auto packed = file.values<uint8_t>(name + ".packed");
    const auto absmax = file.values<float>(name + ".double.absmax");
    std::vector<uint8_t> codes(code_bytes(count));
    unpack_codes(packed.data(), count, zero_code(FourBit::nf4), codes.data());
    WeightView view;
    view.format = WeightFormat::four_bit;
    view.rows = 1;
    view.cols = count;
    view.data = codes.data();
    view.absmax = absmax.data();
    std::vector<float> values(count);
    decode_row(view, 0, 0, count, values.data());
    check_values(file, name + ".double.dequantized", values);
  }
}

TEST("FP4 weights decode to the values of bitsandbytes, and int8 weights have its codes, scales and values") {
  const test::GoldenFile file("quantized/quantized.safetensors");
  Pool pool(2);
  REQUIRE(cases(file).size() == 6);
  for (const std::string& name : cases(file)) {
    const TensorSource source = source_of(file, name + ".input");
    check_values(file, name + ".fp4", decoded(load_weight(pool, source, StorageFormat::fp4)));
    const Weight int8 = load_weight(pool, source, StorageFormat::int8);
    const auto* codes = static_cast<const int8_t*>(int8.data());
    CHECK(std::vector<int8_t>(codes, codes + source.rows * source.cols) == file.values<int8_t>(name + ".int8.codes"));
    CHECK(std::vector<float>(int8.absmax(), int8.absmax() + source.rows) == file.values<float>(name + ".int8.absmax"));
    CHECK(decoded(int8) == file.values<float>(name + ".int8"));
  }
}

TEST("the tables equal those of bitsandbytes bit for bit") {
  const test::GoldenFile file("nf4/nf4.safetensors");
  CHECK(file.values<float>("nf4_map") == std::vector<float>(kNf4Values, kNf4Values + 16));
  const test::GoldenFile others("quantized/quantized.safetensors");
  CHECK(others.values<float>("fp4_map") == std::vector<float>(kFp4Values, kFp4Values + 16));
  CHECK(file.values<float>("dynamic_map") == std::vector<float>(kDynamicMap, kDynamicMap + 256));
}

/// Compares the weights of a model that a case of lora/cases.json has hashes of under `key`; returns how many.
int compare_hashes(const std::string& name, const std::string& key, const std::string& folder, StorageFormat format) {
  const std::string text = test::read_text(test::parity_path("lora/cases.json"));
  const test::GoldenFile model("models/" + folder + "/model.safetensors");
  Pool pool(2);
  int compared = 0;
  // "weights_sha256": {"model.layers.0.self_attn.q_proj": "b9af…", …}
  const size_t list = text.find('{', text.find('"' + key + '"', text.find("\"name\": \"" + name + '"')));
  REQUIRE(list != std::string::npos);
  const size_t end = text.find('}', list);
  for (size_t at = text.find('"', list); at < end; ++compared) {
    const std::string module = text.substr(at + 1, text.find('"', at + 1) - at - 1);
    const size_t hash = at + module.size() + 5;
    const Weight weight = load_weight(pool, source_of(model, module + ".weight"), format);
    const std::vector<float> values = decoded(weight);
    CHECK_EQ(test::sha256(values.data(), values.size() * sizeof(float)), text.substr(hash, 64));
    at = text.find('"', hash + 65);
  }
  return compared;
}

TEST("a model's linears quantize to weights with the hashes that bitsandbytes' values have") {
  CHECK_EQ(compare_hashes("nf4", "weights_sha256", "llama3", StorageFormat::nf4), 14);
}

TEST("so do its embedding and head") {
  CHECK_EQ(compare_hashes("tables_int8", "tables_sha256", "smollm2", StorageFormat::int8), 1);
  CHECK_EQ(compare_hashes("tables_nf4", "tables_sha256", "llama3", StorageFormat::nf4), 2);
  CHECK_EQ(compare_hashes("tables_nf4_double", "tables_sha256", "odd", StorageFormat::nf4_double), 2);
}
