/** The optimizer's summary as text for people. */
import type { FuncHistory } from "../../compile.ts";
import { showBytes as bytes, showCount as count, showRate as rate, showTable } from "../../plan/show.ts";
import type { OptimizationSummary, Speed, StepTotals } from "./optimization-summary.ts";

/** How many fusions and near misses are shown of each function; the data has all. */
const mostShown = 6;

/** Some forty lines. `details` shows every fusion and near miss. */
export function showSummary(summary: OptimizationSummary, details = false): string {
  const { hardware, lossy, weights, functions, totals, speed, report } = summary;
  const most = details ? Number.POSITIVE_INFINITY : mostShown;
  const lines = [
    `hardware  ${hardware.device}`,
    `backend   ${hardware.backend}: ${hardware.why}`,
    ...hardware.reasons.map((each) => `          ${each}`),
    ...lossy.map((each) => `changed   ${each}`),
    `weights   ${weightSentence(weights)}`,
    ...formLines(weights.forms),
    "",
    "passes",
    ...passTable(summary),
    "",
    "fusion",
    ...(functions.length === 0 ? ["  ops run as they are, nothing is fused"] : totalLines(totals, report.kernels)),
    ...functions.flatMap((func) => functionLines(func, most)),
    "",
    "speed",
    ...speedLines(speed),
  ];
  return `${lines.join("\n")}\n`;
}

/** "16.2 MB (i4 ...), instead of 46.6 MB in bf16". */
function weightSentence({ stored, held }: OptimizationSummary["weights"]): string {
  const [before, after] = [sum(stored), sum(held)];
  const how = after <= before ? "instead of" : "made of";
  return `${bytes(after)} (${parts(held)}), ${how} ${bytes(before)} in ${mainDTypes(stored)}`;
}

function parts(sizes: Readonly<Record<string, number>>): string {
  return Object.entries(sizes)
    .sort((a, b) => b[1] - a[1])
    .map(([dtype, size]) => `${dtype} ${bytes(size)}`)
    .join(", ");
}

/** The dtypes that make up nearly all of it. */
function mainDTypes(sizes: Readonly<Record<string, number>>): string {
  const all = sum(sizes);
  const large = Object.entries(sizes).filter(([, size]) => size > all / 50);
  return large.map(([dtype]) => dtype).join(" and ") || "nothing";
}

/** A row for each form, and below it which weights that are. */
function formLines(forms: OptimizationSummary["weights"]["forms"]): string[] {
  const cells = forms.map(({ format, held, tensors, storedBytes, heldBytes }) => [
    format === "none" ? `kept in ${held.join(", ")}` : `${format}: ${held.join(", ")}`,
    `${tensors} ${tensors === 1 ? "tensor" : "tensors"}`,
    `${bytes(storedBytes)} -> ${bytes(heldBytes)}`,
  ]);
  const lines = showTable(cells.map((row, i) => [...row, `${forms[i]!.pattern}: ${forms[i]!.reason}`]));
  const rows = forms.flatMap(({ names }, i) => [`  ${lines[i]}`, `    ${shortNames(names).join(", ")}`]);
  return rows.length === 0 ? [] : ["", "weights by form", ...rows];
}

/** The last parts of names, each once: weights of layers of two kinds are called the same. */
function shortNames(names: readonly string[]): string[] {
  const most = 16;
  const all = [
    ...new Set(names.map((name) => name.replace(/^(model\.)?(layers\.\{layer\}\.)?/, "").replace("{0}", "*"))),
  ];
  return all.length > most ? [...all.slice(0, most), `${all.length - most} more`] : all;
}

function sum(sizes: Readonly<Record<string, number>>): number {
  return Object.values(sizes).reduce((total, size) => total + size, 0);
}

function passTable({ report }: OptimizationSummary): string[] {
  const { built, passes } = report.history;
  const widest = Math.max(5, ...passes.map(({ name }) => name.length));
  const row = (name: string, ops: number, weightBytes: number, rest: string) =>
    `  ${name.padEnd(widest)} ${String(ops).padStart(6)} ops  ${bytes(weightBytes).padStart(8)} of weights  ${rest}`.trimEnd();
  let before = built.weightBytes;
  return [
    row("built", built.ops, built.weightBytes, ""),
    ...passes.map(({ name, opsBefore, opsAfter, weightBytes, rules, ms }) => {
      const changes = [
        ...(opsAfter === opsBefore ? [] : [`${signed(opsAfter - opsBefore)} ops`]),
        ...(weightBytes === before
          ? []
          : [`${weightBytes < before ? "-" : "+"}${bytes(Math.abs(weightBytes - before))} of weights`]),
        ...ruleCounts(rules),
      ];
      before = weightBytes;
      const what = changes.length === 0 ? "changed nothing" : changes.join(", ");
      return row(name, opsAfter, weightBytes, `${what}; ${ms.toFixed(1)} ms`);
    }),
  ];
}

/** The three rules that were applied most. */
function ruleCounts(rules: Readonly<Record<string, number>>): string[] {
  const sorted = Object.entries(rules).sort((a, b) => b[1] - a[1]);
  const rest = sorted.slice(3).reduce((total, [, times]) => total + times, 0);
  return [
    ...sorted.slice(0, 3).map(([rule, times]) => `${rule} x${times}`),
    ...(rest > 0 ? [`other rules x${rest}`] : []),
  ];
}

function totalLines({ unfused, fused, merged }: StepTotals, kernels: number): string[] {
  const row = (name: string, { launches, bytes: moved }: { launches: number; bytes: number }) =>
    `  ${name.padEnd(16)} ${String(launches).padStart(6)} launches  ${bytes(moved).padStart(8)} of buffers a step`;
  return [
    row("an op, a kernel", unfused),
    row("fused", fused),
    `${row("merged", merged)}  (${kernels} different kernels)`,
  ];
}

function functionLines(func: FuncHistory, most: number): string[] {
  const { name, calls, ops, placed, fused, missed, merged, unmerged, kernels, launches } = func;
  const kinds = (["epilogue", "staged", "inlined"] as const).flatMap((kind) =>
    placed[kind] === 0 ? [] : [`${placed[kind]} ${kind}`],
  );
  const largest = [...fused].sort((a, b) => b.values.length - a.values.length);
  return [
    `  @${name}${calls > 1 ? ` x${calls}` : ""}: ${ops} values in ${kernels} kernels (${kinds.join(", ") || "nothing fused"}), ${launches} launches after merging ${merged.length}`,
    ...some(largest, most, ({ into, values }) => `    in ${into}: ${short(values)}`),
    ...some(missed, most, ({ value, why }) => `    not fused: ${value}: ${why}`),
    ...some(mergedChains(merged), most, ({ parts, into }) => `    merged: ${parts.join(" + ")} -> ${into}`),
    ...some(unmerged, most, ({ first, second, why }) => `    not merged: ${first} | ${second}: ${why}`),
  ];
}

/** Launches that became one, whatever steps it took: a kernel that was merged again is told of by what it was made of. */
function mergedChains(merged: FuncHistory["merged"]): { readonly parts: readonly string[]; readonly into: string }[] {
  const chains: { readonly parts: readonly string[]; readonly into: string }[] = [];
  const take = (name: string): readonly string[] => {
    const at = chains.findLastIndex(({ into }) => into === name);
    return at === -1 ? [name] : chains.splice(at, 1)[0]!.parts;
  };
  for (const { first, second, into } of merged) chains.push({ parts: [...take(first), ...take(second)], into });
  return chains;
}

function some<T>(items: readonly T[], most: number, show: (item: T) => string): string[] {
  const shown = items.slice(0, most).map(show);
  return items.length > shown.length ? [...shown, `    and ${items.length - shown.length} more like it`] : shown;
}

/** Values by their names, those without by op and number: "c_q, 4 mul, 2 add". */
function short(labels: readonly string[]): string {
  const most = 8;
  const named = labels.filter((label) => !label.includes(" "));
  const counts = new Map<string, number>();
  for (const label of labels) {
    const [op = "", type] = label.split(" ");
    if (type !== undefined) counts.set(op, (counts.get(op) ?? 0) + 1);
  }
  const more = named.length > most ? [`${named.length - most} more`] : [];
  const ops = [...counts].map(([op, times]) => (times === 1 ? op : `${times} ${op}`));
  return [...named.slice(0, most), ...more, ...ops].join(", ");
}

function speedLines(speed: Speed): string[] {
  const { readBytes, launches, operations, bandwidth, secondsPerLaunch, most, expected, measured } = speed;
  const each = (secondsPerLaunch * 1e6).toFixed(0);
  const lines = [
    `a step reads ${bytes(readBytes)} of weights, starts ${launches} launches and does at most ${count(operations)} operations`,
    bandwidth === null || most === null
      ? "how fast this device reads was not measured"
      : `at ${bytes(bandwidth)}/s and ${each} us a launch at most ${rate(most)} steps/s`,
    ...(expected === null
      ? []
      : [`by this machine's figures, arithmetic included, ${rate(expected)} tokens/s expected`]),
  ];
  const goal = expected ?? most;
  const share = measured === null || goal === null ? "" : `, ${((100 * measured) / goal).toFixed(0)} % of that`;
  const slow = measured !== null && goal !== null && measured < goal / 2;
  const why = slow
    ? expected === null
      ? ": arithmetic or other work limits it"
      : ": other work on this machine?"
    : "";
  lines.push(
    measured === null
      ? "not run: --measure loads the model and runs it"
      : `measured ${rate(measured)} tokens/s${share}${why}, ${count(operations * measured)} operations/s`,
  );
  return lines.map((line) => `  ${line}`);
}

function signed(value: number): string {
  return value > 0 ? `+${value}` : String(value);
}
