/**
 * The graph of a session: all its programs, and what brings its variables to their values. Weights are loaded in groups,
 * each by one run; caches begin as zeros, and can be handed to the next session.
 */
import { sizeOf } from "../../ir/types.ts";
import { GraphBuilder, type GraphTensor, infoOf, nodeOf, typeAttr } from "./graph.ts";
import { crossingForm, packed, unpacked } from "./graph-bits.ts";
import { graphEngine } from "./graph-engine.ts";
import { readFileWeight } from "./graph-files.ts";
import { formOf } from "./graph-forms.ts";
import type { HeldWeight, HostValue } from "./graph-memory.ts";
import { doneName, type GraphProgram, type Variable, variableForm } from "./graph-program.ts";
import { lowerNode } from "./ops.ts";
import { wholeOf } from "./row.ts";
import { encodeSavedModel, type SavedModel, type Signature, type TensorInfo, tfTypes } from "./saved-model.ts";

export interface GraphModel {
  /** By the names of their signatures. */
  readonly programs: ReadonlyMap<string, GraphProgram>;
  /** Those that are loaded from here. */
  readonly weights: readonly HeldWeight[];
  readonly caches: readonly Variable[];
  /** What is taken over from each of some other sessions. */
  readonly restored: readonly (readonly Variable[])[];
  /** What the next session can take over. */
  readonly saved: readonly Variable[];
}

/** Most bytes of weights that one run loads: for a moment they are there twice. */
const groupBytes = 2 ** 28;
/** Of what is computed from codes in between: as f32, spread scales, products, all for a moment. */
const computedTimes = 8;

export const signatures = { zero: "zero", save: "save" } as const;

export function restoreSignature(session: number): string {
  return `restore${session}`;
}

export function loadSignature(group: number): string {
  return `load${group}`;
}

/**
 * Which weights are loaded together, the largest first: TensorFlow keeps what was made in between, and puts weights there
 * that come later.
 */
export function weightGroups(weights: readonly HeldWeight[]): readonly (readonly HeldWeight[])[] {
  const groups: HeldWeight[][] = [];
  let room = 0;
  const isMade = ({ file }: HeldWeight) => (file !== null && file.expr.ins.length > 0 ? 1 : 0);
  const order = (a: HeldWeight, b: HeldWeight) => bytesOf(b.variable) - bytesOf(a.variable) || isMade(b) - isMade(a);
  for (const weight of weights.toSorted(order)) {
    const bytes = bytesOf(weight.variable) * (weight.node === null ? 1 : computedTimes);
    if (bytes > room || groups.length === 0) {
      groups.push([]);
      room = groupBytes;
    }
    groups.at(-1)!.push(weight);
    room -= bytes;
  }
  return groups;
}

/** Bytes of a variable. */
export function bytesOf(variable: Variable): number {
  const { type, shape } = variableForm(variable);
  return sizeOf(shape) * tfTypes[type].bytes;
}

export interface EncodedModel {
  /** The content of `saved_model.pb`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly signatures: SavedModel["signatures"];
}

export function encodeModel({ programs, weights, caches, restored, saved }: GraphModel): EncodedModel {
  const graph = new GraphBuilder("state/");
  const all: Record<string, Signature> = {};
  for (const [name, { signature }] of programs) all[name] = signature;
  for (const [i, group] of weightGroups(weights).entries()) all[loadSignature(i)] = loadWeights(graph, group);
  if (caches.length > 0) all[signatures.zero] = assignZeros(graph, caches);
  if (saved.length > 0) all[signatures.save] = fetchAll(graph, saved);
  for (const [i, some] of restored.entries()) {
    if (some.length > 0) all[restoreSignature(i)] = assignFed(graph, some);
  }
  const nodes = [...[...programs.values()].flatMap((program) => program.nodes), ...graph.nodes];
  return { bytes: encodeSavedModel({ nodes, signatures: all }), signatures: all };
}

/** The name by which a part of a weight is fed. */
export function partName({ variable }: HeldWeight, part: number): string {
  return `${variable.name}.${part}`;
}

/** What is fed for a weight. */
export function fedParts({ parts, file }: HeldWeight): readonly HostValue[] {
  return file === null ? parts : [];
}

/** Feeds weights, or what they are computed from, or reads them from files. */
function loadWeights(graph: GraphBuilder, weights: readonly HeldWeight[]): Signature {
  const engine = graphEngine(graph);
  const inputs: Record<string, TensorInfo> = {};
  let read: readonly string[] = [];
  const assigned = weights.map((weight) => {
    if (weight.file !== null) {
      read = [assign(graph, weight.variable, readFileWeight(graph, weight.file, read))];
      return read[0]!;
    }
    const parts = weight.parts.map(({ type }, i) => {
      const form = formOf(type);
      const fed = graph.placeholder(crossingForm(form));
      inputs[partName(weight, i)] = infoOf(fed);
      return { at: unpacked(graph, fed, form), shape: type.shape };
    });
    const { node, variable } = weight;
    const value = node === null ? parts[0]!.at : wholeOf(engine, lowerNode(engine, node, parts), node.type.shape);
    return assign(graph, variable, engine.read(value));
  });
  return { inputs, outputs: done(graph, assigned) };
}

/** Feeds the content of variables. */
function assignFed(graph: GraphBuilder, variables: readonly Variable[]): Signature {
  const inputs: Record<string, TensorInfo> = {};
  const assigned = variables.map((variable) => {
    const form = variableForm(variable);
    const fed = graph.placeholder(crossingForm(form));
    inputs[variable.name] = infoOf(fed);
    return assign(graph, variable, unpacked(graph, fed, form));
  });
  return { inputs, outputs: done(graph, assigned) };
}

function assignZeros(graph: GraphBuilder, variables: readonly Variable[]): Signature {
  const assigned = variables.map((variable) => {
    const form = variableForm(variable);
    const zero = graph.constant({ type: form.type, shape: [] }, new Uint8Array(tfTypes[form.type].bytes));
    const attrs = { T: typeAttr(form.type), Tidx: typeAttr("int32") };
    return assign(graph, variable, graph.one("BroadcastTo", [zero, graph.ints(form.shape)], attrs, form));
  });
  return { inputs: {}, outputs: done(graph, assigned) };
}

function fetchAll(graph: GraphBuilder, variables: readonly Variable[]): Signature {
  const outputs = variables.map((variable) => {
    const form = variableForm(variable);
    const handle = graph.variable(variable.name, form);
    const value = graph.one("ReadVariableOp", [handle], { dtype: typeAttr(form.type) }, form);
    return [variable.name, infoOf(packed(graph, value))] as const;
  });
  return { inputs: {}, outputs: Object.fromEntries(outputs) };
}

function assign(graph: GraphBuilder, variable: Variable, value: GraphTensor): string {
  const handle = graph.variable(variable.name, variableForm(variable));
  return nodeOf(graph.one("AssignVariableOp", [handle, value], { dtype: typeAttr(value.type) }, value));
}

function done(graph: GraphBuilder, after: readonly string[]): Record<string, TensorInfo> {
  const value = graph.one("Identity", [graph.int(1)], { T: typeAttr("int32") }, { type: "int32", shape: [] }, after);
  return { [doneName]: infoOf(value) };
}
