// Sends Ctrl-C to the console of a process, which is how Windows sends it: ctrl-c.exe PID
#include <windows.h>

#include <cstdlib>

int main(int count, char** arguments) {
  if (count != 2) return 2;
  FreeConsole();
  if (AttachConsole(std::strtoul(arguments[1], nullptr, 10)) == 0) return 3;
  // This process is of that console now, and must not end by it.
  SetConsoleCtrlHandler(nullptr, TRUE);
  return GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) != 0 ? 0 : 4;
}
