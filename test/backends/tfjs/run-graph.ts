/**
 * Runs TensorFlow graphs in plain loops: a session with variables, for the few ops that the graph lowering uses. Among the
 * nodes that may run next one is chosen at random, since TensorFlow promises no order but what the edges say.
 */
import { readFileSync } from "node:fs";
import {
  type Attr,
  type GraphNode,
  type SavedModel,
  type Signature,
  servingTag,
  type TfType,
  tfTypes,
} from "../../../src/backends/tfjs/saved-model.ts";
import { sizeOf } from "../../../src/ir/types.ts";
import { type Attrs, mathOps, type Op, typeOf } from "./graph-ops-math.ts";
import { gathered, moveOps, scattered } from "./graph-ops-move.ts";
import { fromBytes, type GraphData, valuesOf } from "./graph-values.ts";

/** Attributes that have no default in TensorFlow's op definitions. */
const required: Readonly<Record<string, readonly string[]>> = {
  Placeholder: ["dtype"],
  Const: ["dtype", "value"],
  ImmutableConst: ["dtype", "shape", "memory_region_name"],
  VarHandleOp: ["dtype", "shape"],
  ReadVariableOp: ["dtype"],
  AssignVariableOp: ["dtype"],
  ResourceGather: ["dtype", "Tindices"],
  ResourceScatterUpdate: ["dtype", "Tindices"],
  Identity: ["T"],
  Reshape: ["T"],
  Transpose: ["T"],
  Slice: ["T", "Index"],
  ConcatV2: ["N", "T"],
  BroadcastTo: ["T"],
  GatherV2: ["Tparams", "Tindices", "Taxis"],
  TensorScatterUpdate: ["T", "Tindices"],
  Cast: ["SrcT", "DstT"],
  Bitcast: ["T", "type"],
  Any: [],
  LogicalNot: [],
  LogicalAnd: [],
  LogicalOr: [],
};

interface Variable {
  readonly type: TfType;
  readonly shape: readonly number[];
  value: GraphData | null;
}

export class GraphSession {
  readonly #nodes: ReadonlyMap<string, GraphNode>;
  readonly #signatures: SavedModel["signatures"];
  readonly #variables = new Map<string, Variable>();
  #random: number;

  constructor({ nodes, signatures }: SavedModel, seed = 1) {
    this.#nodes = new Map(nodes.map((node) => [node.name, node]));
    if (this.#nodes.size !== nodes.length) throw new Error(`two nodes of one name, tag ${servingTag}`);
    for (const node of nodes) checkNode(node, this.#nodes);
    this.#signatures = signatures;
    this.#random = seed;
  }

  run(signature: string, inputs: Readonly<Record<string, GraphData>>): Record<string, GraphData> {
    const form = this.#signatures[signature];
    if (form === undefined) throw new Error(`there is no signature ${signature}`);
    const fed = feedsOf(form, inputs);
    const values = new Map<string, readonly GraphData[]>();
    const waiting = this.#reached(Object.values(form.outputs).map(({ name }) => nodeName(name)));
    while (waiting.size > 0) {
      const ready = [...waiting].filter((node) => node.inputs.every((input) => values.has(nodeName(input))));
      const node = ready[this.#next(ready.length)];
      if (node === undefined) throw new Error("a cycle");
      waiting.delete(node);
      values.set(node.name, this.#compute(node, values, fed));
    }
    return Object.fromEntries(
      Object.entries(form.outputs).map(([name, info]) => {
        const value = valueAt(info.name, values);
        if (value.type !== info.type || value.shape.join() !== info.shape.join()) {
          throw new Error(`${name} is ${value.type}[${value.shape}], not ${info.type}[${info.shape}]`);
        }
        return [name, value];
      }),
    );
  }

  #next(below: number): number {
    this.#random = (Math.imul(this.#random, 1664525) + 1013904223) >>> 0; // Numerical Recipes' generator
    return this.#random % Math.max(below, 1);
  }

  /** Nodes that these need: others do not run. */
  #reached(names: readonly string[]): Set<GraphNode> {
    const reached = new Set<GraphNode>();
    const stack = [...names];
    while (stack.length > 0) {
      const node = this.#nodes.get(stack.pop()!)!;
      if (reached.has(node)) continue;
      reached.add(node);
      stack.push(...node.inputs.map(nodeName));
    }
    return reached;
  }

  #compute(
    node: GraphNode,
    values: ReadonlyMap<string, readonly GraphData[]>,
    fed: ReadonlyMap<string, GraphData>,
  ): readonly GraphData[] {
    const { op, attrs, inputs } = node;
    if (op === "Placeholder") {
      const value = fed.get(node.name);
      if (value === undefined) throw new Error(`${node.name} is not fed`);
      return [value];
    }
    if (op === "Const") return [constantOf(attrs)];
    if (op === "ImmutableConst") return [mappedFile(attrs)];
    const data = inputs.filter((input) => !input.startsWith("^"));
    try {
      if (op === "VarHandleOp") return [this.#declare(attrs)];
      if (inputs.some((input) => this.#nodes.get(nodeName(input))!.op === "VarHandleOp" && !input.startsWith("^"))) {
        const variable = this.#variables.get(handleName(this.#nodes.get(nodeName(data[0]!))!.attrs))!;
        return onVariable(
          op,
          variable,
          data.slice(1).map((input) => valueAt(input, values)),
          attrs,
        );
      }
      const run: Op | undefined = mathOps[op] ?? moveOps[op];
      if (run === undefined) throw new Error(`there is no op ${op}`);
      return run(
        data.map((input) => valueAt(input, values)),
        attrs,
      );
    } catch (cause) {
      throw new Error(`${node.name} of ${inputs}: ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
  }

  #declare(attrs: Attrs): GraphData {
    const name = handleName(attrs);
    const shape = attrs.shape?.kind === "shape" ? attrs.shape.shape : [];
    const type = typeOf(attrs, "dtype");
    const known = this.#variables.get(name);
    if (known !== undefined && (known.type !== type || known.shape.join() !== shape.join())) {
      throw new Error(`variable ${name} has two types`);
    }
    if (known === undefined) this.#variables.set(name, { type, shape, value: null });
    return fromBytes("uint8", [0], new Uint8Array()); // stands for a handle
  }
}

function onVariable(op: string, variable: Variable, ins: readonly GraphData[], attrs: Attrs): readonly GraphData[] {
  if (typeOf(attrs, "dtype") !== variable.type) throw new Error(`the variable is ${variable.type}`);
  if (op === "AssignVariableOp") {
    const [value] = ins;
    if (value!.type !== variable.type || value!.shape.join() !== variable.shape.join()) throw new Error("another type");
    variable.value = value!;
    return [];
  }
  if (variable.value === null) throw new Error("the variable has no value yet");
  if (op === "ReadVariableOp") return [variable.value];
  if (op === "ResourceGather") return [gathered(variable.value, ins[0]!, 0)];
  if (op !== "ResourceScatterUpdate") throw new Error(`there is no op ${op} on variables`);
  variable.value = scattered(variable.value, valuesOf(ins[0]!), ins[1]!);
  return [];
}

function checkNode({ name, op, inputs, attrs }: GraphNode, nodes: ReadonlyMap<string, GraphNode>): void {
  const missing = (required[op] ?? ["T"]).filter((attr) => attrs[attr] === undefined);
  if (missing.length > 0) throw new Error(`${name}: ${op} without ${missing}`);
  for (const input of inputs) if (!nodes.has(nodeName(input))) throw new Error(`${name}: there is no ${input}`);
  const control = inputs.findIndex((input) => input.startsWith("^"));
  if (control !== -1 && inputs.slice(control).some((input) => !input.startsWith("^"))) {
    throw new Error(`${name}: control inputs come last`);
  }
}

function feedsOf(
  { inputs: form }: Signature,
  inputs: Readonly<Record<string, GraphData>>,
): ReadonlyMap<string, GraphData> {
  if (Object.keys(form).sort().join() !== Object.keys(inputs).sort().join())
    throw new Error("other inputs are expected");
  return new Map(
    Object.entries(form).map(([name, { name: at, type, shape }]) => {
      const value = inputs[name]!;
      if (value.type !== type || value.shape.join() !== shape.join()) {
        throw new Error(`${name}: expected ${type}[${shape}], got ${value.type}[${value.shape}]`);
      }
      return [nodeName(at), value];
    }),
  );
}

function constantOf(attrs: Attrs): GraphData {
  const value: Attr | undefined = attrs.value;
  if (value?.kind !== "tensor") throw new Error("a constant without a tensor");
  const { type, shape, content } = value.tensor;
  return fromBytes(type, shape, content);
}

/** A file as a tensor, from its first byte on. */
function mappedFile({ memory_region_name: path, shape, ...attrs }: Attrs): GraphData {
  if (path?.kind !== "text" || shape?.kind !== "shape") throw new Error("a file without a path or a shape");
  const type = typeOf(attrs, "dtype");
  const content = readFileSync(path.value);
  return fromBytes(type, shape.shape, content.subarray(0, sizeOf(shape.shape) * tfTypes[type].bytes));
}

function handleName(attrs: Attrs): string {
  return attrs.shared_name?.kind === "text" ? attrs.shared_name.value : "";
}

function nodeName(input: string): string {
  return input.replace(/^\^/, "").replace(/:\d+$/, "");
}

function valueAt(input: string, values: ReadonlyMap<string, readonly GraphData[]>): GraphData {
  const index = Number(input.split(":")[1] ?? 0);
  const value = values.get(nodeName(input))?.[index];
  if (value === undefined) throw new Error(`${input} gives no tensor`);
  return value;
}
