// Numbers, times and texts as people read them.

const UNITS = [["d", 86_400], ["h", 3_600], ["m", 60], ["s", 1]];

/** `1h 5m`, at most two units. */
export function duration(milliseconds) {
  if (milliseconds == null) return "–";
  let rest = Math.max(0, Math.floor(milliseconds / 1000));
  const parts = [];
  for (const [unit, seconds] of UNITS) {
    const count = Math.floor(rest / seconds);
    if (count > 0 || parts.length === 1) parts.push(`${count}${unit}`);
    rest -= count * seconds;
    if (parts.length === 2) break;
  }
  return parts.filter((part, at) => at === 0 || !part.startsWith("0")).join(" ") || "0s";
}

export function ago(time, now = Date.now()) {
  return time ? `${duration(now - Date.parse(time))} ago` : "–";
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const count = (number) => (number == null ? "–" : Math.abs(number) < 10_000 ? String(number) : compact.format(number));

/** A rate: with a decimal where that says something. */
export const rate = (number) => (number < 100 ? number.toFixed(1) : count(Math.round(number)));

export function money(dollars) {
  if (dollars == null) return "–";
  if (dollars === 0) return "$0";
  return dollars < 0.01 ? "<$0.01" : `$${dollars.toFixed(2)}`;
}

export function bytes(number) {
  if (number < 1024) return `${number} B`;
  if (number < 1024 * 1024) return `${(number / 1024).toFixed(1)} KiB`;
  return `${(number / 1024 / 1024).toFixed(1)} MiB`;
}

export const clock = (time) =>
  time ? new Date(time).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" }) : "–";

export const short = (id) => (id ?? "").replace("agent_task_", "").slice(0, 8);

/**
 * Text that someone else wrote, harmless in a page: control characters, and those that change the direction of what
 * follows them, become visible signs.
 */
export function visible(text) {
  return text
    .replace(/\r\n/g, "\n")
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, (c) => String.fromCharCode(0x2400 + c.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (c) =>
      c === "\u007f" ? "\u2421" : `⟨${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`,
    );
}

/** The first line, cut. */
export function line(text, most = 120) {
  const first = visible((text ?? "").trimStart().split("\n", 1)[0]);
  return first.length > most ? `${first.slice(0, most - 1)}…` : first;
}
