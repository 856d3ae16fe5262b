/** The difference of two texts of IR, line by line. Numbers of unnamed values do not count: a new op renumbers all after it. */

export interface DiffLine {
  readonly kind: "same" | "added" | "removed";
  readonly text: string;
}

/** More cells than this are not compared: the lines between what is equal at both ends are removed and added. */
const mostCells = 9_000_000;

/** A shortest edit from `before` to `after`, removals before additions. */
export function diffLines(before: readonly string[], after: readonly string[]): DiffLine[] {
  const [old, now] = [before.map(lineKey), after.map(lineKey)];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let end = 0;
  while (end < old.length - start && end < now.length - start && old.at(-1 - end) === now.at(-1 - end)) end++;
  const same = (lines: readonly string[]): DiffLine[] => lines.map((text) => ({ kind: "same", text }));
  const middle = diffMiddle(
    { lines: before.slice(start, before.length - end), keys: old.slice(start, old.length - end) },
    { lines: after.slice(start, after.length - end), keys: now.slice(start, now.length - end) },
  );
  return [...same(after.slice(0, start)), ...middle, ...same(after.slice(after.length - end))];
}

/** A line without the numbers of its values. */
export function lineKey(line: string): string {
  return line.replace(/%\d+/g, "%");
}

interface Side {
  readonly lines: readonly string[];
  readonly keys: readonly string[];
}

/** By the longest common subsequence: table[i][j] is its length from line i of the old and j of the new text on. */
function diffMiddle(old: Side, now: Side): DiffLine[] {
  const [rows, columns] = [old.lines.length, now.lines.length];
  const removed = (text: string): DiffLine => ({ kind: "removed", text });
  const added = (text: string): DiffLine => ({ kind: "added", text });
  if (rows * columns > mostCells) return [...old.lines.map(removed), ...now.lines.map(added)];
  const width = columns + 1;
  const table = new Uint32Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      const equal = old.keys[i] === now.keys[j];
      table[i * width + j] = equal
        ? table[(i + 1) * width + j + 1]! + 1
        : Math.max(table[(i + 1) * width + j]!, table[i * width + j + 1]!);
    }
  }
  const lines: DiffLine[] = [];
  let [i, j] = [0, 0];
  while (i < rows || j < columns) {
    if (i < rows && j < columns && old.keys[i] === now.keys[j]) {
      lines.push({ kind: "same", text: now.lines[j]! });
      i++;
      j++;
    } else if (i < rows && (j === columns || table[(i + 1) * width + j]! >= table[i * width + j + 1]!)) {
      lines.push(removed(old.lines[i++]!));
    } else lines.push(added(now.lines[j++]!));
  }
  return lines;
}
