/** What one match of a rule changed, as lines of IR: nodes that only the old value reads, and those that only the new one does. */
import type { TraceFile } from "../../trace-file.ts";
import type { DiffLine } from "./diff.ts";

/** Operands that both read come first; then what went, then what came. */
export function rewriteLines({ nodes }: Pick<TraceFile, "nodes">, before: number, after: number): DiffLine[] {
  const [old, now] = [reachedFrom(nodes, before), reachedFrom(nodes, after)];
  // Operands have smaller numbers than what reads them.
  const gone = [...old].filter((at) => !now.has(at)).sort((a, b) => a - b);
  const come = [...now].filter((at) => !old.has(at)).sort((a, b) => a - b);
  const inside = new Set([...gone, ...come]);
  const read = new Set([...gone, ...come].flatMap((at) => nodes[at]![1]).filter((at) => !inside.has(at)));
  if (come.length === 0) read.add(after);
  const numbers = new Map<number, number>();
  const nameOf = (at: number): string => {
    const name = nodes[at]?.[4];
    if (name !== null && name !== undefined) return `%${name}`;
    if (!numbers.has(at)) numbers.set(at, numbers.size);
    return `%${numbers.get(at)}`;
  };
  const lineOf = (at: number): string => {
    const [op, ins, attrs, type] = nodes[at]!;
    const own = ownAttrs(attrs);
    return `${nameOf(at)}: ${type} = ${[op, ins.map(nameOf).join(", "), own].filter((part) => part !== "").join(" ")}`;
  };
  const lines = (kind: DiffLine["kind"], all: readonly number[]) => all.map((at) => ({ kind, text: lineOf(at) }));
  const shared = lines(
    "same",
    [...read].sort((a, b) => a - b),
  );
  const instead: DiffLine[] = come.length === 0 ? [{ kind: "added", text: `instead: ${nameOf(after)}` }] : [];
  return [...shared, ...lines("removed", gone), ...lines("added", come), ...instead];
}

function reachedFrom(nodes: TraceFile["nodes"], root: number): Set<number> {
  const reached = new Set<number>();
  const open = [root];
  while (open.length > 0) {
    const at = open.pop()!;
    if (reached.has(at)) continue;
    reached.add(at);
    open.push(...(nodes[at]?.[1] ?? []));
  }
  return reached;
}

/** As the IR prints: dtype and shape are those of the result. */
export function ownAttrs(attrs: string): string {
  const own = attrs.replace(/\b(?:dtype="\w+"|shape=\[[^\]]*\])(?:, )?/g, "").replace(/, \}$/, "}");
  return own === "{}" ? "" : own;
}
