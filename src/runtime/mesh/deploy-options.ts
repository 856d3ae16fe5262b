/** What `shardAndDeploy` can be told. */
import { allBackendNames, checkQuantizeOptions, type QuantizeOptions } from "../../compile.ts";
import { didYouMean, InputError, showValue, UnsupportedError } from "../../ir/errors.ts";
import type { Mesh } from "../../ir/mesh.ts";
import type { LimitOptions } from "../load-limits.ts";
import type { InputScales } from "../quality/input-scales.ts";
import type { PlainCompileOptions } from "./messages.ts";

/** Where ranks run: threads share memory; processes may each have a GPU of their own; `here` is the calling thread. */
export type Place = "threads" | "processes" | "here";

export interface DeployOptions extends LimitOptions {
  /**
   * How many devices with a part of the model each, or a mesh of such, as in `{ pp: 2, tp: 2 }`. Axes: tp, pp, ep, and dp, along which whole models stand
   * beside each other with requests divided over them.
   */
  readonly devices: number | Mesh;
  /** What each device computes with; any backend of `loadModel`. Default "wasm", or "js" where the engine cannot. */
  readonly backend?: string | undefined;
  /** Default: threads for js and wasm, processes where `gpus` are named, else here. */
  readonly place?: Place | undefined;
  /**
   * Numbers of NVIDIA's GPUs, as in /dev/nvidia0: each rank is a process that sees one of them, in turn. Linux; needs the
   * commands unshare and mount. Other processes of WebGPU under Node take the first GPU there is.
   */
  readonly gpus?: readonly number[] | undefined;
  /** Flags of Dawn, for WebGPU under Node. */
  readonly gpuFlags?: readonly string[] | undefined;
  /** Where TensorFlow.js is, see `DeviceOptions`. */
  readonly packageFolder?: string | undefined;
  /** As for `loadModel`. Default: as stored. */
  readonly quantize?: QuantizeOptions | undefined;
  readonly compile?: Omit<PlainCompileOptions, "quantize"> | undefined;
  readonly inputScales?: InputScales | undefined;
  /** Groups of requests that stages compute in turn, each with a share of sequences and caches. Default: as many as stages. */
  readonly lanes?: number | undefined;
  /** Steps that are decoded without this side being asked for each token. Default 16, and 0 for threads. */
  readonly stepsAhead?: number | undefined;
  /** How long a step, and within it an exchange, may take, in milliseconds. Default 60 s. */
  readonly stepMs?: number | undefined;
  /** How long compiling a bucket and reading weights may take, in milliseconds. Default 30 min. */
  readonly loadMs?: number | undefined;
}

const optionNames = [
  "devices",
  "backend",
  "place",
  "gpus",
  "gpuFlags",
  "packageFolder",
  "quantize",
  "compile",
  "inputScales",
  "lanes",
  "stepsAhead",
  "stepMs",
  "loadMs",
  "contextLength",
  "maxSequences",
  "maxBatchTokens",
  "cacheBytes",
];
const places: readonly Place[] = ["threads", "processes", "here"];
/** What threads of a mesh, which wait for each other by sleeping, can run. */
const inThreads: readonly string[] = ["js", "wasm"];

/** Where the ranks of a mesh with these options run. */
export function placeOf({ place, gpus, backend }: DeployOptions): Place {
  if (place !== undefined) return place;
  if (gpus !== undefined) return "processes";
  return backend === undefined || inThreads.includes(backend) ? "threads" : "here";
}

/** @throws InputError, UnsupportedError */
export function checkDeployOptions(options: DeployOptions): void {
  if (typeof options !== "object" || options === null) {
    throw new InputError("shardAndDeploy", `expected options such as { devices: 2 }, got ${showValue(options)}`);
  }
  for (const name of Object.keys(options)) {
    if (optionNames.includes(name)) continue;
    const hint = didYouMean(name, optionNames) ?? `Options: ${optionNames.join(", ")}.`;
    throw new InputError(`shardAndDeploy ${name}`, "unknown option", { hint });
  }
  checkPlace(options);
  if (options.quantize !== undefined) checkQuantizeOptions(options.quantize);
  const { stepMs = 1, loadMs = 1, lanes = 1, stepsAhead = 0 } = options;
  for (const [name, ms] of Object.entries({ stepMs, loadMs })) {
    if (!Number.isFinite(ms) || ms <= 0 || ms > 2 ** 31 - 2000) {
      throw new InputError(`shardAndDeploy ${name}`, `expected milliseconds above 0, got ${ms}`);
    }
  }
  for (const [name, count, least] of [
    ["lanes", lanes, 1],
    ["stepsAhead", stepsAhead, 0],
  ] as const) {
    if (Number.isInteger(count) && count >= least && count <= 1024) continue;
    throw new InputError(`shardAndDeploy ${name}`, `expected a whole number from ${least} to 1024, got ${count}`);
  }
}

function checkPlace(options: DeployOptions): void {
  const { backend, place, gpus } = options;
  if (place !== undefined && !places.includes(place)) {
    throw new InputError("shardAndDeploy place", `expected ${places.join(" or ")}, got ${JSON.stringify(place)}`);
  }
  if (backend !== undefined && typeof backend !== "string") {
    throw new InputError("shardAndDeploy backend", `expected a name, got ${showValue(backend)}`);
  }
  if (backend !== undefined && !allBackendNames.some((name) => name === backend)) {
    const hint = didYouMean(backend, [...allBackendNames]) ?? `Backends: ${allBackendNames.join(", ")}.`;
    throw new UnsupportedError("backend", `there is no backend ${JSON.stringify(backend)} for a mesh`, { hint });
  }
  if (backend !== undefined && !inThreads.includes(backend) && placeOf(options) === "threads") {
    const what = `expected js or wasm, which threads can run, got ${JSON.stringify(backend)}`;
    throw new UnsupportedError("backend", what, { hint: 'Leave `place` out, or use "processes".' });
  }
  if (gpus === undefined) return;
  if (placeOf(options) !== "processes") {
    throw new InputError(
      "shardAndDeploy gpus",
      'only processes can have GPUs of their own: expected place "processes"',
    );
  }
  if (!Array.isArray(gpus) || gpus.length === 0 || !gpus.every((gpu) => Number.isInteger(gpu) && gpu >= 0)) {
    throw new InputError("shardAndDeploy gpus", `expected numbers of GPUs, got ${JSON.stringify(gpus)}`);
  }
}
