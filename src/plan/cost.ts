/**
 * The cost model: what a placement of a model on devices takes in memory, sends, and how long its steps last.
 *
 * A device's time is the larger of reading (weights once per step, caches once per token) and computing, per layer, for
 * matrix products and for attention; exchanging is added but for the part that overlap hides. Stages of a pipeline work on
 * microbatches at the same time. Peaks are scaled by what software reaches (hardware.ts).
 */
import type { DeviceSpec, LinkSpec, Software } from "./hardware.ts";
import type { LayerShape, ModelShape } from "./shape.ts";

/** Devices along each kind of division. */
export interface Degrees {
  readonly pp: number;
  readonly tp: number;
  readonly dp: number;
  /** Whether routed experts are divided over all tp * dp devices of a stage; otherwise their widths over tp. */
  readonly experts: boolean;
}

export interface Workload {
  /** Sequences that are decoded together. */
  readonly batch: number;
  /** Tokens of each, prompt and answer. */
  readonly context: number;
  /** Prompt tokens of each that are prefilled. */
  readonly prompt: number;
  /** Tokens that a device prefills in one step. */
  readonly chunk: number;
}

export interface System {
  readonly device: DeviceSpec;
  readonly link: LinkSpec;
  readonly software: Software;
}

export interface Memory {
  readonly weights: number;
  readonly caches: number;
  /** Values of a step. */
  readonly working: number;
}

export interface StepCost {
  /** Seconds of the slowest stage, of all stages in turn, and what they consist of, of the slowest. */
  readonly slowest: number;
  readonly latency: number;
  readonly parts: Readonly<Record<TimePart, number>>;
}

export type TimePart = "weights" | "products" | "cache" | "attention" | "overhead" | "latency" | "bandwidth";
export const timeParts: readonly TimePart[] = [
  "weights",
  "products",
  "cache",
  "attention",
  "overhead",
  "latency",
  "bandwidth",
];

/** Bytes of one layer's weights on a device. */
export function layerBytes(shape: ModelShape, layer: LayerShape, { tp, dp, experts }: Degrees): number {
  const bits = layer.attention ? shape.bits.layer : shape.bits.table;
  const plain = ((layer.cut / tp + layer.repeated) * bits) / 8;
  if (layer.experts === null) return plain;
  const { count, size } = layer.experts;
  return plain + (count * size * shape.bits.expert) / 8 / (experts ? tp * dp : tp);
}

/** Bytes of the weights of layers on one device. */
export function heldBytes(shape: ModelShape, stage: readonly LayerShape[], degrees: Degrees): number {
  const held = stage.filter(({ tied }) => !(tied && stage[0] === shape.layers[0]));
  return held.reduce((sum, layer) => sum + layerBytes(shape, layer, degrees), 0);
}

/** Bytes of cache of one token in one layer on a device. */
export function cacheBytes(shape: ModelShape, { tp }: Degrees): number {
  return shape.cacheBytes / Math.min(tp, shape.cacheHeads);
}

export function memoryOf(shape: ModelShape, stage: readonly LayerShape[], degrees: Degrees, work: Workload): Memory {
  const weights = heldBytes(shape, stage, degrees);
  const own = Math.ceil(work.batch / degrees.dp);
  const attending = stage.filter(({ attention }) => attention).length;
  const tokens = Math.max(own, work.chunk);
  // Of steps of a few sizes what crosses from device to device, which is of the residual stream; a layer's inner values.
  const widest = Math.max(...stage.map(innerWidth)) / degrees.tp;
  const working = 4 * tokens * (8 * shape.hidden + 6 * widest);
  return { weights, caches: own * work.context * attending * cacheBytes(shape, degrees), working };
}

/** Channels inside a layer, about: its parameters over its inputs. */
function innerWidth({ cut, experts, attention }: LayerShape): number {
  if (!attention) return 0;
  return Math.sqrt(cut / 4) + (experts === null ? 0 : Math.sqrt(experts.size / 3) * experts.perToken);
}

/** Experts of `held` that n tokens meet, if each takes k of all `count` at random. */
export function expertsMet(count: number, perToken: number, n: number): number {
  return count * (1 - (1 - perToken / count) ** n);
}

/**
 * How much more than the mean the busiest of `groups` devices gets, if `tokens` choices fall on them at random: the mean
 * plus sqrt(2 ln groups) deviations of a Poisson distribution. Real routing is less even; balancing with copies of busy
 * experts brings it back near this.
 */
export function imbalance(groups: number, choices: number): number {
  if (groups <= 1 || choices <= 0) return 1;
  return Math.min(1 + Math.sqrt((2 * Math.log(groups) * groups) / choices), groups);
}

export interface StepWork {
  /** Tokens of one replica in the step, and tokens that each attends to on average. */
  readonly tokens: number;
  readonly attended: number;
  readonly decoding: boolean;
}

/** Seconds of one layer of a step on one device, by part; parts that run at the same time are not yet taken together. */
export function layerTimes(
  shape: ModelShape,
  layer: LayerShape,
  degrees: Degrees,
  work: StepWork,
  { device, software, link }: System,
): Record<TimePart, number> {
  const { tp } = degrees;
  const { tokens, attended, decoding } = work;
  const rate = device.bandwidth * software.bandwidthUse;
  const flops = device.flops * software.flopsUse;
  const bits = layer.attention ? shape.bits.layer : shape.bits.table;
  const read = ((layer.cut - layer.looked) / tp + layer.repeated) * (bits / 8);
  const multiplied = (layer.cut - layer.looked) / tp + layer.repeated;
  const parts: Record<TimePart, number> = {
    weights: read / rate,
    // Of a prompt only the last token's logits are wanted.
    products: (2 * (layer.attention || decoding ? tokens : 1) * multiplied) / flops,
    cache: 0,
    attention: 0,
    overhead: layer.attention ? software.layerOverhead : 0,
    latency: 0,
    bandwidth: 0,
  };
  if (layer.experts !== null) addExperts(parts, shape, layer, degrees, tokens, { rate, flops });
  if (!layer.attention) return parts;
  if (decoding) parts.cache = (tokens * attended * cacheBytes(shape, degrees)) / rate;
  const perPair = decoding ? shape.decodeAttention : shape.prefillAttention;
  parts.attention = (tokens * attended * perPair) / tp / (device.attentionFlops * software.attentionUse);
  for (const { latency, transfer } of exchanges(shape, layer, degrees, tokens, decoding, { link, software })) {
    parts.latency += latency;
    parts.bandwidth += transfer;
  }
  return parts;
}

function addExperts(
  parts: Record<TimePart, number>,
  shape: ModelShape,
  layer: LayerShape,
  { tp, dp, experts }: Degrees,
  tokens: number,
  { rate, flops }: { readonly rate: number; readonly flops: number },
): void {
  const { count, perToken, size } = layer.experts!; // the caller's condition
  const bytes = (size * shape.bits.expert) / 8;
  const ranks = experts ? tp * dp : 1;
  const together = experts ? tokens * dp : tokens;
  const busiest = imbalance(ranks, together * perToken);
  const met = Math.min(Math.ceil(count / ranks), (expertsMet(count, perToken, together) / ranks) * busiest);
  parts.weights += (met * bytes) / (experts ? 1 : tp) / rate;
  parts.products += ((2 * together * perToken * size) / (experts ? ranks : tp) / flops) * busiest;
}

/** Of one device: seconds of waiting and of transfer, and what it sends. */
export interface Exchanged {
  readonly latency: number;
  readonly transfer: number;
  readonly messages: number;
  readonly bytes: number;
}

/** Bytes of a value that is exchanged: activations in 16 bits, those sent to experts in 8. */
const [wide, narrow] = [2, 1];

/** What a layer exchanges: a sum after attention, and a sum or the way to experts and back. */
export function exchanges(
  shape: ModelShape,
  layer: LayerShape,
  { tp, dp, experts }: Degrees,
  tokens: number,
  decoding: boolean,
  { link, software }: Omit<System, "device">,
): Exchanged[] {
  const { near = link } = link;
  const board = tp <= (link.near?.size ?? 1) ? near : link;
  const rate = board.bandwidth * software.linkUse;
  const sum =
    tp === 1 ? [] : [allReduce(tokens * shape.hidden * wide, tp, rate, board.latency + software.collectiveOverhead)];
  if (layer.experts === null || !experts || dp === 1) return [...sum, ...sum];
  const copies = remoteCopies(layer, tp * dp, decoding, link);
  const sent = (tokens / tp) * copies * shape.hidden * (narrow + wide);
  const latency = 2 * (link.latency + software.collectiveOverhead);
  const transfer = sent / (link.bandwidth * software.linkUse);
  // There and back.
  return [...sum, { latency, transfer, messages: 2 * (tokens / tp) * copies, bytes: sent }];
}

/**
 * The cheaper of two ways to add up: everyone sends all to everyone (one step), or a ring (2 (n - 1) steps of 1/n each).
 */
export function allReduce(bytes: number, ranks: number, rate: number, latency: number): Exchanged {
  const others = ranks - 1;
  const direct = { latency, transfer: (others * bytes) / rate, messages: others, bytes: others * bytes };
  const part = (2 * others * bytes) / ranks;
  const ring = { latency: 2 * others * latency, transfer: part / rate, messages: 2 * others, bytes: part };
  return direct.latency + direct.transfer <= ring.latency + ring.transfer ? direct : ring;
}

/**
 * To how many other places a token is sent for its experts: to each of the other devices that has one, or, in long
 * messages and where boards have a fast link of their own, to each other board once.
 */
export function remoteCopies({ experts }: LayerShape, ranks: number, decoding: boolean, { near }: LinkSpec): number {
  const { perToken, groups, groupsPerToken } = experts!; // the caller's condition
  const places = near === undefined || decoding ? ranks : Math.max(1, ranks / near.size);
  if (places === 1) return 0;
  // Experts of a group lie together: a token meets the places of its groups alone.
  const reach = groups > 1 ? Math.min(places, Math.max(1, places / groups) * groupsPerToken) : places;
  const distinct = reach * (1 - (1 - 1 / reach) ** perToken);
  return distinct * (1 - 1 / places);
}

/** Seconds of parts that run as they must: reading beside computing, exchanging partly hidden. */
export function together(parts: Readonly<Record<TimePart, number>>, overlap: number): number {
  const compute = Math.max(parts.weights, parts.products) + Math.max(parts.cache, parts.attention) + parts.overhead;
  return parts.latency + compute + parts.bandwidth - overlap * Math.min(compute, parts.bandwidth);
}

/** Seconds until the residual stream of so many tokens is on the next stage. */
export function hopSeconds(tokens: number, hidden: number, { link, software }: Omit<System, "device">): number {
  return link.latency + software.collectiveOverhead + (tokens * hidden * wide) / (link.bandwidth * software.linkUse);
}

/** A step of all stages. */
export function stepCost(
  shape: ModelShape,
  stages: readonly (readonly LayerShape[])[],
  degrees: Degrees,
  work: StepWork,
  system: System,
): StepCost {
  const { software } = system;
  const hop = hopSeconds(work.tokens, shape.hidden, system);
  const costs = stages.map((stage) => {
    const parts = Object.fromEntries(timeParts.map((part) => [part, 0])) as Record<TimePart, number>; // its keys
    let seconds = 0;
    for (const layer of stage) {
      const own = layerTimes(shape, layer, degrees, work, system);
      for (const part of timeParts) parts[part] += own[part];
      seconds += together(own, software.overlap);
    }
    return { parts, seconds };
  });
  const slowest = costs.reduce((worst, each) => (each.seconds > worst.seconds ? each : worst));
  const latency = costs.reduce((sum, { seconds }) => sum + seconds, 0) + (stages.length - 1) * hop;
  return { slowest: slowest.seconds + (stages.length > 1 ? hop : 0), latency, parts: slowest.parts };
}
