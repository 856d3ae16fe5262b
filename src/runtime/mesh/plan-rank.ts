/**
 * One rank's program as it is compiled before any memory is there: the plan of each piece, and where the values between
 * them lie. Who binds a rank takes memory by this, and who plans one counts it.
 */
import { type Compiled, type CompileOptions, compileToPlan, overridesFor, scaleGroup } from "../../compile.ts";
import { absoluteLayers, programOfRank, type RankProgram, relativeLayers } from "../../compile-ranks.ts";
import { isOp, type Module, topoOrder } from "../../ir/graph.ts";
import type { Mesh } from "../../ir/mesh.ts";
import type { FuncPlan, Plan } from "../../ir/plan.ts";
import { printModule } from "../../ir/print.ts";
import type { Target } from "../../ir/target.ts";
import type { Bucket } from "../../models/deepseek/bucket.ts";
import type { ModelConfig } from "../../models/deepseek/config.ts";
import { type BuildOptions, buildModel } from "../../models/deepseek/model.ts";
import { buildSampled } from "../../models/deepseek/sampled.ts";
import { modelSharding } from "../../models/deepseek/sharding.ts";
import type { SamplerKind } from "../../models/sampling/sample.ts";
import { placeValues, type ValuePlaces } from "./value-places.ts";

export interface PlannedRank {
  readonly program: RankProgram;
  /** Null where a piece computes nothing. */
  readonly pieces: readonly (PlannedPiece | null)[];
  readonly places: ValuePlaces;
}

/** A piece as it is compiled, and its plan with the names that its weights have in the checkpoint. */
export interface PlannedPiece {
  /** Of pieces of equal text. */
  readonly key: string;
  readonly compiled: Compiled;
  readonly plan: Plan;
}

/** What pieces are compiled for. */
export interface PieceTarget {
  readonly target: Target;
  readonly compile: CompileOptions;
  /** Pieces compiled so far, by their text. */
  readonly known: ReadonlyMap<string, Compiled>;
}

/** Which part of a model a rank computes. */
export interface RankPart {
  readonly config: ModelConfig;
  readonly mesh: Mesh;
  readonly rank: number;
  readonly build: BuildOptions;
  readonly compile: Pick<CompileOptions, "quantize">;
}

/** A rank's program for steps of a bucket; with `sampler` for those that choose their own tokens. */
export function stepOfRank(
  { config, mesh, rank, build, compile }: RankPart,
  bucket: Bucket,
  sampler?: SamplerKind,
): RankProgram {
  const module =
    sampler === undefined
      ? buildModel(config, bucket, build)
      : buildSampled(config, { ...bucket, kind: sampler }, build);
  return programOfRank(module, modelSharding(config, mesh, { group: scaleGroup(compile.quantize) }), rank);
}

export function planRank(program: RankProgram, target: PieceTarget): PlannedRank {
  const planned = new Map<string, Compiled>();
  const pieces = program.pieces.pieces.map(({ module }) => module && planPiece(module, target, planned));
  const places = placeValues(program.pieces, (at) => (pieces[at] ? entryOf(pieces[at].plan).donated : []));
  return { program, pieces, places };
}

export function entryOf(plan: Plan): FuncPlan {
  return plan.funcs.get(plan.entry)!;
}

/** Pieces that differ in the number of the layer alone are compiled once; `planned` gets what is. */
function planPiece(
  module: Module,
  { target, compile, known }: PieceTarget,
  planned: Map<string, Compiled>,
): PlannedPiece {
  const relative = relativeLayers(module);
  const key = printModule(relative.module, { canonical: true });
  const compiled =
    known.get(key) ?? planned.get(key) ?? compileToPlan(relative.module, target, optionsFor(relative.module, compile));
  planned.set(key, compiled);
  return { key, compiled, plan: withLayers(compiled.plan, relative.first) };
}

/** Overrides are checked against the model; a piece has a few of its weights. */
function optionsFor(module: Module, options: CompileOptions): CompileOptions {
  if (options.quantize === undefined) return options;
  const nodes = [...module.funcs.values()].flatMap(({ outs }) => topoOrder(outs));
  const names = nodes.flatMap((node) => (isOp(node, "weight") ? [node.attrs.name] : []));
  return { ...options, quantize: overridesFor(names, options.quantize) };
}

function withLayers(plan: Plan, first: number): Plan {
  const entry = entryOf(plan);
  const named = { ...entry, weights: absoluteLayers(entry.weights, first) };
  return { ...plan, funcs: new Map(plan.funcs).set(plan.entry, named) };
}
