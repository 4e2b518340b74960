// Runs the native tests: all of them, those of one file, those named by title, or every Nth, beginning with the Kth.
//
//   lowrank_tests [--list] [--file FILE] [--part K/N] [TITLE]...
//
// Prints "run TITLE", then its failures indented, then "ok", "fail" or "skip" with the title, so that a crash
// shows which case it was in. Exits 1 when a case failed, 2 when nothing matched.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "check.h"

namespace lowrank::test {
namespace {

std::vector<Case>& registry() {
  static std::vector<Case> cases;
  return cases;
}

std::mutex report_mutex;
int failures_of_case = 0;
std::string scopes;

enum class Outcome { ok, fail, skip };

Outcome run(const Case& test) {
  std::printf("run %s\n", test.title);
  std::fflush(stdout);
  failures_of_case = 0;
  try {
    test.body();
  } catch (const Abandoned&) {
  } catch (const Skipped& skipped) {
    if (failures_of_case == 0) {
      std::printf("  %s\nskip %s\n", skipped.reason.c_str(), test.title);
      return Outcome::skip;
    }
  } catch (const std::exception& error) {
    report(test.file, test.line, std::string("uncaught exception: ") + error.what());
  } catch (...) {
    report(test.file, test.line, "uncaught exception that is no std::exception");
  }
  std::printf("%s %s\n", failures_of_case == 0 ? "ok" : "fail", test.title);
  std::fflush(stdout);
  return failures_of_case == 0 ? Outcome::ok : Outcome::fail;
}

int list() {
  for (const Case& test : registry()) std::printf("%s\t%s\n", test.file, test.title);
  return 0;
}

struct Part {
  int index = 1, count = 1;
};

int run_matching(const char* file, Part part, const std::vector<std::string>& titles) {
  int counts[3] = {};
  int index = 0;
  for (const Case& test : registry()) {
    if (index++ % part.count != part.index - 1) continue;
    if (file && std::strcmp(file, test.file) != 0) continue;
    if (!titles.empty() && std::find(titles.begin(), titles.end(), test.title) == titles.end()) continue;
    ++counts[static_cast<int>(run(test))];
  }
  std::fprintf(stderr, "%d passed, %d failed, %d skipped\n", counts[0], counts[1], counts[2]);
  if (counts[0] + counts[1] + counts[2] == 0) return 2;
  return counts[1] == 0 ? 0 : 1;
}

}  // namespace

Registration::Registration(const Case& test) { registry().push_back(test); }

void report(const char* file, int line, const std::string& message) {
  const std::lock_guard lock(report_mutex);
  ++failures_of_case;
  std::printf("  %s:%d: %s%s\n", file, line, scopes.c_str(), message.c_str());
}

void report(const char* file, int line, const char* text, const std::string& actual, const std::string& expected) {
  report(file, line, std::string(text) + " failed: " + actual + " and " + expected);
}

void check_throws(const char* file, int line, const char* text, std::string_view part,
                  const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    if (std::string_view(error.what()).find(part) != std::string_view::npos) return;
    report(file, line, std::string(text) + " threw " + show(error.what()) + ", which lacks " + show(part));
    return;
  }
  report(file, line, std::string(text) + " did not throw; expected " + show(part));
}

Scope::Scope(const std::string& name) { scopes += "[" + name + "] "; }
Scope::~Scope() { scopes.resize(scopes.rfind('[')); }

}  // namespace lowrank::test

int main(int argc, char** argv) {
  const char* file = nullptr;
  lowrank::test::Part part;
  std::vector<std::string> titles;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--list") return lowrank::test::list();
    if (argument == "--file" && i + 1 < argc) {
      file = argv[++i];
    } else if (argument == "--part" && i + 1 < argc) {
      const bool read = std::sscanf(argv[++i], "%d/%d", &part.index, &part.count) == 2;
      if (!read || part.index < 1 || part.index > part.count) {
        std::fprintf(stderr, "--part is %s; expected K/N with K from 1 to N\n", argv[i]);
        return 2;
      }
    } else {
      titles.push_back(argument);
    }
  }
  return lowrank::test::run_matching(file, part, titles);
}
