/** A compiled model in numbers and names, as plain data that a page can show. */
import type { Compiled, CompileHistory, CompileReport, Executable } from "../../compile.ts";
import { printKernel } from "../../ir/kernel/print.ts";
import { kernelUse } from "../../trace-file.ts";

export type PassSummary = CompileHistory["passes"][number];

export interface KernelSummary {
  readonly name: string;
  /** The tensor ops it came from, as printed text. */
  readonly origin: readonly string[];
  readonly launches: number;
  /** Of all its launches in a step: what they read and write, at most. */
  readonly bytes: number;
}

export interface ProgramSummary {
  /** The name of the compiled module. */
  readonly name: string;
  readonly passes: readonly PassSummary[];
  readonly kernels: readonly KernelSummary[];
  readonly report: CompileReport;
}

export interface KernelText {
  /** The kernel as the compiler's IR. */
  readonly ir: string;
  /** What the backend made of it. */
  readonly source: string;
}

export function summarizeProgram({ plan, report }: Compiled): ProgramSummary {
  const use = kernelUse(plan);
  return {
    name: plan.name,
    report,
    passes: report.history.passes,
    kernels: plan.kernels.map(({ name, origin }, i) => ({ name, origin, ...use[i]! })),
  };
}

export function kernelText({ plan, program }: Executable, index: number): KernelText | null {
  const kernel = plan.kernels[index];
  return kernel === undefined ? null : { ir: printKernel(kernel), source: program.sources[index] ?? "" };
}
