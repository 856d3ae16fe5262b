/**
 * `probe()`: what each backend can do on this machine. Measured in less than three seconds and kept in a file of the cache
 * folder together with the conditions it was measured under; other conditions, or `fresh`, measure again.
 */
import { cacheHome, vulkanDrivers } from "../../env.ts";
import { type BackendProbe, noTime } from "./backend-probe.ts";
import { probeEntries } from "./backend-rows.ts";
import { busyCores, mayHaveVulkan, readConditions, usableMemory, workedTime } from "./machine.ts";
import { ProbePlans } from "./measure-figures.ts";
import { measureRuntime } from "./measure-runtime.ts";
import { readProbeCache, writeProbeCache } from "./probe-cache.ts";
import type { ProbeReport } from "./probe-report.ts";

export interface ProbeOptions {
  /** Measure, whatever the cache has. */
  readonly fresh?: boolean;
  /** Where results are kept. Default: `CIUIC_CACHE`, or the system's folder for caches. Null: nowhere. */
  readonly folder?: string | null;
  /** Where packages of TensorFlow.js are, if not beside this one. */
  readonly packageFolder?: string | undefined;
  /** Where WebGPU comes from. Default: `navigator.gpu`, or the package `webgpu`. */
  readonly gpu?: GPU;
  /** Milliseconds that measuring may take. */
  readonly milliseconds?: number;
  /** Measure only what the choice for a large model needs. */
  readonly quick?: boolean;
}

export type { ProbeReport } from "./probe-report.ts";

const [fullTime, quickTime] = [2500, 2000];

export async function probe(options: ProbeOptions = {}): Promise<ProbeReport> {
  const folder = options.folder === undefined ? cacheHome() : options.folder;
  const { fresh = false, quick = false, milliseconds = quick ? quickTime : fullTime } = options;
  const { packageFolder } = options;
  const conditions = readConditions(vulkanDrivers(), packageFolder);
  const { report: kept, notes } =
    folder === null || fresh ? { report: null, notes: [] } : readProbeCache(folder, conditions);
  // What was asked of a GPU given here says nothing about another.
  if (kept !== null && options.gpu === undefined && (quick || kept.complete)) return { ...kept, cached: true, notes };
  const context = {
    cores: conditions.cores,
    processor: conditions.cpu,
    memory: usableMemory(),
    plans: new ProbePlans(),
    runtime: await measureRuntime(),
    deadline: performance.now() + milliseconds,
    // Who has more time gets steadier figures.
    patience: Math.max(25, milliseconds / 100),
    quick,
    vulkan: mayHaveVulkan(vulkanDrivers()),
    gpu: options.gpu ?? null,
    packageFolder,
  };
  const before = workedTime();
  const probes: BackendProbe[] = [];
  for (const entry of probeEntries) probes.push(...(await entry.probe(context)));
  const late = probes.some(({ unmeasured }) => unmeasured === noTime);
  const complete = !quick && !late;
  const busy = busyCores(before, workedTime());
  const report: ProbeReport = { schema: "ciuic-probe-1", conditions, probes, complete, busy, cached: false, notes };
  // What is likely chosen was not reached: the next load may have more luck.
  const first = probes.find(({ missing, software }) => missing === null && !software);
  const useless = quick && first?.unmeasured === noTime;
  if (folder === null || options.gpu !== undefined || useless) return report;
  const problem = writeProbeCache(folder, report);
  return problem === null ? report : { ...report, notes: [...notes, problem] };
}

/** What the cache has, without measuring. Null where it has nothing for these conditions. */
export function cachedProbe(folder: string = cacheHome(), packageFolder?: string): ProbeReport | null {
  const { report, notes } = readProbeCache(folder, readConditions(vulkanDrivers(), packageFolder));
  return report === null ? null : { ...report, cached: true, notes };
}
