/** Time per kernel: counted launch by launch over the steps of a run (`DEBUG=2`, `ciuic bench --profile`), or replayed by a device. */
import type { RunTimes } from "../../compile.ts";
import type { Kernel } from "../../ir/kernel/kernel.ts";
import type { Plan } from "../../ir/plan.ts";
import { showTable } from "../../plan/show.ts";
import { launchBytes, opsOf } from "../../trace-file.ts";

/** What the launches of one kernel of one program took. */
export interface KernelTime {
  /** The program, as it was named to `listen`. */
  readonly program: string;
  /** Its number in the program's plan. */
  readonly index: number;
  readonly name: string;
  /** The tensor ops that it computes: "contract, 2 mul". */
  readonly ops: string;
  readonly launches: number;
  readonly ms: number;
  /** Read and written, at most. */
  readonly bytes: number;
}

type Entry = { -readonly [key in keyof KernelTime]: KernelTime[key] };

export class KernelProfile {
  readonly #entries: Entry[] = [];

  /** A listener for one program's launches. */
  listen(plan: Plan, label: string): (kernel: number, ms: number) => void {
    const bytes = plan.kernels.map(launchBytes);
    const entries = plan.kernels.map((kernel, index): Entry => timeOf(label, kernel, index, 0, 0));
    this.#entries.push(...entries);
    return (kernel, ms) => {
      const entry = entries[kernel]!;
      entry.launches++;
      entry.ms += ms;
      entry.bytes += bytes[kernel]!;
    };
  }

  /** Kernels that ran, the slowest first; of one program, or of all. */
  times(program?: string): KernelTime[] {
    const used = this.#entries.filter((each) => each.launches > 0 && (program ?? each.program) === each.program);
    return used.map((entry) => ({ ...entry })).sort(slowestFirst);
  }

  /** Counts from zero again. */
  reset(): void {
    for (const entry of this.#entries) Object.assign(entry, { launches: 0, ms: 0, bytes: 0 });
  }
}

/** Times of a run as a device replayed them. */
export function timesOfRun(plan: Plan, { kernels }: RunTimes): KernelTime[] {
  const times = kernels.map(({ kernel, launches, ms }) =>
    timeOf(plan.name, plan.kernels[kernel]!, kernel, launches, ms),
  );
  return times.sort(slowestFirst);
}

function timeOf(program: string, kernel: Kernel, index: number, launches: number, ms: number): KernelTime {
  const { name, origin } = kernel;
  return { program, index, name, ops: opsOf(origin), launches, ms, bytes: launches * launchBytes(kernel) };
}

function slowestFirst(a: KernelTime, b: KernelTime): number {
  return b.ms - a.ms;
}

export interface TableOptions {
  /** Kernels shown. Default 20. */
  readonly most?: number;
  /** Whether to say which program a kernel is of. */
  readonly programs?: boolean;
  /** Something more on each. */
  readonly note?: (time: KernelTime) => string;
}

/** Of many ops, the first few. */
function mainOps({ ops }: KernelTime): string {
  const all = ops.split(", ");
  const most = 5;
  return all.length <= most + 1 ? ops : `${all.slice(0, most).join(", ")} and ${all.length - most} others`;
}

/** A table: share of all time, time, launches, bytes, the rate at which they were passed over, and what it computes. */
export function showKernelTimes(
  times: readonly KernelTime[],
  { most = 20, programs = false, note = mainOps }: TableOptions = {},
): string {
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  const share = (ms: number) => `${(total === 0 ? 0 : (100 * ms) / total).toFixed(1)} %`;
  const launches = times.reduce((sum, each) => sum + each.launches, 0);
  const head = ["share", "time", "launches", "each", "bytes", "GB/s", "kernel", "computes"];
  const cells = times.slice(0, most).map((time) => {
    const { name, index, ms, bytes, program } = time;
    return [
      share(ms),
      `${ms.toFixed(3)} ms`,
      String(time.launches),
      `${((1000 * ms) / time.launches).toFixed(1)} us`,
      `${(bytes / 1e6).toFixed(3)} MB`,
      ms === 0 ? "" : (bytes / ms / 1e6).toFixed(2),
      `${programs ? `${program} ` : ""}${name}#${index}`,
      note(time),
    ];
  });
  const rest = times.slice(most).reduce((sum, { ms }) => sum + ms, 0);
  const more = times.length > most ? [`and ${times.length - most} more kernels, ${share(rest)}`] : [];
  const sum = `${total.toFixed(3)} ms in ${launches} launches of ${times.length} kernels`;
  return [sum, ...showTable([head, ...cells], [0, 1, 2, 3, 4, 5]), ...more].join("\n");
}
