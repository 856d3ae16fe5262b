/** Results as data and as tables for people. */
import type { Bandwidth } from "./bandwidth.ts";
import type { Machine } from "./machine.ts";
import type { Measured } from "./measure.ts";
import type { OpReport } from "./ops/op-bench.ts";
import { digits, table, threadsText } from "./table.ts";

export interface RowReport {
  readonly name: string;
  readonly info: string;
  readonly loadSeconds: number;
  /** Most resident memory at once, mapped pages of files among it; 0 where it is not known. */
  readonly peakBytes: number;
  /** Bytes that a step of one token reads after 128 tokens. */
  readonly bytesPerToken: number;
  /** By the name of the task; none for what failed. */
  readonly tasks: Readonly<Record<string, Measured>>;
  readonly failure?: string;
}

export interface GroupReport {
  readonly model: string;
  readonly group: string;
  readonly threads: number;
  readonly baselines: readonly string[];
  readonly rows: readonly RowReport[];
}

export interface Report {
  readonly machine: Machine;
  readonly bandwidth: readonly Bandwidth[];
  readonly groups: readonly GroupReport[];
  readonly ops: readonly OpReport[];
}

export function showMachine({ cpu, cores, flags, memoryBytes, node, v8, load }: Machine): string {
  const memory = `${(memoryBytes / 2 ** 30).toFixed(0)} GiB`;
  return `${cpu}, ${cores} cores, ${memory}, node ${node}, V8 ${v8}, load ${load.toFixed(1)}; ${flags.join(" ")}`;
}

export function showBandwidth({ threads, streams, gigabytesPerSecond }: Bandwidth): string {
  return `memory read from WebAssembly, ${threadsText(threads)}: ${gigabytesPerSecond.toFixed(1)} GB/s (${streams} streams)`;
}

/** A table per group: rates, ratios to the fastest row of each baseline, share of the memory's bandwidth. */
export function showGroup(group: GroupReport, bandwidth: readonly Bandwidth[]): string {
  const { model, threads, rows } = group;
  const names = [...new Set(rows.flatMap(({ tasks }) => Object.keys(tasks)))];
  const bases = group.baselines.filter((base) => rows.some(({ name }) => name.startsWith(base)));
  const memory = bandwidth.find((each) => each.threads === threads)?.gigabytesPerSecond;
  const heads = names.map((name) => [`${name} tok/s`, ...bases.map((base) => `/${short(base)}`)]);
  const header = ["", ...heads.flat(), "MB/token", "GB/s", "of memory", "load s", "peak MB"];
  const lines = rows.map((row) => {
    if (row.failure !== undefined) return [row.name, row.failure.split("\n")[0]!.slice(0, 90)];
    const cells = names.flatMap((name) => {
      const measured = row.tasks[name];
      if (measured === undefined) return ["-", ...bases.map(() => "")];
      return [showRate(measured), ...bases.map((base) => ratio(measured, rows, base, name))];
    });
    const decode = row.tasks[names.find((name) => name.startsWith("decode")) ?? ""];
    const rate = decode === undefined ? 0 : (row.bytesPerToken * decode.median) / 1e9;
    return [
      row.name,
      ...cells,
      (row.bytesPerToken / 1e6).toFixed(0),
      rate === 0 ? "-" : rate.toFixed(1),
      rate === 0 || memory === undefined ? "-" : `${((100 * rate) / memory).toFixed(0)}%`,
      row.loadSeconds.toFixed(1),
      row.peakBytes === 0 ? "-" : (row.peakBytes / 1e6).toFixed(0),
    ];
  });
  return `${model}, ${group.group}, ${threadsText(threads)}\n${table([header, ...lines])}`;
}

/** Median, best in brackets, and a star where fewer than half of the samples were clean. */
function showRate({ median, best, clean, samples }: Measured): string {
  return `${digits(median)} [${digits(best)}]${2 * clean < samples ? "*" : ""}`;
}

/** Against the fastest row whose name begins so. */
function ratio(measured: Measured, rows: readonly RowReport[], base: string, task: string): string {
  const rates = rows.flatMap((row) => (row.name.startsWith(base) ? (row.tasks[task]?.median ?? []) : []));
  return rates.length === 0 ? "-" : (measured.median / Math.max(...rates)).toFixed(2);
}

function short(baseline: string): string {
  return baseline.replace("llama.cpp ", "").replace("ciuic ", "");
}
