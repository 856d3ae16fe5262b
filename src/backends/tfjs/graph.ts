/**
 * Builds a TensorFlow graph: nodes in order, equal ones once. A *variable* is memory of the session that outlives a run;
 * what reads and writes it is ordered by the edges that the builder's user gives (`after`), for TensorFlow runs nodes in
 * any order that the edges allow.
 */
import { type Shape, sizeOf } from "../../ir/types.ts";
import type { Attr, GraphNode, TensorInfo, TfType } from "./saved-model.ts";

/** What a node gives. */
export interface GraphTensor {
  /** `node`, or `node:1` for its second result. */
  readonly name: string;
  readonly type: TfType;
  readonly shape: Shape;
}

export interface TensorForm {
  readonly type: TfType;
  readonly shape: Shape;
}

export type Attrs = Readonly<Record<string, Attr>>;

/** Ops that change something, so that two of them are two. */
const effects = new Set(["AssignVariableOp", "ResourceScatterUpdate", "Placeholder"]);

/** Constants of more bytes are not compared with others. */
const smallConstant = 4096;

export class GraphBuilder {
  readonly nodes: GraphNode[] = [];
  readonly #prefix: string;
  readonly #made = new Map<string, string>();

  /** Names of nodes begin with the prefix, so that several graphs can be one. */
  constructor(prefix = "") {
    this.#prefix = prefix;
  }

  /** A node with these results; the one that is there if it is the same. `after` names nodes that run before it. */
  add(
    op: string,
    inputs: readonly GraphTensor[],
    attrs: Attrs,
    results: readonly TensorForm[],
    after: readonly string[] = [],
  ): GraphTensor[] {
    const names = [...inputs.map(({ name }) => name), ...after.map((name) => `^${name}`)];
    const key = effects.has(op) ? null : keyOf(op, names, attrs);
    let name = key === null ? undefined : this.#made.get(key);
    if (name === undefined) {
      name = `${this.#prefix}${op}_${this.nodes.length}`;
      this.nodes.push({ name, op, inputs: names, attrs });
      if (key !== null) this.#made.set(key, name);
    }
    return results.map((form, i) => ({ ...form, name: i === 0 ? `${name}` : `${name}:${i}` }));
  }

  /** A node with one result. */
  one(
    op: string,
    inputs: readonly GraphTensor[],
    attrs: Attrs,
    result: TensorForm,
    after?: readonly string[],
  ): GraphTensor {
    return this.add(op, inputs, attrs, [result], after)[0]!;
  }

  constant(form: TensorForm, content: Uint8Array): GraphTensor {
    const { type, shape } = form;
    return this.one(
      "Const",
      [],
      { dtype: typeAttr(type), value: { kind: "tensor", tensor: { type, shape, content } } },
      form,
    );
  }

  /** int32[n], as shapes, axes and permutations are given. */
  ints(values: readonly number[]): GraphTensor {
    return this.constant({ type: "int32", shape: [values.length] }, bytesOf(Int32Array.from(values)));
  }

  /** A scalar int32. */
  int(value: number): GraphTensor {
    return this.constant({ type: "int32", shape: [] }, bytesOf(Int32Array.of(value)));
  }

  placeholder(form: TensorForm): GraphTensor {
    return this.one("Placeholder", [], { dtype: typeAttr(form.type), shape: shapeAttr(form.shape) }, form);
  }

  /** The handle of a variable: one variable for a name, in all graphs of a session. */
  variable(name: string, { type, shape }: TensorForm): GraphTensor {
    const attrs = {
      dtype: typeAttr(type),
      shape: shapeAttr(shape),
      container: textAttr(""),
      shared_name: textAttr(name),
    };
    return this.one("VarHandleOp", [], attrs, { type: "resource", shape: [] });
  }
}

/** A tensor as what a signature feeds or fetches. */
export function infoOf({ name, type, shape }: GraphTensor): TensorInfo {
  return { name: name.includes(":") ? name : `${name}:0`, type, shape };
}

/** The node that gives a tensor. */
export function nodeOf({ name }: GraphTensor): string {
  return name.split(":")[0]!; // a split has a first part
}

export function typeAttr(type: TfType): Attr {
  return { kind: "type", type };
}

export function intAttr(value: number): Attr {
  return { kind: "int", value };
}

export function boolAttr(value: boolean): Attr {
  return { kind: "bool", value };
}

export function textAttr(value: string): Attr {
  return { kind: "text", value };
}

export function shapeAttr(shape: Shape): Attr {
  return { kind: "shape", shape };
}

/** The memory of a typed array. */
export function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function keyOf(op: string, inputs: readonly string[], attrs: Attrs): string | null {
  const { value } = attrs;
  if (value?.kind !== "tensor") return JSON.stringify([op, inputs, attrs]);
  const { type, shape, content } = value.tensor;
  if (content.length > smallConstant) return null;
  return `${type} ${shape} ${String.fromCharCode(...content)}`;
}

/** One line to a node, for people. */
export function printGraph(nodes: readonly GraphNode[]): string {
  return nodes.map((node) => `${node.name} = ${node.op}(${node.inputs.join(", ")})${showAttrs(node.attrs)}`).join("\n");
}

function showAttrs(attrs: Attrs): string {
  const shown = Object.entries(attrs).map(([name, attr]) => `${name}=${showAttr(attr)}`);
  return shown.length === 0 ? "" : ` {${shown.join(", ")}}`;
}

function showAttr(attr: Attr): string {
  switch (attr.kind) {
    case "none":
      return "[]";
    case "type":
      return attr.type;
    case "shape":
      return `[${attr.shape}]`;
    case "tensor":
      return `${attr.tensor.type}[${attr.tensor.shape}]${showContent(attr.tensor.type, attr.tensor.content, sizeOf(attr.tensor.shape))}`;
    default:
      return String(attr.value);
  }
}

/** The few numbers of a small constant. */
function showContent(type: TfType, content: Uint8Array, size: number): string {
  if (size > 8 || (type !== "int32" && type !== "float")) return "";
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  const read = (i: number) => (type === "int32" ? view.getInt32(4 * i, true) : view.getFloat32(4 * i, true));
  return ` ${Array.from({ length: size }, (_, i) => read(i)).join(" ")}`;
}
