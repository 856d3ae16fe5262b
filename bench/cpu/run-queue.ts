/** How much a measurement was disturbed: time that this process's threads wanted to run and could not, from /proc. */
import { readdirSync, readFileSync } from "node:fs";

/** Milliseconds in the run queue of each thread since it began. Empty where the system does not tell. */
export function runQueueMs(): ReadonlyMap<string, number> {
  const delays = new Map<string, number>();
  for (const task of list("/proc/self/task")) {
    const text = read(`/proc/self/task/${task}/schedstat`);
    if (text !== "") delays.set(task, Number(text.split(" ")[1]) / 1e6);
  }
  return delays;
}

/** The longest wait of a thread between two readings: threads work together, so the one that waits longest delays all. */
export function delayBetween(before: ReadonlyMap<string, number>, after: ReadonlyMap<string, number>): number {
  return Math.max(0, ...[...after].map(([task, ms]) => ms - (before.get(task) ?? 0)));
}

/** The most memory this process has had at once, in bytes: pages of mapped files among it. */
export function peakMemory(): number {
  return Number(/VmHWM:\s+(\d+) kB/.exec(read("/proc/self/status"))?.[1] ?? 0) * 1024;
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // no /proc: nothing is known of the queue
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return ""; // a thread that has ended
  }
}
