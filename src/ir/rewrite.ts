/**
 * The rewriting driver: applies rules bottom-up until none applies. Operands are brought to their final form first,
 * then the node, then whatever a rule made of it. Final forms are remembered per node, so shared parts are rewritten
 * once; nodes in progress are on an explicit stack, because graphs are deeper than the call stack.
 */
import { maths } from "./build.ts";
import { InternalError } from "./errors.ts";
import { type Builder, isOp, type Node, named, nameOf } from "./graph.ts";
import type { OpName } from "./ops/all.ts";
import type { Rule } from "./pattern.ts";
import { sameType, showType } from "./types.ts";

export interface Match {
  readonly rule: string;
  readonly before: Node;
  readonly after: Node;
}

export interface RewriteOptions {
  /** Names of rules to leave out. */
  readonly disabled?: readonly string[];
  readonly onMatch?: ((match: Match) => void) | undefined;
  /** Most matches before the rules are taken to run forever. */
  readonly limit?: number;
}

/** A function that rewrites nodes to their final form under `rules`; earlier rules win. */
export function rewriter(
  rules: readonly Rule[],
  builder: Builder,
  { disabled = [], onMatch, limit = 1_000_000 }: RewriteOptions = {},
): (roots: readonly Node[]) => Node[] {
  const build = maths(builder);
  const rulesFor = indexByOp(rules.filter((rule) => !disabled.includes(rule.name)));
  /** Final form of each node. */
  const done = new Map<Node, Node>();
  /** What a node was replaced by, on the way to its final form. */
  const replaced = new Map<Node, { by: Node; rule: string }>();
  let steps = 0;

  const applyFirst = (node: Node): { by: Node; rule: string } | undefined => {
    for (const rule of rulesFor(node.op)) {
      const after = rule.attempt(node, build);
      if (after === undefined) continue;
      if (!sameType(after.type, node.type)) {
        const what = `changes ${node.op} of type ${showType(node.type)} to ${after.op} of type ${showType(after.type)}`;
        throw new InternalError(`rule ${rule.name}`, what);
      }
      if (after === node || ++steps > limit) throw endless(rule.name, steps);
      keepName(node, after);
      onMatch?.({ rule: rule.name, before: node, after });
      return { by: after, rule: rule.name };
    }
    return undefined;
  };

  const settle = (root: Node): Node => {
    const stack: Node[] = [];
    const busy = new Set<Node>();
    const push = (node: Node, rule: string) => {
      // A node whose final form depends on itself.
      if (busy.has(node)) throw endless(rule, steps);
      busy.add(node);
      stack.push(node);
    };
    push(root, "");
    let lastRule = "";
    while (stack.length > 0) {
      const node = stack.at(-1)!;
      const forward = replaced.get(node);
      const waitsFor = forward === undefined ? node.ins.find((operand) => !done.has(operand)) : forward.by;
      lastRule = forward?.rule ?? lastRule;
      if (waitsFor !== undefined && !done.has(waitsFor)) {
        push(waitsFor, lastRule);
        continue;
      }
      if (forward === undefined) {
        const ins = node.ins.map((operand) => done.get(operand)!);
        const renewed = builder.withIns(node, ins);
        const next = renewed === node ? applyFirst(node) : { by: renewed, rule: lastRule };
        if (next !== undefined) {
          replaced.set(node, next);
          continue;
        }
      }
      done.set(node, forward === undefined ? node : done.get(forward.by)!);
      busy.delete(node);
      stack.pop();
    }
    return done.get(root)!;
  };
  return (roots) => roots.map(settle);
}

/** Gives `to` the printed name of `from`, which it replaces. A parameter keeps its own. */
export function keepName<N extends OpName>(from: Node, to: Node<N>): Node<N> {
  const name = nameOf(from);
  return name === undefined || isOp(from, "param") || isOp(to, "param") ? to : named(name, to);
}

function indexByOp(rules: readonly Rule[]): (op: OpName) => readonly Rule[] {
  const index = new Map<OpName, readonly Rule[]>();
  return (op) => {
    const known = index.get(op);
    if (known !== undefined) return known;
    const found = rules.filter((rule) => rule.op === undefined || rule.op === op);
    index.set(op, found);
    return found;
  };
}

function endless(rule: string, steps: number): InternalError {
  const name = rule === "" ? "a rule" : `rule ${rule}`;
  return new InternalError(name, `rewriting does not end: after ${steps} matches it undoes what was done`, {
    hint: `Leave it out with DISABLE_RULE=${rule}. This is a bug in ciuic.`,
  });
}
