"""Runs a command in a pseudo-terminal: terminal.py COLUMNS ROWS COMMAND...

What it draws goes to stdout. Lines on stdin are JSON: {"resize": [columns, rows]} or {"type": "text"}. A resize is
answered in the output by a mark, before which everything was drawn at the old size.
"""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios


def resize(terminal, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def forward(terminal):
    """Passes on what there is; False at the end."""
    try:
        data = os.read(terminal, 1 << 16)
    except OSError:
        return False
    os.write(1, data)
    return data != b""


def main():
    columns, rows, *command = sys.argv[1:]
    child, terminal = pty.fork()
    if child == 0:
        # The size has to be there when the command starts.
        resize(0, int(columns), int(rows))
        os.execvp(command[0], command)
    orders = b""
    inputs = [terminal, 0]
    while True:
        ready, _, _ = select.select(inputs, [], [])
        if terminal in ready and not forward(terminal):
            break
        if 0 not in ready:
            continue
        data = os.read(0, 1 << 16)
        if data == b"":
            inputs.remove(0)
        *lines, orders = (orders + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "resize" in order:
                while select.select([terminal], [], [], 0)[0]:
                    if not forward(terminal):
                        break
                resize(terminal, *order["resize"])
                os.write(1, b"\x1b_resized %d %d\x1b\\" % tuple(order["resize"]))
            else:
                os.write(terminal, order["type"].encode())
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) % 256)


main()
