/** Checks a module against the invariants, and shows where one is broken: the function, the node's line, its text. */
import { IrError } from "./errors.ts";
import type { Func, Module, Node } from "./graph.ts";
import { type Invariant, invariants, Violation } from "./invariants.ts";
import { funcLines } from "./print.ts";

export { type Invariant, inPlace, noComposites } from "./invariants.ts";

/** Throws IrError with the invariant's name, the function and the node unless V1 to V9 and `extra` hold. */
export function verifyModule(module: Module, extra: readonly Invariant[] = []): void {
  for (const invariant of [...invariants, ...extra]) {
    try {
      invariant.check(module);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      const what = `${error.message}, against ${invariant.name}`.slice(error.where.length + 2);
      const text = error.func && excerpt(error.func, error.node);
      throw new IrError(error.where, what, text === undefined ? { cause: error } : { cause: error, text });
    }
  }
}

/** Lines shown before and after the one in question. */
const around = 4;

/** The function's header and the lines about a node, whose own line is marked. */
function excerpt(func: Func, node: Node | undefined): string {
  const { header, body } = funcLines(func);
  const at = node === undefined ? -1 : body.findIndex((line) => line.nodes.includes(node));
  const [start, stop] = at < 0 ? [0, 2 * around + 1] : [Math.max(0, at - around), at + around + 1];
  const lines = body.slice(start, stop).map(({ text }, i) => `${start + i === at ? ">" : " "} ${text}`);
  if (start > 0) lines.unshift(`    .. ${start} lines`);
  if (body.length > stop) lines.push(`    .. ${body.length - stop} lines`);
  return [`  ${header}`, ...lines, "  }"]
    .map((line) => (line.length > 400 ? `${line.slice(0, 397)}...` : line))
    .join("\n");
}
