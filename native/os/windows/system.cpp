#include "os/windows/system.h"

namespace lowrank::os {
namespace {

std::wstring utf16(const std::string& text) {
  const int bytes = static_cast<int>(text.size());
  std::wstring out(static_cast<size_t>(MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, nullptr, 0)), L'\0');
  MultiByteToWideChar(CP_UTF8, 0, text.data(), bytes, out.data(), static_cast<int>(out.size()));
  return out;
}

std::string utf8(const wchar_t* text, DWORD count) {
  const int characters = static_cast<int>(count);
  std::string out(static_cast<size_t>(WideCharToMultiByte(CP_UTF8, 0, text, characters, nullptr, 0, nullptr, nullptr)),
                  '\0');
  WideCharToMultiByte(CP_UTF8, 0, text, characters, out.data(), static_cast<int>(out.size()), nullptr, nullptr);
  return out;
}

}  // namespace

std::string reason() {
  const DWORD error = GetLastError();
  wchar_t text[512];
  DWORD count = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, nullptr, error, 0, text,
                               static_cast<DWORD>(std::size(text)), nullptr);
  // Sentences end with a line break, after a period that messages here put themselves.
  while (count > 0 && (text[count - 1] <= L' ' || text[count - 1] == L'.')) --count;
  if (count == 0) return "error " + std::to_string(error);
  return utf8(text, count);
}

std::wstring wide(const std::string& path) {
  const std::wstring given = utf16(path);
  const DWORD count = GetFullPathNameW(given.c_str(), 0, nullptr, nullptr);
  // Folders may be no longer than this, so that a short name still fits.
  if (count < MAX_PATH - 12 || given.starts_with(L"\\\\?\\")) return given;
  std::wstring full(count, L'\0');
  full.resize(GetFullPathNameW(given.c_str(), count, full.data(), nullptr));
  return full.starts_with(L"\\\\") ? L"\\\\?\\UNC\\" + full.substr(2) : L"\\\\?\\" + full;
}

}  // namespace lowrank::os
