// Times the kernels of one part of a training step; benchmarks/laboratory/kernels.ts asks for one part after another.
//
//   lowrank_kernel_study --kind linear --tokens 512 --out 576 --in 576 --rank 16 --format nf4_double
//   lowrank_kernel_study --kind attention --sequences 1 --length 512 --heads 9 --kvHeads 3 --headDim 64 [--window 128]
//   lowrank_kernel_study --kind head_loss --tokens 512 --vocab 49152 --hidden 576 --format bf16
//     all take --precision f32|bf16 and --rounds N, and may take --threads N
//
// Prints a line of JSON: the kernels with their operations and least seconds, the peak or null, and of a head the bytes
// that its first call made resident.
#include <charconv>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>

#include "backends/cpu/device.h"
#include "core/error.h"
#include "kernel_study.h"
#include "os/scheduling.h"
#include "runtime/engine.h"

namespace lowrank {
namespace {

class Flags {
 public:
  Flags(int count, char** words) {
    for (int i = 1; i < count; i += 2) {
      if (std::strncmp(words[i], "--", 2) != 0 || i + 1 == count)
        fail("CONFIG", "expected --NAME VALUE at '", words[i], "'");
      values_[words[i] + 2] = words[i + 1];
    }
  }
  bool has(const char* name) const { return values_.count(name) > 0; }
  const std::string& text(const char* name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) fail("CONFIG", "--", name, " is missing");
    return found->second;
  }
  template <class Number = int64_t>
  Number number(const char* name) const {
    const std::string& given = text(name);
    Number number{};
    const auto [end, error] = std::from_chars(given.data(), given.data() + given.size(), number);
    if (error != std::errc() || end != given.data() + given.size())
      fail("CONFIG", "--", name, " is '", given, "'; expected a whole number");
    return number;
  }
  template <class Enumeration>
  Enumeration choice(const char* name) const {
    std::string known;
    int index = 0;
    for (const char* const each : names_of(Enumeration())) {
      if (text(name) == each) return static_cast<Enumeration>(index);
      known += (index++ == 0 ? "" : ", ") + std::string(each);
    }
    fail("CONFIG", "--", name, " is '", text(name), "'; expected one of ", known);
  }

 private:
  std::map<std::string, std::string> values_;
};

KernelStudy study_of(const Flags& flags) {
  KernelStudy study;
  study.precision = flags.choice<Precision>("precision");
  study.rounds = flags.number<int>("rounds");
  const auto integer = [&](const char* name) { return flags.number(name); };
  const auto index = [&](const char* name) { return flags.number<int32_t>(name); };
  const std::string& kind = flags.text("kind");
  if (kind == "linear") {
    study.subject = LinearStudy{integer("tokens"), integer("out"), integer("in"), integer("rank"),
                                flags.choice<StorageFormat>("format")};
  } else if (kind == "attention") {
    AttentionStudy attention{index("sequences"), index("length"), index("heads"), index("kvHeads"), index("headDim")};
    if (flags.has("window")) attention.window = index("window");
    study.subject = attention;
  } else if (kind == "head_loss") {
    study.subject =
        HeadStudy{integer("tokens"), integer("vocab"), integer("hidden"), flags.choice<StorageFormat>("format")};
  } else {
    fail("CONFIG", "--kind is '", kind, "'; expected linear, attention, or head_loss");
  }
  return study;
}

void print(const KernelTimes& times) {
  const char* before = "";
  std::printf("{\"kernels\":[");
  for (const KernelTime& kernel : times.kernels) {
    std::printf("%s{\"name\":\"%s\",\"operations\":%.17g,\"seconds\":%.17g}", before, kernel.name.c_str(),
                kernel.operations, kernel.seconds);
    before = ",";
  }
  if (times.peak)
    std::printf("],\"peak\":%.17g", *times.peak);
  else
    std::printf("],\"peak\":null");
  if (times.extra_bytes) std::printf(",\"extraBytes\":%lld", static_cast<long long>(*times.extra_bytes));
  std::printf("}\n");
}

void run(const Flags& flags) {
  const KernelStudy study = study_of(flags);
  Engine& engine = Engine::instance();
  if (flags.has("threads")) engine.configure(flags.number<int>("threads"), {});
  os::prefer_long_slices();
  Pool pool(engine.threads(), os::prefer_long_slices);
  cpu::CpuDevice device(pool, cpu::kernels(engine.level()), cpu::CpuSizes(engine.threads()));
  Context context{pool, device, &engine.comm()};
  print(time_kernels(context, study));
}

}  // namespace
}  // namespace lowrank

int main(int count, char** words) {
  try {
    lowrank::run(lowrank::Flags(count, words));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lowrank_kernel_study: %s\n", error.what());
    return 1;
  }
}
