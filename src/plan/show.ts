/** Sizes and times as people read them. */

const steps = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** Decimal, three digits: "1.31 GB". */
export function showBytes(bytes: number): string {
  let [value, at] = [bytes, 0];
  while (value >= 999.5 && at < steps.length - 1) {
    value /= 1000;
    at++;
  }
  return `${digits(value)} ${steps[at]}`;
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
