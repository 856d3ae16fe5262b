/** Time per kernel over the steps of a run: what `DEBUG=2` shows. */
import type { Plan } from "../ir/plan.ts";
import { byteSize } from "../ir/types.ts";

interface Entry {
  readonly kernel: string;
  launches: number;
  ms: number;
  /** Bytes of all buffers of the launches. */
  bytes: number;
}

export class KernelProfile {
  readonly #entries = new Map<string, Entry>();
  readonly #plans = new Map<Plan, readonly Entry[]>();

  /** A listener for one program's launches. */
  listen(plan: Plan, label: string): (kernel: number, ms: number) => void {
    const bytes = bytesPerLaunch(plan);
    const entries = plan.kernels.map(({ name }, i) => {
      const entry = { kernel: `${name}#${i}`, launches: 0, ms: 0, bytes: 0 };
      this.#entries.set(`${label} ${entry.kernel}`, entry);
      return entry;
    });
    this.#plans.set(plan, entries);
    return (kernel, ms) => {
      const entry = entries[kernel]!;
      entry.launches++;
      entry.ms += ms;
      entry.bytes += bytes[kernel]!;
    };
  }

  /** Launches so far of each kernel of a plan, and their milliseconds; null for a plan that did not run. */
  timesOf(plan: Plan): readonly { readonly launches: number; readonly ms: number }[] | null {
    return this.#plans.get(plan) ?? null;
  }

  /** A table, the slowest kernels first, with the share of all time and the rate at which buffers were passed over. */
  show(most = 20): string {
    const used = [...this.#entries].filter(([, { launches }]) => launches > 0).sort((a, b) => b[1].ms - a[1].ms);
    const total = used.reduce((sum, [, { ms }]) => sum + ms, 0);
    const rows = used.slice(0, most).map(([label, { launches, ms, bytes }]) => {
      const share = ((100 * ms) / total).toFixed(1);
      return `${share.padStart(5)} % ${ms.toFixed(1).padStart(9)} ms ${String(launches).padStart(7)} x ${(bytes / ms / 1e6).toFixed(2).padStart(6)} GB/s  ${label}`;
    });
    return [`${total.toFixed(1)} ms in ${used.length} kernels`, ...rows].join("\n");
  }
}

/** Bytes of the buffers that each kernel is launched with, an upper bound where it reads only some rows. */
function bytesPerLaunch(plan: Plan): number[] {
  const bytes = plan.kernels.map(() => 0);
  for (const func of plan.funcs.values()) {
    for (const step of func.steps) {
      if (step.step !== "launch") continue;
      bytes[step.kernel] = step.args.reduce((sum, i) => sum + byteSize(func.locations[i]!.type), 0);
    }
  }
  return bytes;
}
