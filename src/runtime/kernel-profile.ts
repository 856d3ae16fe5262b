/** Time per kernel over the steps of a run: what `DEBUG=2` shows. */
import type { RunTimes } from "../compile.ts";
import type { Plan } from "../ir/plan.ts";
import { byteSize } from "../ir/types.ts";

/** What the launches of one kernel of one program took. */
export interface KernelTime {
  /** The program, as it was named to `listen`. */
  readonly program: string;
  /** Its number in the program's plan. */
  readonly index: number;
  readonly name: string;
  readonly launches: number;
  readonly ms: number;
  /** Of all buffers of the launches. */
  readonly bytes: number;
}

type Entry = { -readonly [key in keyof KernelTime]: KernelTime[key] };

export class KernelProfile {
  readonly #entries: Entry[] = [];

  /** A listener for one program's launches. */
  listen(plan: Plan, label: string): (kernel: number, ms: number) => void {
    const bytes = bytesPerLaunch(plan);
    const entries = plan.kernels.map(
      ({ name }, index): Entry => ({ program: label, index, name, launches: 0, ms: 0, bytes: 0 }),
    );
    this.#entries.push(...entries);
    return (kernel, ms) => {
      const entry = entries[kernel]!;
      entry.launches++;
      entry.ms += ms;
      entry.bytes += bytes[kernel]!;
    };
  }

  /** Kernels that ran, the slowest first. */
  times(): KernelTime[] {
    const used = this.#entries.filter(({ launches }) => launches > 0);
    return used.map((entry) => ({ ...entry })).sort((a, b) => b.ms - a.ms);
  }

  /** Counts from zero again. */
  reset(): void {
    for (const entry of this.#entries) Object.assign(entry, { launches: 0, ms: 0, bytes: 0 });
  }

  /** A table, the slowest kernels first, with the share of all time and the rate at which buffers were passed over. */
  show(most = 20): string {
    const used = this.times();
    const total = used.reduce((sum, { ms }) => sum + ms, 0);
    const rows = used.slice(0, most).map(({ program, name, index, launches, ms, bytes }) => {
      const share = ((100 * ms) / total).toFixed(1);
      return `${share.padStart(5)} % ${ms.toFixed(1).padStart(9)} ms ${String(launches).padStart(7)} x ${(bytes / ms / 1e6).toFixed(2).padStart(6)} GB/s  ${program} ${name}#${index}`;
    });
    return [`${total.toFixed(1)} ms in ${used.length} kernels`, ...rows].join("\n");
  }
}

/** Where a step's time goes: both sides of it, then its kernels by their share, each replayed by itself. */
export function showRunTimes({ recordMs, finishMs, submitMs, deviceMs, kernels }: RunTimes, plan: Plan): string {
  const bytes = bytesPerLaunch(plan);
  const sum = kernels.reduce((total, { ms }) => total + ms, 0);
  const launches = kernels.reduce((total, each) => total + each.launches, 0);
  const us = (ms: number) => (1000 * ms).toFixed(1);
  const rows = [...kernels]
    .sort((a, b) => b.ms - a.ms)
    .map(({ kernel, launches, ms }) => {
      const rate = (bytes[kernel]! * launches) / ms / 1e6;
      return `${((100 * ms) / sum).toFixed(1).padStart(5)} % ${us(ms).padStart(8)} us ${String(launches).padStart(4)} x ${us(ms / launches).padStart(7)} us ${(bytes[kernel]! / 1e6).toFixed(3).padStart(8)} MB ${rate.toFixed(0).padStart(5)} GB/s  ${plan.kernels[kernel]!.name}#${kernel}`;
    });
  return [
    `a step: device ${us(deviceMs)} us (${us(deviceMs / launches)} a launch); this side ${us(recordMs + finishMs + submitMs)} us: recording ${us(recordMs)}, finishing ${us(finishMs)}, submitting ${us(submitMs)}`,
    `kernels replayed: ${us(sum)} us in ${launches} launches`,
    ...rows,
  ].join("\n");
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
