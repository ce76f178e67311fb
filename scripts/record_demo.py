"""Runs the demo in a terminal of fixed size and writes its screens as an animated SVG.

Each frame is a group that CSS shows for as long as the screen did not change. Without animation, or with reduced motion,
only the last frame is visible.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import tempfile
import termios
import time
from html import escape

import pyte

COLUMNS, ROWS = 100, 28
# Minimum duration of a frame in seconds. Shorter ones are merged with the next: streamed words would make hundreds.
SHORTEST_FRAME = 0.15
# Duration of the last frame in seconds, before the animation repeats.
LAST_FRAME = 6.0
CHARACTER, LINE = 8.43, 18
COLOURS = {
    "default": "#d4d4d4", "black": "#666666", "red": "#f48771", "green": "#89d185", "brown": "#e2c08d",
    "blue": "#75beff", "magenta": "#d18bd1", "cyan": "#6fc3df", "white": "#e5e5e5",
}
COMMAND = "legwork run examples/background_agents.yaml \"What is in this repository?\""


def record():
    """Records one run as (screen, seconds) pairs."""
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    with tempfile.TemporaryDirectory() as state:
        child, terminal = pty.fork()
        if child == 0:
            environment = dict(os.environ, TERM="xterm-256color", LEGWORK_STATE_DIR=state)
            environment.pop("NO_COLOR", None)
            os.execve(
                f"{target}/debug/legwork",
                ["legwork", "run", "examples/background_agents.yaml", "--script",
                 "examples/background_agents.script.json", "What is in this repository?"],
                environment,
            )
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        frames = list(frames_of(terminal))
        _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"the demo failed with status {os.waitstatus_to_exitcode(status)}")
    return frames


def frames_of(terminal):
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    stream.feed(f"$ {COMMAND}\r\n".encode())
    shown, since = picture(screen), time.monotonic()
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.05)
        if ready:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # Linux reports EIO when the program has closed the terminal.
                data = b""
            if not data:
                break
            stream.feed(data)
        now, current = time.monotonic(), picture(screen)
        if current != shown and now - since >= SHORTEST_FRAME:
            yield shown, now - since
            shown, since = current, now
    yield shown, time.monotonic() - since
    yield picture(screen), LAST_FRAME


def picture(screen):
    """The screen as lines of (colour, bold, text) runs."""
    lines = []
    for row in range(ROWS):
        runs = []
        for column in range(COLUMNS):
            cell = screen.buffer[row][column]
            style = (COLOURS.get(cell.fg, f"#{cell.fg}" if len(cell.fg) == 6 else COLOURS["default"]), cell.bold)
            if runs and runs[-1][0] == style:
                runs[-1][1].append(cell.data)
            else:
                runs.append((style, [cell.data]))
        text = tuple((style, "".join(cells)) for style, cells in runs)
        lines.append(text if any(part.strip() for _, part in text) else ())
    return tuple(lines)


def svg(frames):
    total = sum(seconds for _, seconds in frames)
    width, height = round(COLUMNS * CHARACTER) + 24, ROWS * LINE + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="A run of legwork: the root agent starts two background agents and is notified when they end">',
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;white-space:pre}",
        f".f{{visibility:hidden;animation:{total:.2f}s steps(1) infinite}}",
    ]
    at = 0.0
    for number, (_, seconds) in enumerate(frames):
        start, end = 100 * at / total, 100 * (at + seconds) / total
        hidden = "" if start == 0 else "0%{visibility:hidden}"
        rest = "" if number == len(frames) - 1 else f"{end:.3f}%{{visibility:hidden}}"
        parts.append(f"@keyframes k{number}{{{hidden}{start:.3f}%{{visibility:visible}}{rest}}}")
        parts.append(f"#f{number}{{animation-name:k{number}}}")
        at += seconds
    last = len(frames) - 1
    parts.append(f"@media (prefers-reduced-motion){{.f{{animation:none}}#f{last}{{visibility:visible}}}}</style>")
    parts.append(f'<rect width="{width}" height="{height}" rx="8" fill="#1e1e1e"/>')
    for number, (lines, _) in enumerate(frames):
        parts.append(f'<g class="f" id="f{number}">')
        parts.extend(text_line(row, runs) for row, runs in enumerate(lines) if runs)
        parts.append("</g>")
    parts.append("</svg>\n")
    return "\n".join(parts)


def text_line(row, runs):
    spans, column = [], 0
    for (colour, bold), text in runs:
        if text.strip():
            weight = ' font-weight="bold"' if bold else ""
            offset = 12 + column * CHARACTER
            spans.append(f'<tspan x="{offset:.1f}" fill="{colour}"{weight}>{escape(text.rstrip())}</tspan>')
        column += len(text)
    return f'<text y="{12 + (row + 1) * LINE - 4}">{"".join(spans)}</text>'


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(svg(record()))
