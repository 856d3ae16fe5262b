/** Instruments: what watches the passes. They get plain options and callbacks; reading variables and writing files is the caller's. */
import { showAttrs } from "../ir/attrs.ts";
import { attrsOf, type Module, type Node, nameOf, topoOrder } from "../ir/graph.ts";
import { printModule } from "../ir/print.ts";
import { showType } from "../ir/types.ts";
import type { Instrument } from "./pass.ts";

/** Calls `report` with each pass's time in milliseconds and whether it changed anything. */
export function timing(report: (pass: string, ms: number, changed: boolean) => void): Instrument {
  return { after: (pass, before, after, ms) => report(pass.name, ms, before !== after) };
}

export interface DumpOptions {
  /** Gets the file's name, `07-fuse.after.ir`, and its text. The input of the first pass is `00-input.ir`. */
  readonly write: (name: string, text: string) => void;
  /** Only passes with such a name. */
  readonly pattern?: RegExp;
}

export function dump({ write, pattern = /^/ }: DumpOptions): Instrument {
  let count = 0;
  return {
    start: (module) => write("00-input.ir", printModule(module)),
    after: (pass, _, after) => {
      const number = String(++count).padStart(2, "0");
      if (pattern.test(pass.name)) write(`${number}-${pass.name}.after.ir`, printModule(after));
    },
  };
}

/** What passes did, for the viewer. Nodes are numbered once in `nodes`, everything else names them by number. */
export interface Trace {
  /** The IR that the first pass got, cut where it is very long. */
  input: string;
  /** [op, operands, attributes as printed, type, name or null]; JSON itself cannot say NaN or -0. */
  readonly nodes: [string, number[], string, string, string | null][];
  readonly passes: TracedPass[];
}

export interface TracedPass {
  readonly name: string;
  readonly ms: number;
  /** Results of each function. */
  readonly before: Record<string, number[]>;
  readonly after: Record<string, number[]>;
  /** The IR after it; null where it changed nothing. */
  readonly text: string | null;
  readonly matches: { readonly rule: string; readonly before: number; readonly after: number }[];
}

const longestText = 500_000;

/** Enough for the functions of any model, and not for a program that was unrolled. */
export function cutText(text: string, most = longestText): string {
  return text.length <= most ? text : `${text.slice(0, most)}\n... ${text.length - most} more characters\n`;
}

/** An instrument and the trace that it fills, of the first module that it is given: others are further buckets of it. */
export function tracing(): { readonly instrument: Instrument; readonly trace: Trace } {
  const trace: Trace = { input: "", nodes: [], passes: [] };
  const numbers = new Map<Node, number>();
  let matches: TracedPass["matches"] = [];
  let modules = 0;

  const numberOf = (root: Node): number => {
    const known = numbers.get(root);
    if (known !== undefined) return known;
    for (const node of topoOrder([root])) {
      if (numbers.has(node)) continue;
      numbers.set(node, trace.nodes.length);
      const ins = node.ins.map((operand) => numbers.get(operand)!);
      trace.nodes.push([node.op, ins, showAttrs(attrsOf(node)), showType(node.type), nameOf(node) ?? null]);
    }
    return numbers.get(root)!;
  };
  const roots = (module: Module) =>
    Object.fromEntries([...module.funcs].map(([name, func]) => [name, func.outs.map(numberOf)]));

  const instrument: Instrument = {
    start: (module) => {
      if (modules++ === 0) trace.input = cutText(printModule(module));
    },
    match: (_, { rule, before, after }) => {
      if (modules > 1) return;
      matches.push({ rule, before: numberOf(before), after: numberOf(after) });
    },
    after: (pass, before, after, ms) => {
      if (modules > 1) return;
      const text = before === after ? null : cutText(printModule(after));
      trace.passes.push({ name: pass.name, ms, before: roots(before), after: roots(after), text, matches });
      matches = [];
    },
  };
  return { instrument, trace };
}
