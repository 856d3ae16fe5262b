/**
 * The input of a product of one token, in memory that the workgroup shares: copied there, or quantised by the workgroup that
 * multiplies. Then every invocation takes four neighbouring values in turn, finds the largest of a group with its neighbours,
 * and leaves a word of four codes and each group's scale.
 */
import type { Node } from "../../ir/graph.ts";
import {
  cast,
  type Expr,
  iadd,
  idiv,
  imul,
  int,
  intrinsic,
  irem,
  load,
  loadBytes,
  num,
  op,
  select,
} from "../../ir/kernel/kernel.ts";
import { barrier, store, when } from "../../ir/kernel/stmt.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import { codeRange } from "../../ir/ops/groups.ts";
import { bytesAt, type Dot, inputScaleAt, inputSumAt, readsSums } from "./dot-group-parts.ts";
import { bounded } from "./group-search.ts";
import { clampTo, range as numbers } from "./index-math.ts";
import { roundedCode } from "./values.ts";
import type { Together } from "./writer.ts";

export interface StagedInput {
  /** Sixteen codes by their number. */
  readonly codes: (sixteen: Expr) => Expr;
  /** The scale of a group, as `inputScaleAt`. */
  readonly scale: (group: Expr) => Expr;
  /** What a group's codes add up to, as `inputSumAt`. */
  readonly sum: (group: Expr) => Expr;
}

const zero = num("f32", 0);
/** Words of a group. */
const perGroup = dotGroup / 4;

/** The input of row `idx`, for kernels that have it in memory; all invocations meet at its end. */
export function copyInput(dot: Dot, idx: readonly Expr[], together: Together, sharedBytes: number): StagedInput {
  const { w, groups } = dot;
  const length = groups * dotGroup;
  const inPlace: StagedInput = {
    codes: (sixteen) => bytesAt(dot, 0, idx, imul(sixteen, int(16)), 16),
    scale: (g) => inputScaleAt(dot, idx, g),
    sum: (g) => inputSumAt(dot, idx, g),
  };
  const sums = readsSums(dot);
  if (length + groups * (sums ? 8 : 4) > sharedBytes - combineBytes) return inPlace;
  const codes = w.shared("words", "i8", length);
  w.strided(together, "i", length / 16, (i) => w.emit(store(codes, imul(i, int(16)), inPlace.codes(i))));
  const ofGroups = (hint: string, at: (g: Expr) => Expr) => {
    const buf = w.shared(hint, "f32", groups);
    w.strided(together, "i", groups, (g) => w.emit(store(buf, g, at(g))));
    return (g: Expr) => load(buf, g);
  };
  const scale = ofGroups("scales", inPlace.scale);
  const sum = sums ? ofGroups("sums", inPlace.sum) : inPlace.sum;
  w.emit(barrier);
  return { codes: (sixteen) => loadBytes(codes, imul(sixteen, int(16)), 16), scale, sum };
}

/** What combining sums may take of a workgroup's memory. */
const combineBytes = 2048;

/** Four values of the input. */
interface Word {
  /** Its number, and that clamped to those there are. */
  readonly mine: Expr;
  readonly word: Expr;
  readonly first: Expr;
  readonly values: readonly Expr[];
}

/** So many words of an invocation are in registers at once. */
const mostWords = 4;

/** Writes the quantiser of `x` (`quantizeGroups` by `groupScales`, one row); all invocations meet at its end. */
export function stageInput(dot: Dot, idx: readonly Expr[], together: Together): StagedInput {
  const { w, group, bits } = dot;
  const codes = group.anchor.ins[0]!;
  const [x, scales] = codes.ins as [Node, Node]; // it takes two operands where codes are i8
  const length = x.type.shape.at(-1)!;
  const range = codeRange(codes.type.dtype)!;
  const words = w.shared("words", "i8", length);
  const found = w.shared("scales", "f32", length / dotGroup);
  const count = length / 4;
  const whole = count % together.size === 0;
  const readWord = (step: Expr): Word => {
    const mine = w.bind("mine", iadd(imul(step, int(together.size)), together.lane));
    const word = whole ? mine : w.bind("word", clampTo(mine, count));
    const first = w.bind("first", imul(word, int(4)));
    const values = [0, 1, 2, 3].map((i) =>
      w.bind("x", w.value(x, [...idx.slice(0, x.type.shape.length - 1), iadd(first, int(i))])),
    );
    return { mine, word, first, values };
  };
  const quantizeWord = ({ mine, word, first, values }: Word): void => {
    const size = (value: Expr) => select(op("eq", value, value), op("abs", value), zero); // a NaN counts as 0
    const own = w.bind(
      "most",
      values.map(size).reduce((a, b) => op("max", a, b)),
    );
    const largest = w.combine("largest", "max", own, perGroup);
    const scale = w.bind("scale", intrinsic("rounded16", bounded(op("div", largest, num("f32", 127)))));
    const none = w.bind("none", op("eq", scale, zero));
    // A product instead of a quotient for each, which is within what WGSL allows a quotient to be off.
    const factor = w.bind("factor", select(none, zero, op("div", num("f32", 1), scale)));
    const bytes = values.map((value) => cast("i32", roundedCode(op("mul", value, factor), range)));
    const leads = op("eq", irem(word, int(perGroup)), int(0));
    const stores = [
      store(words, first, intrinsic("bytes4", intrinsic("word4", ...bytes))),
      when(leads, [store(found, idiv(word, int(perGroup)), scale)]),
    ];
    if (whole) for (const each of stores) w.emit(each);
    else w.emit(when(op("lt", mine, int(count)), stores));
  };
  const steps = Math.ceil(count / together.size);
  // All words that an invocation has are on their way from memory together: a norm's weights come from far.
  if (steps <= mostWords) for (const each of numbers(steps).map((s) => readWord(int(s)))) quantizeWord(each);
  else w.loop("s", steps, (s) => quantizeWord(readWord(s)));
  w.emit(barrier);
  const scale = (g: Expr) => load(found, g);
  w.hold(scales, (at) => scale(at.at(-1)!));
  return {
    codes: (sixteen) => loadBytes(words, imul(sixteen, int(16)), 16),
    // A power of two, so exact.
    scale: (g) => (bits === 4 ? op("mul", scale(g), num("f32", 1 / 16)) : scale(g)),
    sum: (g) => inputSumAt(dot, idx, g),
  };
}
