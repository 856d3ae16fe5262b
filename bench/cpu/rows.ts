/** What is compared with what: groups of candidates that are loaded together and measured in turns. */
import type { Spec } from "./candidates/candidate.ts";
import { llamaBuilds } from "./candidates/llama.ts";
import { type GgufFormat, makeCheckpoint, makeGguf } from "./make/make-models.ts";
import { checkpointTensors, type Shape } from "./make/shapes.ts";

export interface Row {
  readonly name: string;
  readonly spec: Spec;
}

export interface Group {
  readonly title: string;
  readonly rows: readonly Row[];
  /** Beginnings of names: ratios are to the fastest row of each. */
  readonly baselines: readonly string[];
}

export type GroupName = "int8" | "int4" | "f32";
export const groupNames: readonly GroupName[] = ["int8", "int4", "f32"];

export interface RowOptions {
  readonly shape: Shape;
  readonly threads: number;
  readonly batch: number;
  readonly peers: readonly string[];
  readonly builds: readonly string[];
  /** How scales of 4-bit weights are found (see `QuantizeOptions`): no matter for speed, much for loading. */
  readonly method: "mse" | "range";
  readonly cache: string;
  readonly log: (text: string) => void;
}

/** WebAssembly's memory holds 4 GiB; weights need room beside them. */
const mostBytes = 3.5 * 2 ** 30;

export function groupsOf(names: readonly GroupName[], options: RowOptions): Group[] {
  return names.flatMap((name) => {
    if (name === "int8") return [int8(options)];
    if (name === "int4") return [int4(options)];
    return floatBytes(options.shape) <= mostBytes ? [f32(options)] : [];
  });
}

function int8(options: RowOptions): Group {
  const rows = [ciuic("ciuic int8", options, "int8"), ...llama("q8_0", options), ...wllama("q8_0", options)];
  return { title: "int8", rows, baselines: ["llama.cpp Q8_0"] };
}

function int4(options: RowOptions): Group {
  const mixed = options.shape.config.feed_forward.some(({ kind }) => kind === "moe");
  const rows = [
    ciuic("ciuic int4", options, "int4"),
    // llama.cpp's Q4_0 has its head in 4 bits too; ours by default in 8.
    ciuic("ciuic int4, head int4", options, "int4", { overrides: { lm_head: "int4" } }),
    // Without fusion a prompt would copy every token's experts.
    ...(mixed ? [] : [ciuic("ciuic int4, no fusion", options, "int4", {}, ["fuse"])]),
    ...llama("q4_0", options),
    ...llama("q4_k", options),
    ...wllama("q4_0", options),
  ];
  return { title: "int4", rows, baselines: ["llama.cpp Q4_0", "llama.cpp Q4_K", "ciuic int4, no fusion"] };
}

function f32(options: RowOptions): Group {
  const rows = [
    ciuic("ciuic f32, no fusion", options, "f32", {}, ["fuse"]),
    ciuic("ciuic f32", options, "f32"),
    ciuic("ciuic bf16", options, "bf16"),
    ciuic("ciuic int8", options, "int8"),
    ciuic("ciuic int4", options, "int4"),
  ];
  return { title: "f32", rows, baselines: ["ciuic f32, no fusion"] };
}

function ciuic(
  name: string,
  { shape, threads, batch, method, cache, log }: RowOptions,
  /** bf16: as the folder has them. */
  weights: "int8" | "int4" | "f32" | "bf16",
  more: object = {},
  disabledPasses: readonly string[] = [],
): Row {
  const folder = makeCheckpoint(shape, "bf16", cache, log);
  const coded = { weights, activations: "int8", method, ...more };
  const quantize = weights === "bf16" ? null : weights === "f32" ? { weights } : coded;
  return { name, spec: { engine: "ciuic", folder, threads, batch, quantize, disabledPasses } };
}

function llama(format: GgufFormat, { shape, threads, peers, builds, cache, log }: RowOptions): Row[] {
  if (!peers.includes("llama")) return [];
  const file = makeGguf(shape, format, cache, log);
  const known = llamaBuilds();
  return builds
    .filter((build) => build === "best" || known.includes(build))
    .map((build) => ({
      name: `llama.cpp ${format.toUpperCase()} ${build}`,
      // A batch of 512 is llama.cpp's own choice.
      spec: { engine: "llama", file, threads, batch: 512, build: build === "best" ? null : build },
    }));
}

function wllama(format: GgufFormat, { shape, threads, peers, cache, log }: RowOptions): Row[] {
  if (!peers.includes("wllama")) return [];
  const file = makeGguf(shape, format, cache, log);
  return [{ name: `wllama ${format.toUpperCase()}`, spec: { engine: "wllama", file, threads } }];
}

function floatBytes(shape: Shape): number {
  return (
    4 * checkpointTensors(shape).reduce((sum, { shape: dims }) => sum + dims.reduce((all, dim) => all * dim, 1), 0)
  );
}
