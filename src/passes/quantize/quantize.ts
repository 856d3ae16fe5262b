/**
 * Quantisation: what a contraction reads of weights becomes codes times scales, and with `activations` so does the value
 * that meets them.
 *
 *     contract x, w           ->   contract x', dequantizeGroups(quantizeGroups(w, s), s)      s = groupScales(w)
 *     contract x, w[experts]  ->   contract x', dequantizeGroups(q[experts], s[experts])
 *     w[tokens]               ->   dequantizeGroups(q[tokens], s[tokens])
 *
 * Scales and codes of weights depend on weights alone, so the loader computes them; `dequantizeGroups` unpacks and stays
 * in the program (see stageOf), so what is held is codes and scales. They are nodes of their own: a layout pass can
 * rearrange either by putting a weight expression around it.
 *
 * Groups run along the last axis as stored, whatever is summed: all forms of one weight (absorbed or not, each bucket)
 * then share codes. Inputs are quantised only where that axis is the one summed, and it is the input's last as well.
 */
import { parseAxes } from "../../ir/axes.ts";
import { type Maths, maths } from "../../ir/build.ts";
import { UnsupportedError } from "../../ir/errors.ts";
import { type Func, isOp, type Node, named, nameOf, rebuild } from "../../ir/graph.ts";
import { keepName } from "../../ir/rewrite.ts";
import type { Target } from "../../ir/target.ts";
import { isFloat } from "../../ir/types.ts";
import { stageOf } from "../constant.ts";
import { mapOuts, type Pass } from "../pass.ts";
import {
  type ActivationFormat,
  checkOverrides,
  checkQuantizeOptions,
  codesOf,
  isCoded,
  planExpression,
  type QuantizeOptions,
  weightNames,
} from "./policy.ts";

/** Needs what legalize and merge-contracts left: contractions of f32, merged ones made of weights of one format. */
export function quantize(options: QuantizeOptions): Pass {
  checkQuantizeOptions(options);
  return {
    name: "quantize",
    level: "tensor",
    exact: false,
    run: (module, { builder, target }) => {
      checkOverrides(
        [...module.funcs.values()].flatMap((func) => func.outs.flatMap(weightNames)),
        options,
      );
      const build = maths(builder);
      return mapOuts(module, (func) => quantizeFunc(func, build, options, target));
    },
  };
}

function quantizeFunc(func: Func, build: Maths, options: QuantizeOptions, target: Target): readonly Node[] {
  const change = (node: Node): Node => {
    if (stageOf(node) !== "runtime") return node;
    const rows = chosenRows(node);
    if (rows !== undefined) return keepName(node, packedRows(rows.table, rows.index, build, options, target) ?? node);
    return isOp(node, "contract") ? quantizeContract(node, build, options, target) : node;
  };
  return rebuild(func.outs, build.builder, change).roots;
}

/** `gather(table, index)` as f32 with the table a weight expression. */
function chosenRows(node: Node): { table: Node; index: Node } | undefined {
  const wide = isOp(node, "cast") && node.attrs.dtype === "f32" ? node.ins[0]! : node;
  if (!isOp(wide, "gather") || node.type.dtype !== "f32") return undefined;
  const [table, index] = [wide.ins[0]!, wide.ins[1]!];
  return isTable(table) ? { table, index } : undefined;
}

function isTable(node: Node): boolean {
  return stageOf(node) === "weight" && isFloat(node.type.dtype) && node.type.shape.length > 1;
}

interface Packed {
  readonly codes: Node;
  /** Scales, then minimums where the format has them. */
  readonly params: readonly Node[];
  readonly group: number;
}

/** Codes and scales of a weight expression; undefined where it stays as it is. */
function pack(expr: Node, build: Maths, options: QuantizeOptions, target: Target): Packed | undefined {
  const { format } = planExpression(expr, options);
  if (!isCoded(format)) return undefined;
  const to = codesOf(format);
  const { group = 32, method = "mse" } = options;
  needStorage(target, to, "f16");
  // Scales and codes read any float dtype, so that a table read as stored and one read as f32 have the same codes.
  const w = isOp(expr, "cast") && isFloat(expr.ins[0]!.type.dtype) ? expr.ins[0]! : expr;
  const name = nameOf(expr) ?? nameOf(w) ?? "w";
  const attrs = { group, to, method: to === "i8" ? "range" : method };
  const scales = named(`${name}_scales`, build.groupScales(w, attrs));
  const params = to === "u4" ? [scales, named(`${name}_minimums`, build.groupMinimums(w, attrs))] : [scales];
  return { codes: named(`${name}_codes`, build.quantizeGroups(w, params, to, group)), params, group };
}

function packedRows(
  table: Node,
  index: Node,
  build: Maths,
  options: QuantizeOptions,
  target: Target,
): Node | undefined {
  const packed = pack(table, build, options, target);
  if (packed === undefined) return undefined;
  const params = packed.params.map((each) => build.gather(each, index));
  return build.dequantizeGroups(build.gather(packed.codes, index), params, packed.group);
}

function quantizeContract(node: Node<"contract">, build: Maths, options: QuantizeOptions, target: Target): Node {
  const ins = node.ins.map((operand) => {
    const packed = isTable(operand) ? pack(operand, build, options, target) : undefined;
    return packed === undefined ? operand : build.dequantizeGroups(packed.codes, packed.params, packed.group);
  });
  if (!ins.some(isPackedWeight)) return node;
  const input = inputToQuantize(node, options);
  if (input !== undefined) {
    needStorage(target, "i8", "f16");
    ins[input.side] = quantizeInput(input, build, options.group ?? 32);
  }
  return keepName(node, build.builder.make("contract", ins, node.attrs));
}

/** The operand of a contraction that meets a weight and is to be quantised. */
export interface QuantizedInput {
  readonly x: Node;
  readonly side: number;
  /** Names of the weights that it meets. */
  readonly weights: readonly string[];
  readonly format: Exclude<ActivationFormat, "none">;
}

/** Undefined where the input of a contraction stays as it is. */
export function inputToQuantize(node: Node<"contract">, options: QuantizeOptions): QuantizedInput | undefined {
  // The rows of an embedding may be the input of a layer: a weight read whole comes first.
  const whole = node.ins.findIndex((x) => isTable(x) || (isPackedWeight(x) && stageOf(x.ins[0]!) === "weight"));
  const weightSide = whole >= 0 ? whole : node.ins.findIndex((x) => isPackedWeight(x) || chosenRows(x) !== undefined);
  if (weightSide < 0 || stageOf(node) !== "runtime") return undefined;
  const [weight, side] = [node.ins[weightSide]!, 1 - weightSide];
  // Not by what chooses rows, which depends on weights of its own (the router).
  const table = chosenRows(weight)?.table ?? codesTable(weight) ?? weight;
  const plan = planExpression(table, options);
  const chosen = chosenRows(weight) !== undefined || (isPackedWeight(weight) && isOp(weight.ins[0]!, "gather"));
  const axes = parseAxes(node.attrs.axes);
  const last = axes.ins[weightSide]!.at(-1)!;
  const meets = axes.reduced.includes(last) && axes.ins[side]!.at(-1) === last;
  const x = node.ins[side]!;
  if (plan.activations === "none" || !meets || stageOf(x) !== "runtime") return undefined;
  // One scale for the inputs of all experts loses far more than it saves (docs/decisions/0007): each group has its own.
  const format = chosen && plan.activations === "int8-static" ? "int8" : plan.activations;
  return { x, side, weights: weightNames(table), format };
}

/** Codes of a weight times scales, or chosen rows of them. */
function isPackedWeight(node: Node): boolean {
  const codes = codesTable(node);
  return codes !== undefined && stageOf(codes) === "weight";
}

/** The codes that a value is unpacked from, of all rows where some are chosen. */
function codesTable(node: Node): Node | undefined {
  if (!isOp(node, "dequantizeGroups")) return undefined;
  const codes = node.ins[0]!;
  return isOp(codes, "gather") ? codes.ins[0]! : codes;
}

/** The value that meets a packed weight, rounded to i8 by a scale per group or by a calibrated one. */
function quantizeInput({ x, weights, format }: QuantizedInput, build: Maths, group: number): Node {
  const name = nameOf(x) ?? "x";
  const length = x.type.shape.at(-1)!;
  if (format === "int8-static") {
    const scale = build.builder.weight(inputScaleName(weights), "f16", [1]);
    const scales = build.broadcast(scale, x.type.shape.with(-1, 1));
    return build.dequantizeGroups(
      named(`${name}_codes`, build.quantizeGroups(x, [scales], "i8", length)),
      [scales],
      length,
    );
  }
  const scales = named(`${name}_scales`, build.groupScales(x, { group, to: "i8", method: "range" }));
  return build.dequantizeGroups(
    named(`${name}_codes`, build.quantizeGroups(x, [scales], "i8", group)),
    [scales],
    group,
  );
}

const inputScaleSuffix = ".input_scale";

/** The weight that holds the calibrated scale, f16 [1], of the input that meets these weights. Experts share an input. */
export function inputScaleName(weights: readonly string[]): string {
  return `${weights[0]!.replace(/\.weight$/, "").replaceAll(".{0}", "")}${inputScaleSuffix}`;
}

export function isInputScale(name: string): boolean {
  return name.endsWith(inputScaleSuffix);
}

function needStorage(target: Target, ...dtypes: Target["storage"]): void {
  const missing = dtypes.find((dtype) => !target.storage.includes(dtype));
  if (missing === undefined) return;
  throw new UnsupportedError(`target ${target.name}`, `cannot store ${missing}, which quantised weights need`, {
    hint: `It stores ${target.storage.join(", ")}.`,
  });
}
