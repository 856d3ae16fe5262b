/** Single kernels against single ops of the ONNX runtimes and tfjs, at the shapes of a model; each in its own process. */
import { type EngineProcess, startEngine } from "../engine-process.ts";
import { locked } from "../lock.ts";
import { measure } from "../measure.ts";
import { digits, table, threadsText } from "../table.ts";
import type { OpSpec } from "./op-runner.ts";

export interface OpReport {
  readonly library: OpSpec["library"];
  readonly weights: OpSpec["weights"];
  readonly k: number;
  readonly n: number;
  readonly m: number;
  readonly threads: number;
  /** 10^9 multiplications and additions per second, median and best; and of weights read. 0 for what failed. */
  readonly gops: number;
  readonly bestGops: number;
  readonly gigabytesPerSecond: number;
  readonly failure?: string;
}

export interface OpOptions {
  readonly threads: number;
  /** Some of `opPeers`. */
  readonly peers: readonly string[];
  readonly formats: readonly OpSpec["weights"][];
  readonly quick: boolean;
  /** A file whose lock is held while samples are taken. */
  readonly lock: string | undefined;
  readonly log: (text: string) => void;
}

/** Of R1-Distill-Qwen-1.5B: up, down, head; and a square matrix as larger models have. */
const sizes: readonly (readonly [k: number, n: number])[] = [
  [1536, 8960],
  [8960, 1536],
  [1536, 151936],
  [4096, 4096],
];
/** Weights of all copies together, well beyond caches. */
const arenaBytes = 200e6;
export const opPeers = ["ort", "ort-web", "tfjs"] as const;
export const opFormats = ["int4", "int8", "f32"] as const;
const bytesPerWeight = { f32: 4, int8: 34 / 32, int4: 18 / 32 } as const;

export async function opBench({ threads, peers, formats, quick, lock, log }: OpOptions): Promise<OpReport[]> {
  const reports: OpReport[] = [];
  for (const [k, n] of quick ? sizes.slice(0, 1) : sizes) {
    for (const m of [1, 128]) {
      if (quick && m > 1) continue;
      for (const weights of formats) {
        // Many rows make an op so long that caches no longer matter.
        const wanted = m === 1 ? Math.ceil(arenaBytes / (k * n * bytesPerWeight[weights])) : 1;
        const specs = librariesFor(weights, m, peers).map((library): OpSpec => {
          const slow = library === "ort-web" && weights !== "f32";
          return { engine: "op", library, weights, k, n, m, copies: slow ? 1 : wanted, threads };
        });
        log(`op ${weights} ${m}x${k}x${n}`);
        const some = await compare(specs, quick ? 5 : 11, lock);
        log(showOps(some));
        reports.push(...some);
      }
    }
  }
  return reports;
}

function librariesFor(weights: OpSpec["weights"], m: number, peers: readonly string[]): OpSpec["library"][] {
  const ort: OpSpec["library"][] = weights === "int8" ? ["ort", "ort-dynamic"] : ["ort"];
  return [
    "ciuic",
    ...(peers.includes("ort") ? ort : []),
    // It takes seconds for many rows of packed weights.
    ...(peers.includes("ort-web") && (m === 1 || weights === "f32") ? ["ort-web" as const] : []),
    ...(peers.includes("tfjs") && weights === "f32" ? ["tfjs" as const] : []),
  ];
}

async function compare(specs: readonly OpSpec[], rounds: number, lock: string | undefined): Promise<OpReport[]> {
  const reports: OpReport[] = [];
  const running: { spec: OpSpec; engine: EngineProcess }[] = [];
  const base = ({ library, weights, k, n, m, threads }: OpSpec) => ({ library, weights, k, n, m, threads });
  for (const spec of specs) {
    try {
      running.push({ spec, engine: await startEngine(spec) });
    } catch (error) {
      const failure = error instanceof Error ? error.message : String(error);
      reports.push({ ...base(spec), gops: 0, bestGops: 0, gigabytesPerSecond: 0, failure });
    }
  }
  const engines = running.map(({ engine }) => engine);
  const task = {
    name: "op",
    request: { do: "op" },
    tokens: 1,
    context: null,
    rounds,
    warmUps: 5,
    warmUpMs: 1500,
  } as const;
  const measured = await locked(lock, () => measure(engines, task));
  for (const [i, { spec, engine }] of running.entries()) {
    const { k, n, m, copies, weights } = spec;
    const gops = (runs: number) => (2 * k * n * m * copies * runs) / 1e9;
    const gigabytesPerSecond = (k * n * copies * bytesPerWeight[weights] * measured[i]!.median) / 1e9;
    const rates = { gops: gops(measured[i]!.median), bestGops: gops(measured[i]!.best), gigabytesPerSecond };
    reports.push({ ...base(spec), ...rates });
    await engine.close();
  }
  return reports;
}

/** A line per shape and format: ours, then each peer with our rate over its. */
export function showOps(reports: readonly OpReport[]): string {
  const keys = [...new Set(reports.map(keyOf))];
  const lines = keys.flatMap((key) => {
    const same = reports.filter((report) => keyOf(report) === key);
    const own = same.find(({ library }) => library === "ciuic")?.gops ?? 0;
    return same
      .toSorted((a, b) => Number(b.library === "ciuic") - Number(a.library === "ciuic"))
      .map(({ library, gops, bestGops, gigabytesPerSecond, failure }, i) => {
        const name = i === 0 ? key : "";
        if (failure !== undefined) return [name, library, failure.split("\n")[0]!.slice(0, 80)];
        const ratio = library === "ciuic" ? "" : (own / gops).toFixed(2);
        return [name, library, `${digits(gops)} [${digits(bestGops)}]`, gigabytesPerSecond.toFixed(1), ratio];
      });
  });
  const header = ["rows x sum x results", "", "GOP/s", "GB/s of weights", "ciuic over it"];
  return `single ops, ${threadsText(reports[0]?.threads ?? 0)}\n${table([header, ...lines])}`;
}

function keyOf({ weights, k, n, m }: OpReport): string {
  return `${weights} ${m} x ${k} x ${n}`;
}
