/** Text in columns, and numbers as the tables show them. */

export function table(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const full = rows.filter((row) => row.length === columns);
  const widths = Array.from({ length: columns }, (_, c) => Math.max(...full.map((row) => row[c]!.length)));
  const first = Math.max(...rows.map((row) => row[0]!.length));
  const line = (row: readonly string[]) =>
    `  ${row.map((cell, c) => (c === 0 ? cell.padEnd(first) : cell.padStart(widths[c]!))).join("  ")}`;
  return rows.map(line).join("\n");
}

export function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

export function threadsText(threads: number): string {
  return threads === 1 ? "1 thread" : `${threads} threads`;
}
