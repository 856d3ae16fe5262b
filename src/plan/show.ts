/** Sizes, times, counts and rates as people read them. */

const steps = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** Decimal, three digits: "1.31 GB". */
export function showBytes(bytes: number): string {
  let [value, at] = [bytes, 0];
  while (value >= 999.5 && at < steps.length - 1) {
    value /= 1000;
    at++;
  }
  return `${at === 0 ? value : digits(value)} ${steps[at]}`;
}

/** "671 billion", "11.6 million". */
export function showCount(value: number): string {
  if (value >= 999.5e6) return `${digits(value / 1e9)} billion`;
  return value >= 1e6 ? `${digits(value / 1e6)} million` : value.toFixed(0);
}

/** Of tokens or steps a second: three digits, or the whole number. */
export function showRate(perSecond: number): string {
  return perSecond >= 100 ? perSecond.toFixed(0) : perSecond.toPrecision(3);
}

export function showSeconds(seconds: number): string {
  if (seconds >= 1) return `${digits(seconds)} s`;
  return seconds >= 1e-3 ? `${digits(seconds * 1e3)} ms` : `${digits(seconds * 1e6)} us`;
}

function digits(value: number): string {
  if (value === 0) return "0";
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** Rows of cells as lines of columns, two spaces apart; the columns numbered in `right` end together. */
export function showTable(rows: readonly (readonly string[])[], right: readonly number[] = []): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const cell = (text: string, i: number) => (right.includes(i) ? text.padStart(widths[i]!) : text.padEnd(widths[i]!));
  return rows.map((row) => row.map(cell).join("  ").trimEnd());
}
