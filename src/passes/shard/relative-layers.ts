/**
 * Names of weights counted from the first layer of a piece, so that the pieces of layers that are alike have one text and
 * are compiled once; and the weights of each again as they are.
 */
import { Builder, getFunc, isOp, type Module, makeModule, type Node, rebuild, topoOrder } from "../../ir/graph.ts";
import { keepName } from "../../ir/rewrite.ts";

const absolute = /(^|\.)layers\.(\d+)\./;
const relative = /(^|\.)layers\.\{\+(\d+)\}\./;

export interface RelativeModule {
  readonly module: Module;
  /** The layer that names count from. */
  readonly first: number;
}

/** Weights of functions that are called keep their names. */
export function relativeLayers(module: Module): RelativeModule {
  const entry = getFunc(module, module.entry);
  const layers = topoOrder(entry.outs).flatMap((node) => {
    const found = isOp(node, "weight") ? absolute.exec(node.attrs.name) : null;
    return found === null ? [] : [Number(found[2])];
  });
  if (layers.length === 0) return { module, first: 0 };
  const first = layers.reduce((a, b) => Math.min(a, b));
  const rename = (name: string) =>
    name.replace(absolute, (_, before: string, layer: string) => `${before}layers.{+${Number(layer) - first}}.`);
  const builder = new Builder();
  const params = entry.params.map((param) => builder.make("param", [], param.attrs));
  const outs = renamed(entry.outs, builder, rename);
  const others = [...module.funcs.values()].filter((func) => func !== entry);
  return { module: makeModule(module.name, [...others, { ...entry, params, outs }], module.entry), first };
}

/** Expressions of a relative module with the names that its weights have in the checkpoint. */
export function absoluteLayers(exprs: readonly Node[], first: number): readonly Node[] {
  const rename = (name: string) =>
    name.replace(relative, (_, before: string, offset: string) => `${before}layers.${first + Number(offset)}.`);
  return renamed(exprs, new Builder(), rename);
}

function renamed(roots: readonly Node[], builder: Builder, rename: (name: string) => string): readonly Node[] {
  const copy = (node: Node, original: Node) =>
    isOp(original, "weight")
      ? builder.make("weight", [], { ...original.attrs, name: rename(original.attrs.name) })
      : builder.make(node.op, node.ins, node.attrs);
  return rebuild(roots, builder, (node, original) => keepName(original, copy(node, original))).roots;
}
