/** The file that keeps what was probed. It may be anything by the time it is read: what does not make sense is ignored, with a word. */
import { makeFolder } from "../make-folder.ts";
import { type BackendProbe, type Figures, figureNames } from "./backend-probe.ts";
import { type Conditions, isBusy } from "./machine.ts";
import { nodeModules } from "./node-modules.ts";
import type { ProbeReport } from "./probe-report.ts";

const fileName = "probe.json";
const mostBytes = 1_000_000;
/** How long figures of a busy machine are kept: the next minutes are likely to be as busy. */
const busyMs = 10 * 60_000;

export interface CacheAnswer {
  /** Null where there is nothing, nothing for these conditions, or nothing that makes sense. */
  readonly report: ProbeReport | null;
  readonly notes: readonly string[];
}

export function readProbeCache(folder: string, conditions: Conditions): CacheAnswer {
  const { fs, path } = nodeModules();
  const file = path.join(folder, fileName);
  const ignored = (why: string): CacheAnswer => ({ report: null, notes: [`${file} is ignored: ${why}`] });
  let text: string;
  let age: number;
  try {
    const info = fs.statSync(file, { throwIfNoEntry: false });
    if (info === undefined) return { report: null, notes: [] };
    if (!info.isFile()) return ignored("it is no file");
    if (info.size > mostBytes) return ignored(`it has ${info.size} bytes`);
    text = fs.readFileSync(file, "utf8");
    age = Date.now() - info.mtimeMs;
  } catch (error) {
    return ignored(error instanceof Error ? error.message : String(error));
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return ignored("it is not JSON");
  }
  if (!isRecord(value) || value.schema !== "ciuic-probe-1" || typeof value.complete !== "boolean")
    return ignored("it is of another kind");
  if (JSON.stringify(value.conditions) !== JSON.stringify(conditions)) return { report: null, notes: [] };
  const { probes, busy } = value;
  if (!isSize(busy)) return ignored("it does not say how busy the machine was");
  if (isBusy(busy) && age > busyMs) return { report: null, notes: [] };
  if (!Array.isArray(probes) || probes.length === 0 || !probes.every(isProbe)) return ignored("its rows make no sense");
  return {
    report: { schema: "ciuic-probe-1", conditions, probes, complete: value.complete, busy, cached: true, notes: [] },
    notes: [],
  };
}

/** Written under another name first, so that no reader sees half of it. Gives what went wrong, or null. */
export function writeProbeCache(
  folder: string,
  { schema, conditions, probes, complete, busy }: ProbeReport,
): string | null {
  const { fs, path } = nodeModules();
  const file = path.join(folder, fileName);
  try {
    makeFolder(folder);
    const unfinished = `${file}.${process.pid}`;
    fs.writeFileSync(unfinished, `${JSON.stringify({ schema, conditions, complete, busy, probes }, null, 1)}\n`);
    fs.renameSync(unfinished, file);
    return null;
  } catch (error) {
    return `${file} cannot be written: ${error instanceof Error ? error.message : String(error)}`;
  }
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const isText = (value: unknown) => typeof value === "string" && value.length < 10_000;
const isSize = (value: unknown): value is number | null =>
  value === null || (typeof value === "number" && value >= 0 && value <= Number.MAX_VALUE);

function isProbe(value: unknown): value is BackendProbe {
  if (!isRecord(value)) return false;
  const { backend, label, threads, missing, device, software, memory, buffer, binding, features, figures, unmeasured } =
    value;
  return (
    isText(backend) &&
    isText(label) &&
    (threads === null || (Number.isInteger(threads) && Number(threads) >= 1 && Number(threads) <= 64)) &&
    (missing === null || (isRecord(missing) && isText(missing.reason) && isText(missing.mend))) &&
    (device === null || isText(device)) &&
    typeof software === "boolean" &&
    [memory, buffer, binding].every(isSize) &&
    Array.isArray(features) &&
    features.every(isText) &&
    (figures === null || isFigures(figures)) &&
    (unmeasured === null || isText(unmeasured))
  );
}

function isFigures(value: unknown): value is Figures {
  return (
    isRecord(value) &&
    figureNames.every((name) => typeof value[name] === "number" && value[name] > 0 && value[name] < 1e20)
  );
}
