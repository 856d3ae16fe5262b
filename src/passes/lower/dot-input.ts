/**
 * The input of a product, quantised by the workgroup that multiplies: every invocation takes four neighbouring values in
 * turn, finds the largest of a group with its neighbours, and leaves a word of four codes and each group's scale in memory
 * that the workgroup shares.
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
  num,
  op,
  select,
} from "../../ir/kernel/kernel.ts";
import { barrier, store, when } from "../../ir/kernel/stmt.ts";
import { dotGroup } from "../../ir/ops/dot.ts";
import { codeRange } from "../../ir/ops/groups.ts";
import { bounded } from "./group-search.ts";
import { clampTo } from "./index-math.ts";
import { nearestCode } from "./values.ts";
import type { KernelWriter, Together } from "./writer.ts";

export interface StagedInput {
  /** Four codes by their number, as bytes. */
  readonly codes: (word: Expr) => Expr;
  /** The scale of a group. */
  readonly scale: (group: Expr) => Expr;
}

const zero = num("f32", 0);
/** Words of a group. */
const perGroup = dotGroup / 4;

/** Writes the quantiser of `x` (`quantizeGroups` by `groupScales`, one row); all invocations meet at its end. */
export function stageInput(w: KernelWriter, codes: Node, idx: readonly Expr[], together: Together): StagedInput {
  const [x, scales] = codes.ins as [Node, Node]; // it takes two operands where codes are i8
  const length = x.type.shape.at(-1)!;
  const range = codeRange(codes.type.dtype)!;
  const words = w.shared("words", "u32", length / 4);
  const found = w.shared("scales", "f32", length / dotGroup);
  const count = length / 4;
  const quantizeWord = (mine: Expr): void => {
    const word = count % together.size === 0 ? mine : w.bind("word", clampTo(mine, count));
    const first = w.bind("first", imul(word, int(4)));
    const values = [0, 1, 2, 3].map((i) =>
      w.bind("x", w.value(x, [...idx.slice(0, x.type.shape.length - 1), iadd(first, int(i))])),
    );
    const size = (value: Expr) => select(op("eq", value, value), op("abs", value), zero); // a NaN counts as 0
    const own = w.bind(
      "most",
      values.map(size).reduce((a, b) => op("max", a, b)),
    );
    const largest = w.combine("largest", "max", own, perGroup);
    const scale = w.bind("scale", intrinsic("rounded16", bounded(op("div", largest, num("f32", 127)))));
    const none = w.bind("none", op("eq", scale, zero));
    const bytes = values.map((value) => select(none, int(0), cast("i32", nearestCode(value, scale, range))));
    const leads = op("eq", irem(word, int(perGroup)), int(0));
    const stores = [
      store(words, word, intrinsic("word4", ...bytes)),
      when(leads, [store(found, idiv(word, int(perGroup)), scale)]),
    ];
    if (count % together.size === 0) for (const each of stores) w.emit(each);
    else w.emit(when(op("lt", mine, int(count)), stores));
  };
  const steps = Math.ceil(count / together.size);
  w.loop("s", steps, (s) => quantizeWord(w.bind("mine", iadd(imul(s, int(together.size)), together.lane))));
  w.emit(barrier);
  const scale = (group: Expr) => load(found, group);
  w.hold(scales, (at) => scale(at.at(-1)!));
  return { codes: (word) => intrinsic("bytes4", load(words, word)), scale };
}
