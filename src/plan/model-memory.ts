/**
 * What a model takes in memory on our backends: compiled weights, caches, values of a step, and the largest single buffer.
 * It follows what the compiler does with weights (test/plan/model-memory.test.ts compares it with compiled plans): matrices
 * that are multiplied are held as stored, as f32 or as codes, the embedding table as stored or as codes of 8 bits, vectors as
 * f32, and latent attention's kv_b twice, since decoding absorbs it and prefill does not.
 */
import { type NarrowWeights, widestGraphBlock } from "../ir/target.ts";
import { dtypeInfo } from "../ir/types.ts";
import { codesOf, isCoded, planWeight, type QuantizeOptions, type WeightFormat } from "../passes/quantize/policy.ts";
import type { WeightGroup, WeightSizes } from "./weight-groups.ts";

/**
 * How matrices are held. `stored`: as the checkpoint has them where the backend reads that, elsewhere as f32; `int8` and
 * `int4`: as codes with an f16 scale for 32 of them.
 */
export type Precision = "stored" | "f32" | "int8" | "int4";

/** How matrices are held that are quantised so. */
export function precisionOf(quantize: QuantizeOptions | null | undefined): Precision {
  const weights = quantize?.weights ?? "none";
  if (weights === "none") return "stored";
  return weights === "int4-affine" ? "int4" : weights;
}

/** "as stored", "in int8". */
export function inPrecision(precision: Precision): string {
  return precision === "stored" ? "as stored" : `in ${precision}`;
}

/** How a backend holds a model. */
export interface Holding {
  readonly precision: Precision;
  /** See `Target.narrowWeights`; null where there are none. */
  readonly narrow: NarrowWeights | null;
  /**
   * Whether weights on the device are held a second time in memory of the host, or only those that differ there, or all where
   * there are codes among them.
   */
  readonly hostCopy: boolean | "others" | "codes";
  /** What engines make of the weights that are loaded. Default: nothing, they are held as they are compiled. */
  readonly expands?: Expansion | undefined;
}

/**
 * Engines that take tensors: codes of matrices become f32, a tied head is a matrix of its own. `gathered`: what rows are
 * read of (the embedding) becomes 32 bits too, or stays as it is.
 */
export interface Expansion {
  readonly gathered: "wide" | "stored";
  /** Whether what the engine's allocator keeps counts: TensorFlow's gives nothing back. */
  readonly inGraph?: boolean;
}

export interface StepSizes {
  /** Rows of the caches: tokens of all sequences. */
  readonly slots: number;
  /** Longest sequence. */
  readonly context: number;
  /** Most tokens of a step. */
  readonly tokens: number;
  /** Sizes of steps that such sequences are compiled for, each of which has values of its own. */
  readonly buckets: number;
}

export interface Buffer {
  readonly name: string;
  readonly bytes: number;
}

export interface ModelMemory {
  readonly weights: number;
  /** All caches, and what one token adds to them. */
  readonly caches: number;
  readonly cachePerToken: number;
  /** Values of the largest steps, logits included, and what an allocator keeps besides; an estimate. */
  readonly working: number;
  readonly largest: Buffer;
  /** Of the buffers, the largest that kernels only read, and a layer's cache, which they write. */
  readonly largestWeight: Buffer;
  readonly layerCache: number;
  /** Where the model computes. */
  readonly device: number;
  /** In memory of the host besides. */
  readonly host: number;
}

const groupSize = 32;

export function modelMemory(sizes: WeightSizes, holding: Holding, step: StepSizes): ModelMemory {
  const { hostCopy, expands } = holding;
  const { cacheWidth, layers, rope } = sizes;
  const tables = 4 * rope * step.context;
  const compiled = heldWeights(sizes, holding);
  const held = expands === undefined ? compiled : expandedWeights(sizes, holding, expands);
  const weights = bytesOfAll(held) + tables;
  const cachePerToken = 4 * cacheWidth * layers;
  const caches = cachePerToken * step.slots;
  const kept = expands?.inGraph === true ? keptByGraphs(sizes, holding, held) : 0;
  const working = 4 * (step.tokens * stepWidth(sizes) + sizes.vocab) * step.buckets + kept;
  const most = (buffers: readonly Buffer[]) =>
    buffers.reduce((found, each) => (each.bytes > found.bytes ? each : found));
  const layerCache = 4 * cacheWidth * step.slots;
  const largestWeight = most(expands === undefined ? bindings(sizes, holding) : largestExpanded(held, sizes));
  const largest = most([largestWeight, { name: "a layer's cache", bytes: layerCache }]);
  const device = weights + caches + working;
  // Of arrays that are the tensors themselves there is one.
  const others = compiled.filter(({ bytes }, i) => bytes !== held[i]?.bytes);
  const all = bytesOfAll(compiled) + tables;
  const codes = isQuantized(holding.precision) ? all : 0;
  const host = { others: bytesOfAll(others), codes, true: all, false: 0 }[`${hostCopy}`];
  return { weights, caches, cachePerToken, working, largest, largestWeight, layerCache, device, host };
}

function bytesOfAll(buffers: readonly Buffer[]): number {
  return buffers.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Bytes by kind of weight, all layers together, as they are loaded. */
function heldWeights(sizes: WeightSizes, holding: Holding): Buffer[] {
  const bytesOf = bytesOfEach(sizes, holding);
  const held = sizes.groups.map((each) => {
    const { codes, scales } = bytesOf(each);
    // Prefill reads it as it is, decoding in two parts, absorbed into the query and the output.
    const times = each.name.endsWith(latent) ? 2 : 1;
    return { name: each.name, bytes: (codes + scales) * each.layers * each.experts * times };
  });
  return [...held, ...headOfTied(sizes, holding)];
}

/** The same as engines hold it: in the order of `heldWeights`, perhaps with a head more. */
function expandedWeights(sizes: WeightSizes, holding: Holding, { gathered }: Expansion): Buffer[] {
  const coded = isQuantized(holding.precision);
  const bytesOf = bytesOfEach(sizes, holding);
  const held = heldWeights(sizes, holding).map(({ name, bytes }, i): Buffer => {
    const each = sizes.groups[i];
    if (each === undefined) return { name, bytes };
    const count = each.rows * each.columns * each.layers * each.experts;
    if (each.name === table) {
      return { name, bytes: gathered === "stored" ? bytes : 4 * count * (coded ? 1 + 1 / groupSize : 1) };
    }
    return { name, bytes: bytesOf(each).scales === 0 ? bytes : 4 * count * (each.name.endsWith(latent) ? 2 : 1) };
  });
  return coded && sizes.tied ? [...held, ...headOfTied(sizes, { ...holding, precision: "f32" })] : held;
}

/**
 * What TensorFlow's allocator keeps beside variables. Of stored matrices: a block that a product widened. Of codes: what the
 * largest matrix was expanded from, as floats and as it was fed, less what came to lie there later, about half of the rest
 * since regions of many sizes are filled in turn.
 */
function keptByGraphs(sizes: WeightSizes, holding: Holding, held: readonly Buffer[]): number {
  const buffers = largestExpanded(held, sizes).filter(({ name }) => name !== table);
  const { bytes } = buffers.reduce((most, each) => (each.bytes > most.bytes ? each : most));
  const { precision, narrow } = holding;
  const isNarrow = sizes.groups.some(({ stored }) => narrow?.dtypes.includes(stored) === true);
  if (precision === "stored") return isNarrow ? Math.min(2 * bytes, widestGraphBlock) : 0;
  if (precision === "f32") return 0;
  return Math.max(0, 1.25 * bytes - (bytesOfAll(held) - bytes) / 2);
}

const table = "model.embed_tokens.weight";
const latent = ".kv_b_proj.weight";

export function isQuantized(precision: Precision): precision is "int8" | "int4" {
  return precision === "int8" || precision === "int4";
}

/** Whether a matrix, with those that it is merged with, is held in the bits that it is stored in. */
function staysNarrow(each: WeightGroup, together: ReadonlyMap<string, number>, narrow: NarrowWeights | null): boolean {
  if (narrow === null || !narrow.dtypes.includes(each.stored)) return false;
  // Its two parts are weights of their own.
  const parts = each.name.endsWith(latent) ? 2 : 1;
  return together.get(mergedName(each.name))! / parts >= narrow.least;
}

/** Elements of a layer's weights that are one, by its name. */
function elementsTogether({ groups }: WeightSizes): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { name, rows, columns, experts } of groups) {
    const key = mergedName(name);
    counts.set(key, (counts.get(key) ?? 0) + rows * columns * experts);
  }
  return counts;
}

/** Of weights that engines hold, the largest of a layer: what is merged is one. */
function largestExpanded(held: readonly Buffer[], { groups }: WeightSizes): Buffer[] {
  const buffers = new Map<string, number>();
  for (const [i, { name, bytes }] of held.entries()) {
    const key = mergedName(name);
    buffers.set(key, (buffers.get(key) ?? 0) + bytes / (groups[i]?.layers ?? 1));
  }
  return [...buffers].map(([name, bytes]) => ({ name, bytes }));
}

/**
 * A tied head reads the codes of the embedding, and its elements where kernels read these as stored. Of others it has a
 * copy, and engines hold matrices otherwise than tables.
 */
function headOfTied(sizes: WeightSizes, { precision, narrow, expands }: Holding): Buffer[] {
  const { tied, groups, vocab, hidden } = sizes;
  if (!tied || isQuantized(precision)) return [];
  const stored = groups.find(({ name }) => name === table)?.stored ?? "f32";
  const count = vocab * hidden;
  const stays = precision === "stored" && narrow?.dtypes.includes(stored) === true && count >= narrow.least;
  const same = expands === undefined && (stays || stored === "f32");
  return same ? [] : [{ name: "lm_head.weight", bytes: (count * (stays ? dtypeInfo(stored).bits : 32)) / 8 }];
}

/** Of one weight of a group. */
type BytesOf = (each: WeightGroup) => { readonly codes: number; readonly scales: number };

function bytesOfEach(sizes: WeightSizes, { precision, narrow }: Holding): BytesOf {
  const together = elementsTogether(sizes);
  return (each) => {
    const { name, rows, columns, stored } = each;
    const isVector = rows === 1 && !name.endsWith("_proj.weight");
    const format = isVector ? "f32" : formatOf(name, precision);
    if (isCoded(format)) {
      return {
        codes: (rows * columns * dtypeInfo(codesOf(format)).bits) / 8,
        scales: 2 * rows * Math.ceil(columns / groupSize),
      };
    }
    const asStored = name === table || (format === "none" && staysNarrow(each, together, narrow));
    return { codes: (rows * columns * (asStored && !isVector ? dtypeInfo(stored).bits : 32)) / 8, scales: 0 };
  };
}

function formatOf(name: string, precision: Precision): WeightFormat {
  if (!isQuantized(precision)) return precision === "stored" ? "none" : "f32";
  return planWeight(name.replace("{expert}", "{0}"), { weights: precision }).format;
}

/** Weights that one buffer holds together: what reads the same input is one matrix, and experts of a layer are stacked. */
const merged: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/(gate_proj|up_proj)\.weight$/, "gate_proj+up_proj.weight"],
  [/(q_proj|k_proj|v_proj)\.weight$/, "q_proj+k_proj+v_proj.weight"],
  [/(q_a_proj|kv_a_proj_with_mqa)\.weight$/, "q_a_proj+kv_a_proj_with_mqa.weight"],
];

function mergedName(name: string): string {
  return merged.reduce((found, [pattern, together]) => found.replace(pattern, together), name);
}

function bindings(sizes: WeightSizes, holding: Holding): Buffer[] {
  const buffers = new Map<string, number>();
  const bytesOf = bytesOfEach(sizes, holding);
  for (const each of sizes.groups) {
    const { codes } = bytesOf(each);
    const key = mergedName(each.name);
    buffers.set(key, (buffers.get(key) ?? 0) + codes * each.experts);
  }
  return [...[...buffers].map(([name, bytes]) => ({ name, bytes })), ...headOfTied(sizes, holding)];
}

/** Values for each token of a step: the residual stream and its norms, and the widest that is between two matrices. */
function stepWidth({ groups, hidden, cacheWidth }: WeightSizes): number {
  const rows = (pattern: RegExp) => groups.reduce((sum, { name, rows }) => (pattern.test(name) ? sum + rows : sum), 0);
  const dense = Math.max(rows(/\.mlp\.(gate|up)_proj\.weight$/), rows(/shared_experts\.(gate|up)_proj\.weight$/));
  const attention = rows(/\.(q_proj|q_b_proj)\.weight$/) * 2 + 2 * cacheWidth;
  return 3 * hidden + Math.max(dense, attention);
}
