/**
 * Candidates: the ways in which a number of devices can be divided for a model, each priced: what its devices hold, send
 * and take time for.
 */
import { balancedEnds } from "../passes/shard/stages.ts";
import {
  type Degrees,
  exchanges,
  heldBytes,
  imbalance,
  layerBytes,
  memoryOf,
  type StepCost,
  type System,
  stepCost,
  type TimePart,
  type Workload,
} from "./cost.ts";
import type { LayerShape, ModelShape } from "./shape.ts";

export interface StagePlan {
  /** First layer and the one after the last; the embedding counts with the first, the head with the last. */
  readonly layers: readonly [number, number];
  readonly weights: number;
  readonly caches: number;
  readonly working: number;
}

export interface Candidate {
  readonly name: string;
  readonly mesh: { readonly pp: number; readonly tp: number; readonly dp: number; readonly ep: number };
  readonly stages: readonly StagePlan[];
  /** Bytes on the fullest device, and what it may hold. */
  readonly peak: number;
  readonly limit: number;
  readonly fits: boolean;
  /** Sequences of this context that fit at most. */
  readonly mostSequences: number;
  /** Per token and device: messages, and bytes sent. */
  readonly messages: number;
  readonly bytes: number;
  /** The busiest device's experts over the mean. */
  readonly imbalance: number;
  /** Tokens/s of one sequence alone, of all together, and of prefill of one replica's prompts. */
  readonly decodeOne: number;
  readonly decodeAll: number;
  readonly prefill: number;
  /** Seconds until the first token of a prompt of the whole context. */
  readonly firstToken: number;
  /** What most of a decoding step goes into, with its share, and the step's seconds by part. */
  readonly limitedBy: string;
  readonly parts: Readonly<Record<TimePart, number>>;
}

/** Fastest for the whole batch; of those within a tenth, the fastest for one sequence. */
export function rank(fitting: readonly Candidate[]): Candidate[] {
  const score = ({ decodeAll, decodeOne }: Candidate) => Math.log(decodeAll) + 0.1 * Math.log(decodeOne);
  return [...fitting].sort((a, b) => score(b) - score(a));
}

/** Every division of the devices that the model allows. */
export function degreesFor(devices: number, shape: ModelShape, tensor: readonly number[]): Degrees[] {
  const found: Degrees[] = [];
  const mixture = shape.layers.find(({ experts }) => experts !== null)?.experts ?? null;
  const most = shape.layers.filter(({ attention }) => attention).length;
  for (const tp of tensor) {
    for (let pp = 1; pp <= Math.min(most, devices / tp); pp++) {
      const dp = devices / tp / pp;
      if (!Number.isInteger(dp)) continue;
      found.push({ pp, tp, dp, experts: false });
      if (mixture !== null && tp * dp > 1 && mixture.count % (tp * dp) === 0) found.push({ pp, tp, dp, experts: true });
    }
  }
  return found;
}

/** Contiguous runs of layers of about equal weight; the embedding is with the first and the head with the last. */
export function stagesOf(
  shape: ModelShape,
  degrees: Degrees,
): { layers: readonly LayerShape[]; range: [number, number] }[] {
  const { layers } = shape;
  const ends = balancedEnds(
    layers.map((layer) => layerBytes(shape, layer, degrees)),
    degrees.pp,
  );
  return ends.map((end, i) => {
    const start = i === 0 ? 0 : ends[i - 1]!;
    const inner = layers.length - 2;
    return { layers: layers.slice(start, end), range: [Math.max(start - 1, 0), Math.min(end - 1, inner)] };
  });
}

export function price(shape: ModelShape, degrees: Degrees, work: Workload, system: System): Candidate {
  const { device, software } = system;
  const { pp, tp, dp, experts } = degrees;
  const stages = stagesOf(shape, degrees);
  const memory = stages.map(({ layers }) => memoryOf(shape, layers, degrees, work));
  const limit = device.memory * software.memoryUse;
  const peak = Math.max(...memory.map(({ weights, caches, working }) => weights + caches + working));
  const own = Math.ceil(work.batch / dp);
  const lists = stages.map(({ layers }) => layers);
  const step = (tokens: number, attended: number, decoding: boolean): StepCost =>
    stepCost(shape, lists, degrees, { tokens, attended, decoding }, system);
  // As many microbatches as stages keep all stages busy.
  const micro = Math.max(1, Math.ceil(own / pp));
  const all = step(micro, work.context, true);
  const round = Math.max(all.latency, Math.ceil(own / micro) * all.slowest);
  const one = step(1, work.context, true);
  const fill = step(work.chunk, work.prompt / 2, false);
  const chunks = Math.ceil(work.prompt / work.chunk);
  const mostSequences = Math.min(
    ...stages.map(({ layers }, i) => {
      const { weights, working } = memory[i]!;
      const each = memoryOf(shape, layers, degrees, { ...work, batch: dp }).caches;
      return each === 0 ? Number.POSITIVE_INFINITY : Math.max(0, Math.floor((limit - weights - working) / each)) * dp;
    }),
  );
  const mixture = shape.layers.find((layer) => layer.experts !== null)?.experts ?? null;
  const exchanged = perToken(shape, degrees, system);
  return {
    name: nameOf(degrees),
    mesh: { pp, tp, dp, ep: experts ? tp * dp : 1 },
    stages: stages.map(({ range }, i) => ({ layers: range, ...memory[i]! })),
    peak,
    limit,
    fits: peak <= limit,
    mostSequences,
    ...exchanged,
    imbalance: mixture === null || !experts ? 1 : imbalance(tp * dp, work.batch * mixture.perToken),
    decodeOne: 1 / one.latency,
    decodeAll: Math.min(work.batch, own * dp) / round,
    prefill: (work.chunk / fill.slowest) * dp,
    firstToken: fill.latency + (chunks - 1) * fill.slowest,
    limitedBy: limiting(all, system),
    parts: all.parts,
  };
}

function nameOf({ pp, tp, dp, experts }: Degrees): string {
  const parts = [
    ...(pp > 1 ? [`pp ${pp}`] : []),
    ...(tp > 1 ? [`tp ${tp}`] : []),
    ...(dp > 1 ? [`dp ${dp}`] : []),
    ...(experts ? [`ep ${tp * dp}`] : []),
  ];
  return parts.length === 0 ? "one device" : parts.join(" x ");
}

/** Messages and bytes that a device sends for one token of decoding. */
function perToken(shape: ModelShape, degrees: Degrees, system: System): { messages: number; bytes: number } {
  const all = shape.layers
    .filter(({ attention }) => attention)
    .flatMap((layer) => exchanges(shape, layer, degrees, 1, true, system));
  const hops = degrees.pp > 1 ? 1 : 0;
  const total = (part: "messages" | "bytes") => all.reduce((sum, each) => sum + each[part], 0) / degrees.pp;
  return { messages: total("messages") + hops, bytes: total("bytes") + hops * shape.hidden * 2 };
}

const words: Readonly<Record<TimePart, string>> = {
  weights: "reading weights",
  products: "matrix products",
  cache: "reading caches",
  attention: "attention",
  overhead: "launches",
  latency: "latency of links",
  bandwidth: "bandwidth of links",
};

function limiting({ parts }: StepCost, { software }: System): string {
  const hidden = (part: TimePart) =>
    (part === "weights" && parts.weights < parts.products) ||
    (part === "products" && parts.products <= parts.weights) ||
    (part === "cache" && parts.cache < parts.attention) ||
    (part === "attention" && parts.attention <= parts.cache);
  const shown = (Object.keys(parts) as TimePart[]).filter((part) => !hidden(part)); // the record's keys
  const weight = (part: TimePart) => parts[part] * (part === "bandwidth" ? 1 - software.overlap / 2 : 1);
  const total = shown.reduce((sum, part) => sum + weight(part), 0);
  const most = shown.reduce((best, part) => (weight(part) > weight(best) ? part : best));
  return `${words[most]} (${Math.round((100 * weight(most)) / total)} %)`;
}

export function totalWeights(shape: ModelShape): number {
  return heldBytes(shape, shape.layers, { pp: 1, tp: 1, dp: 1, experts: false });
}
