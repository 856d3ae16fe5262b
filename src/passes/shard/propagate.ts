/**
 * Divides a program over a mesh: from shardings of weights and parameters to those of every value, with collectives where
 * ranks need what others have. It knows nothing of ops but their axis rules (ir/axis-rule.ts):
 *
 * 1. operands before users, each op sees how its operands are cut;
 * 2. `chooseCuts` decides which axis names of the op are cut along which mesh axes;
 * 3. operands are brought to that (cut for nothing where replicated or fixed, else gathered or exchanged);
 * 4. the op runs on the parts; names it sums over that were cut leave a pending sum;
 * 5. what reads rows by index from a table that is cut along its rows takes what it finds, and owns the rest not.
 *
 * A function is divided once for each way in which its arguments are cut. The result is one program for all ranks (SPMD).
 */
import { type AxisRule, nameSizes, names } from "../../ir/axis-rule.ts";
import {
  attrsOf,
  Builder,
  type Func,
  getFunc,
  isOp,
  type Module,
  makeModule,
  type Node,
  topoOrder,
} from "../../ir/graph.ts";
import type { Mesh } from "../../ir/mesh.ts";
import { keepName } from "../../ir/rewrite.ts";
import { byteSize, type Shape } from "../../ir/types.ts";
import { stageOf } from "../constant.ts";
import { chooseCuts, ruleOf, shardingOf } from "./factors.ts";
import { applyIndex } from "./indexed.ts";
import { settleOperands } from "./settle.ts";
import {
  checkSharding,
  indivisible,
  localShape,
  replicated,
  type Sharding,
  sameSharding,
  showSharding,
} from "./sharding.ts";
import {
  cutAll,
  type Emitter,
  emitter,
  type Fixed,
  reshard,
  type Spread,
  settled,
  spreadOf,
  type Value,
} from "./spread.ts";

export interface Placement {
  readonly mesh: Mesh;
  /** How a weight is cut, by its name with placeholders; undefined: not at all. */
  readonly weight: (name: string, shape: Shape) => Sharding | undefined;
  /** The same for parameters of the entry. */
  readonly param: (name: string, shape: Shape) => Sharding | undefined;
  /** How result number `i` of the entry is to be cut; undefined: as it comes. */
  readonly result?: (i: number, shape: Shape) => Sharding | undefined;
  /**
   * Mesh axes for which it is promised that rows found by index (of caches, block tables, a batch) are on the rank that
   * has the index: data parallelism, where a sequence and all that belongs to it is one rank's.
   */
  readonly aligned?: readonly string[];
}

/** The program of every rank, and how parameters and results of its entry are cut. */
export interface Divided {
  readonly mesh: Mesh;
  readonly module: Module;
  readonly params: readonly Sharding[];
  readonly results: readonly Sharding[];
}

interface LocalFunc {
  readonly func: Func;
  readonly results: readonly Sharding[];
}

export function divide(module: Module, placement: Placement): Divided {
  return new Divider(module, placement).entry();
}

class Divider {
  readonly #module: Module;
  readonly #placement: Placement;
  readonly #e: Emitter;
  /** By function and the shardings of its arguments. */
  readonly #made = new Map<string, LocalFunc>();
  readonly #funcs: Func[] = [];
  /** Parts of fixed values, by node and sharding. */
  readonly #parts = new Map<Node, Map<string, Node>>();

  constructor(module: Module, placement: Placement) {
    this.#module = module;
    this.#placement = placement;
    this.#e = emitter(new Builder(), placement.mesh, placement.aligned ?? []);
  }

  entry(): Divided {
    const func = getFunc(this.#module, this.#module.entry);
    const { mesh, param } = this.#placement;
    const params = func.params.map(({ attrs: { name, shape } }) => {
      const sharding = param(name, shape) ?? replicated(shape.length);
      checkSharding(`parameter ${name}`, shape, sharding, mesh);
      return sharding;
    });
    const { results } = this.#func(func, params, this.#placement.result);
    return { mesh, module: makeModule(this.#module.name, this.#funcs, func.name), params, results };
  }

  #func(func: Func, params: readonly Sharding[], result?: Placement["result"]): LocalFunc {
    const key = `${func.name} ${params.map(showSharding).join(" ")}`;
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const { builder } = this.#e;
    const values = new Map<Node, Value>();
    const locals = func.params.map((param, i) => {
      const { name, dtype, shape } = param.attrs;
      const local = builder.param(name, dtype, localShape(shape, params[i]!, this.#e.mesh));
      values.set(param, spreadOf(local, params[i]!));
      return local;
    });
    for (const node of topoOrder(func.outs)) if (!values.has(node)) values.set(node, this.#value(node, values));
    const outs = func.outs.map((out, i) => {
      const value = values.get(out)!;
      const wanted = result?.(i, out.type.shape);
      if (wanted !== undefined) checkSharding(`result ${i}`, out.type.shape, wanted, this.#e.mesh);
      if (value.kind === "fixed")
        return spreadOf(this.#fixed(value.node, wanted ?? value.sharding), wanted ?? value.sharding);
      const whole = settled(this.#e, value);
      return wanted === undefined ? whole : reshard(this.#e, whole, wanted);
    });
    const local = {
      func: { name: this.#newName(func.name), params: locals, outs: outs.map(({ node }) => node) },
      results: outs.map((x) => x.sharding),
    };
    this.#made.set(key, local);
    this.#funcs.push(local.func);
    return local;
  }

  /** A function keeps its name for the first way in which its arguments are cut. */
  #newName(name: string): string {
    const taken = new Set(this.#funcs.map((each) => each.name));
    if (!taken.has(name)) return name;
    let again = 1;
    while (taken.has(`${name}.${again}`) || this.#module.funcs.has(`${name}.${again}`)) again++;
    return `${name}.${again}`;
  }

  #value(node: Node, values: ReadonlyMap<Node, Value>): Value {
    const operands = node.ins.map((x) => values.get(x)!);
    if (isOp(node, "call")) return this.#call(node, operands);
    if (stageOf(node) !== "runtime") return this.#fixedValue(node, operands);
    return this.#op(node, operands);
  }

  #call(node: Node<"call">, operands: readonly Value[]): Spread {
    const args = operands.map((x) =>
      x.kind === "fixed" ? spreadOf(this.#fixed(x.node, x.sharding), x.sharding) : settled(this.#e, x),
    );
    const { func, results } = this.#func(
      getFunc(this.#module, node.attrs.func),
      args.map((x) => x.sharding),
    );
    const { result, layer } = node.attrs;
    const made = this.#e.builder.call(
      func,
      args.map((x) => x.node),
      layer,
    )[result]!;
    return spreadOf(keepName(node, made), results[result]!);
  }

  /** Made of weights and constants: any part can be had; its operands' wishes become its own as far as it keeps them. */
  #fixedValue(node: Node, operands: readonly Value[]): Fixed {
    const { shape } = node.type;
    if (isOp(node, "weight")) {
      const sharding = this.#placement.weight(node.attrs.name, shape) ?? replicated(shape.length);
      checkSharding(`weight ${node.attrs.name}`, shape, sharding, this.#e.mesh);
      return { kind: "fixed", node, sharding };
    }
    const { rule, cuts } = this.#choose(node, operands, new Set());
    const kept = shardingOf(rule.out, cuts).dims.map((axes, i) => {
      if (axes.length > 0) return axes;
      // A dimension that the op cannot cut but keeps: blocks that do not fall on the cuts.
      const [operand, dim] = sameDim(rule, rule.out[i]!);
      return operands[operand]?.sharding.dims[dim] ?? axes;
    });
    const used = kept.flat();
    const sharding = used.length === new Set(used).size ? { dims: kept } : shardingOf(rule.out, cuts);
    return {
      kind: "fixed",
      node,
      sharding: indivisible(shape, sharding, this.#e.mesh) === undefined ? sharding : replicated(shape.length),
    };
  }

  /** A fixed value's part: cut as near to the weights as the ops between allow, so that little is loaded. */
  #fixed(node: Node, target: Sharding): Node {
    const known = this.#parts.get(node) ?? new Map<string, Node>();
    this.#parts.set(node, known);
    const key = showSharding(target);
    const part = known.get(key) ?? this.#makeFixed(node, target);
    known.set(key, part);
    return part;
  }

  #makeFixed(node: Node, target: Sharding): Node {
    const { builder, mesh } = this.#e;
    const cut = (whole: Node) => cutAll(this.#e, whole, target);
    if (node.ins.length === 0) return cut(keepName(node, builder.make(node.op, [], attrsOf(node))));
    const whole = (x: Node) => this.#fixed(x, replicated(x.type.shape.length));
    const rule = ruleOf(node);
    const wish = [{ sharding: target, bytes: 0 }];
    const sizes = nameSizes(
      rule,
      node.ins.map((x) => x.type),
      node.type,
    );
    // Named as well, since what is cut must lie together in operands too.
    const asked = { ...rule, ins: [rule.out], out: rule.ins.flat() };
    const { cuts } = chooseCuts({ rule: asked, sizes, operands: wish, mesh, taken: new Set(), aligned: new Set() });
    if (rule.indexed !== undefined || !sameSharding(shardingOf(rule.out, cuts), target)) {
      return cut(keepName(node, builder.make(node.op, node.ins.map(whole), attrsOf(node))));
    }
    const ins = node.ins.map((x, i) => this.#fixed(x, shardingOf(rule.ins[i] ?? [], cuts)));
    return this.#make(node, ins, target);
  }

  #make(node: Node, ins: readonly Node[], sharding: Sharding): Node {
    const attrs = attrsOf(node);
    const local = "shape" in attrs ? { ...attrs, shape: localShape(node.type.shape, sharding, this.#e.mesh) } : attrs;
    return keepName(node, this.#e.builder.make(node.op, ins, local));
  }

  #op(node: Node, given: readonly Value[]): Spread {
    const rule = ruleOf(node);
    const { operands, pending, owned } = settleOperands(this.#e, rule, given);
    const taken = new Set([...(pending?.over ?? []), ...(owned?.over ?? [])]);
    const { cuts, spread } = this.#choose(node, operands, taken);
    const parts = operands.map((x, i): Spread => {
      const target = shardingOf(rule.ins[i] ?? names("x", x.node.type.shape), cuts);
      if (x.kind === "fixed") return spreadOf(this.#fixed(x.node, target), target);
      return { ...reshard(this.#e, spreadOf(x.node, x.sharding), target) };
    });
    const sharding = shardingOf(rule.out, cuts);
    const indexed = applyIndex(this.#e, node, rule, parts, cuts, spread);
    const made = this.#make(node, indexed.ins, sharding);
    const sums = (rule.sum ?? []).flatMap((name) => cuts.get(name) ?? []);
    const maxs = (rule.max ?? []).flatMap((name) => cuts.get(name) ?? []);
    const over = [...(pending?.over ?? []), ...sums];
    return {
      kind: "spread",
      node: made,
      sharding,
      pending: maxs.length > 0 ? { by: "max", over: maxs } : over.length > 0 ? { by: "sum", over } : undefined,
      owned: indexed.owned ?? owned,
    };
  }

  #choose(node: Node, operands: readonly Value[], taken: ReadonlySet<string>) {
    const rule = ruleOf(node);
    const sizes = nameSizes(
      rule,
      node.ins.map((x) => x.type),
      node.type,
    );
    const asked = operands.map((x, i) => ({ sharding: x.sharding, bytes: byteSize(node.ins[i]!.type) }));
    const { mesh } = this.#e;
    // The promise is about what belongs to sequences, which no weight does.
    const table = rule.ins.findIndex((dims) => rule.indexed !== undefined && dims.includes(rule.indexed.axis));
    const aligned = operands[table]?.kind === "fixed" ? new Set<string>() : this.#e.aligned;
    return { rule, ...chooseCuts({ rule, sizes, operands: asked, mesh, taken, aligned }) };
  }
}

/** The first operand dimension with the names of a result's dimension. */
function sameDim({ ins }: AxisRule, text: string): [number, number] {
  for (const [i, dims] of ins.entries()) if (dims.includes(text)) return [i, dims.indexOf(text)];
  return [-1, -1];
}
