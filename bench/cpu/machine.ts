/** The machine that figures were taken on, as far as it matters for them. */
import { readFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  /** Instruction sets that decide how fast products of bytes are. */
  readonly flags: readonly string[];
  readonly memoryBytes: number;
  readonly node: string;
  readonly v8: string;
  /** Busy processes over the last minute, when asked. */
  readonly load: number;
}

const flagNames = ["avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"];

export function describeMachine(): Machine {
  const cores = cpus();
  const flags = cpuFlags();
  return {
    cpu: cores[0]?.model.trim() ?? "unknown",
    cores: cores.length,
    flags: flagNames.filter((flag) => flags.includes(flag)),
    memoryBytes: totalmem(),
    node: process.version,
    v8: process.versions.v8,
    load: loadavg()[0]!,
  };
}

function cpuFlags(): readonly string[] {
  try {
    return /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.trim().split(" ") ?? [];
  } catch {
    return []; // not Linux
  }
}
