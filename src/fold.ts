/**
 * Folding at load time: weight expressions (what the passes made of the checkpoint's tensors: casts, dequantised blocks,
 * concatenations) are compiled to kernels like anything else and evaluated once, on plain JavaScript.
 */
import { jsBackend } from "./backends/js/device.ts";
import { invariant } from "./ir/errors.ts";
import { attrsOf, Builder, isOp, makeModule, type Node, topoOrder } from "./ir/graph.ts";
import { type OpName, opKind } from "./ir/ops/all.ts";
import type { Plan } from "./ir/plan.ts";
import { printFunc } from "./ir/print.ts";
import { jsTarget } from "./ir/target.ts";
import type { TensorData } from "./ir/tensor.ts";
import { dtypeInfo, sizeOf, type TensorType } from "./ir/types.ts";
import { readWeight, type WeightSource } from "./ir/weight.ts";
import { stageOf } from "./passes/constant.ts";
import { lowerFunc } from "./passes/lower/lower.ts";
import { planMemory } from "./passes/memory.ts";
import { kernelPasses } from "./passes/pipeline.ts";

/** A weight expression as a function of checkpoint tensors. */
export interface Fold {
  /** The same for expressions that compute the same from weights of the same name. */
  readonly key: string;
  readonly type: TensorType;
  readonly inputs: readonly { readonly name: string; readonly type: TensorType }[];
  /** Whether it is a weight of the checkpoint, unchanged. */
  readonly isWeight: boolean;
  /** Where every weight is stacked and index i of the result needs index i of each alone: the fold of one index. */
  readonly perIndex: Fold | null;
  /** Parts that are weight expressions themselves, so that a loader that has their values need not compute them again. */
  readonly given: readonly Fold[];
  /** Computes the value from `inputs` in order. Where nothing is to be computed it may be an input itself. */
  readonly run: (inputs: readonly TensorData[], memory?: FoldMemory) => TensorData;
}

/** Memory and values that a caller has already. */
export interface FoldMemory {
  /** Where the value goes. */
  readonly into?: TensorData;
  /** The values of `Fold.given`, which are computed where they are left out. */
  readonly given?: readonly TensorData[];
}

const folds = new Map<string, Fold>();

/** Compiles a weight expression; equal ones are compiled once. */
export function compileFold(expr: Node): Fold {
  const key = foldKey(expr);
  const known = folds.get(key);
  if (known !== undefined) return known;
  const fold = makeFold(expr, key);
  folds.set(key, fold);
  return fold;
}

/** The same text for expressions that compute the same from weights of the same name. */
export function foldKey(expr: Node): string {
  return printFunc({ name: "fold", params: [], outs: [expr] }, { canonical: true });
}

function makeFold(expr: Node, key: string): Fold {
  const weights = topoOrder([expr]).filter((node) => isOp(node, "weight"));
  const inputs = weights.map((node) => ({ name: node.attrs.name, type: node.type }));
  const unit = isPerIndex(expr) ? withLeadingOne(expr) : null;
  const perIndex = unit === null ? null : compileFold(unit);
  if (isOp(expr, "weight")) {
    const run: Fold["run"] = ([data], { into } = {}) => copied(data!, into);
    return { key, type: expr.type, inputs, isWeight: true, perIndex, given: [], run };
  }
  const parts = partsOf(expr);
  const given = parts.map(compileFold);
  const plan = planFold(expr, [...weights, ...parts]);
  const [left] = plan.funcs.get(plan.entry)!.donated;
  const program = jsBackend.open().load(plan);
  const run: Fold["run"] = (data, { into, given: values } = {}) => {
    const named = (name: string) => data[inputs.findIndex((input) => input.name === name)]!;
    const ready = values ?? given.map((part) => part.run(part.inputs.map(({ name }) => named(name))));
    // An update in place would change the checkpoint's tensor.
    const params = new Map([...data, ...ready].map((each, i) => [`w${i}`, i === left ? each.slice() : each]));
    const noWeights = () => invariant(false, () => "a fold has no weights of its own");
    const instance = program.instantiate({
      weight: noWeights as () => never,
      params,
      ...(into === undefined ? {} : { results: new Map([[0, into]]) }),
    });
    instance.run();
    const result = instance.results[0]!;
    // A result left in a parameter's memory is not where the caller wants it.
    return into === undefined || result === into ? result : copied(result, into);
  };
  return { key, type: expr.type, inputs, isWeight: false, perIndex, given, run };
}

function copied(data: TensorData, into: TensorData | undefined): TensorData {
  into?.set(data);
  return into ?? data;
}

/** Scales and minimums of codes: dear to search for, and held by themselves beside the codes. */
function partsOf(expr: Node): Node[] {
  const codes = topoOrder([expr]).filter((node) => isOp(node, "quantizeGroups"));
  const params = new Set(codes.flatMap(({ ins }) => ins.slice(1)));
  return [...params].filter((node) => stageOf(node) === "weight" && !isOp(node, "weight") && node !== expr);
}

/** The expression as a function whose parameters are values known: its weights, and parts of it. */
function planFold(expr: Node, known: readonly Node[]): Plan {
  const builder = new Builder();
  const renewed = new Map<Node, Node>();
  const params = known.map(({ type: { dtype, shape } }, i) => builder.param(`w${i}`, dtype, shape));
  for (const node of topoOrder([expr])) {
    const index = known.indexOf(node);
    renewed.set(
      node,
      index === -1
        ? builder.make(
            node.op,
            node.ins.map((x) => renewed.get(x)!),
            node.attrs,
          )
        : params[index]!,
    );
  }
  const func = { name: "fold", params, outs: [renewed.get(expr)!] };
  const passes = kernelPasses(jsTarget, { optimize: true });
  const kernels = lowerFunc(func, jsTarget, { enabled: true, weights: new Set() }).map((each) => ({
    ...each,
    kernel: passes.reduce((kernel, pass) => pass.run(kernel), each.kernel),
  }));
  return planMemory(makeModule("fold", [func], "fold"), [{ func, kernels, weights: [] }]);
}

/** Ops on groups along the last axis. */
const ofGroups: ReadonlySet<OpName> = new Set(["groupScales", "groupMinimums", "quantizeGroups"]);

/** Whether each index of axis 0 begins at a byte. */
function wholeBytes({ dtype, shape }: TensorType): boolean {
  return (sizeOf(shape.slice(1)) * dtypeInfo(dtype).bits) % 8 === 0;
}

/** Whether the value at index i of axis 0 depends on index i of stacked weights alone. */
function isPerIndex(expr: Node): boolean {
  const count = expr.type.shape[0];
  if (count === undefined || count < 2) return false;
  return topoOrder([expr]).every((node) => {
    if (isOp(node, "weight")) return node.attrs.name.includes("{0}") && node.type.shape[0] === count;
    if (isOp(node, "concat")) return node.attrs.axis > 0;
    if (isOp(node, "dequantizeBlocks")) return node.type.shape.length > 2;
    if (ofGroups.has(node.op)) return node.type.shape.length > 1 && wholeBytes(node.type);
    return opKind(node.op) === "elementwise" && node.type.shape[0] === count;
  });
}

/** The same expression on weights whose axis 0 has size 1. */
function withLeadingOne(expr: Node): Node {
  const builder = new Builder();
  const renewed = new Map<Node, Node>();
  for (const node of topoOrder([expr])) {
    const attrs = isOp(node, "weight") ? { ...node.attrs, shape: node.attrs.shape.with(0, 1) } : attrsOf(node);
    renewed.set(
      node,
      builder.make(
        node.op,
        node.ins.map((x) => renewed.get(x)!),
        attrs as typeof node.attrs,
      ),
    ); // the op's own attributes
  }
  return renewed.get(expr)!;
}

/** The weights of a plan from a source in memory, each evaluated when first asked for and held by the device. */
export function evaluateWeights(
  plan: Plan,
  source: WeightSource | undefined,
  hold: (type: TensorType, data: TensorData) => TensorData,
): (func: string, index: number, layer: number | null) => TensorData {
  const values = new Map<string, TensorData>();
  const evaluated = (fold: Fold, layer: number | null): TensorData => {
    const key = `${layer} ${fold.key}`;
    let value = values.get(key);
    if (value === undefined) {
      invariant(source !== undefined, () => "weights are needed, but no source was given");
      const inputs = fold.inputs.map(({ name, type }) => readWeight(name, type, source, layer ?? undefined).data);
      const given = fold.given.map((part) => evaluated(part, layer));
      value = hold(fold.type, fold.run(inputs, { given }));
      values.set(key, value);
    }
    return value;
  };
  return (func, index, layer) => evaluated(compileFold(plan.funcs.get(func)!.weights[index]!), layer);
}
