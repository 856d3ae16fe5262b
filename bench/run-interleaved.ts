/**
 * Times named candidates against each other: warm-up, then rounds in which every candidate runs once, the order turned by
 * one each round, so that a slow minute of the machine falls on all of them. Counts are fixed, not adapted to the time
 * they take, and what a candidate returns is folded into a checksum, so that no work can be left out.
 */
import { cpus, loadavg } from "node:os";

export interface Timed {
  readonly name: string;
  /** Not timed; before each run. */
  readonly prepare?: () => void;
  /** Does `units` units of work; a number that depends on all of it. */
  readonly run: () => number;
  /** What one run does, in units of `RunOptions.unit`. */
  readonly units: number;
}

export interface RunOptions {
  readonly title: string;
  /** E.g. `token`: results are units per second. */
  readonly unit: string;
  readonly warmUps: number;
  readonly rounds: number;
  /** The candidate that others are compared with; without it the first. */
  readonly baseline?: string;
}

/** Seconds on the wall and of the processor since some moment. */
export interface Clock {
  readonly wall: () => number;
  readonly cpu: () => number;
}

const processClock: Clock = {
  wall: () => performance.now() / 1000,
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  },
};

export interface Measured {
  readonly name: string;
  /** Units per second: of the middle run, the slowest and the fastest. */
  readonly median: number;
  readonly low: number;
  readonly high: number;
  /** Median of the ratios to the baseline's run of the same round. */
  readonly ratio: number;
  /** Units per second of processor time, all threads together: steadier than the clock on a busy machine. */
  readonly perCpuSecond: number;
  readonly cpuRatio: number;
  /** Sum of what the runs returned. */
  readonly checksum: number;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly node: string;
  /** Busy processes over the last minute, when the runs began. */
  readonly load: number;
}

export interface Report extends RunOptions {
  readonly machine: Machine;
  readonly results: readonly Measured[];
}

/** Runs every candidate `warmUps + rounds` times. Throws when there is none, or no such baseline. */
export function runInterleaved(candidates: readonly Timed[], options: RunOptions, clock = processClock): Report {
  const { rounds, warmUps } = options;
  const baseline = candidates.findIndex(({ name }, i) => name === (options.baseline ?? candidates[i]!.name));
  if (baseline < 0) throw new Error(`${options.title}: no candidate ${options.baseline ?? "at all"}`);
  const machine = describeMachine();
  const checksums = candidates.map(() => 0);
  const seconds = candidates.map(() => new Array<number>(rounds));
  const cpuSeconds = candidates.map(() => new Array<number>(rounds));
  for (let round = -warmUps; round < rounds; round++) {
    for (let turn = 0; turn < candidates.length; turn++) {
      const i = (turn + round + warmUps) % candidates.length;
      const { prepare, run } = candidates[i]!;
      prepare?.();
      const [wall, cpu] = [clock.wall(), clock.cpu()];
      checksums[i]! += run();
      if (round < 0) continue;
      seconds[i]![round] = clock.wall() - wall;
      cpuSeconds[i]![round] = clock.cpu() - cpu;
    }
  }
  const results = candidates.map(({ name }, i) => {
    const rates = ratesOf(candidates[i]!, seconds[i]!);
    const cpuRates = ratesOf(candidates[i]!, cpuSeconds[i]!);
    return {
      name,
      median: median(rates),
      low: Math.min(...rates),
      high: Math.max(...rates),
      ratio: medianRatio(rates, ratesOf(candidates[baseline]!, seconds[baseline]!)),
      perCpuSecond: median(cpuRates),
      cpuRatio: medianRatio(cpuRates, ratesOf(candidates[baseline]!, cpuSeconds[baseline]!)),
      checksum: checksums[i]!,
    };
  });
  return { ...options, baseline: candidates[baseline]!.name, machine, results };
}

export function describeMachine(): Machine {
  const cores = cpus();
  return {
    cpu: cores[0]?.model.trim() ?? "unknown",
    cores: cores.length,
    node: process.version,
    load: loadavg()[0]!,
  };
}

/** The report as a table for people. */
export function showReport({ title, unit, rounds, warmUps, baseline, machine, results }: Report): string {
  const { cpu, cores, node, load } = machine;
  const header = [`${unit}s/s`, "slowest", "fastest", "spread", "ratio", `${unit}s/cpu s`, "ratio"];
  const rows = results.map(({ median, low, high, ratio, perCpuSecond, cpuRatio }) => [
    digits(median),
    digits(low),
    digits(high),
    `${Math.round((100 * (high - low)) / median)}%`,
    ratio.toFixed(2),
    digits(perCpuSecond),
    cpuRatio.toFixed(2),
  ]);
  const widths = header.map((text, c) => Math.max(text.length, ...rows.map((row) => row[c]!.length)));
  const nameWidth = Math.max(...results.map(({ name }) => name.length));
  const line = (name: string, cells: readonly string[]) =>
    `  ${name.padEnd(nameWidth)}  ${cells.map((cell, c) => cell.padStart(widths[c]!)).join("  ")}`;
  return [
    `${title}: median of ${rounds} interleaved rounds after ${warmUps} warm-up, ratios to ${baseline}`,
    `  ${cpu}, ${cores} cores, node ${node}, load ${load.toFixed(1)}`,
    line("", header),
    ...results.map(({ name }, i) => line(name, rows[i]!)),
  ].join("\n");
}

/** Prints each report as a table, or with `--json` among the arguments all of them as one JSON array. */
export function printReports(reports: readonly Report[], args: readonly string[] = process.argv.slice(2)): void {
  console.log(args.includes("--json") ? JSON.stringify(reports, null, 2) : reports.map(showReport).join("\n\n"));
}

function ratesOf({ units }: Timed, seconds: readonly number[]): readonly number[] {
  return seconds.map((s) => units / s);
}

function medianRatio(rates: readonly number[], baseline: readonly number[]): number {
  return median(rates.map((rate, round) => rate / baseline[round]!));
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Three digits or the whole number. */
function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
