/**
 * Patterns and rewrite rules. A pattern is a term with variables; a rule's right-hand side sees exactly the variables
 * that its pattern binds, so naming another one does not compile.
 *
 *     rule("sub_neg", p("sub", v("x"), p("neg", v("y"))), ({ x, y }, { add }) => add(x, y))   // x - (-y) = x + y
 */
import type { Maths } from "./build.ts";
import { invariant } from "./errors.ts";
import { isOp, type Node } from "./graph.ts";
import { type OpName, opDef } from "./ops/all.ts";
import { reader, tensorOf } from "./tensor.ts";

/** Any node; the same name twice asks for the same node. */
export interface VarPattern<K extends string = string> {
  readonly kind: "var";
  readonly name: K;
}

/** A `full` of this value (as its dtype stores it). Zeros of different sign differ. */
export interface ConstPattern {
  readonly kind: "const";
  readonly value: number;
}

/** A node of one op whose operands match; no operand patterns accept any operands. `name` binds the node itself. */
export interface OpPattern<
  N extends OpName = OpName,
  Ps extends readonly Pattern[] = readonly Pattern[],
  K extends string = string,
> {
  readonly kind: "op";
  readonly op: N;
  readonly ins: Ps;
  readonly name?: K;
}

export type Pattern = VarPattern | ConstPattern | OpPattern;

/** What a pattern binds: variable names to nodes, named op patterns to nodes of that op. */
export type Bound<P> =
  P extends VarPattern<infer K>
    ? { readonly [name in K]: Node }
    : P extends OpPattern<infer N, infer Ps, infer K>
      ? { readonly [name in K]: Node<N> } & BoundAll<Ps>
      : unknown;
type BoundAll<Ps> = Ps extends readonly [infer First, ...infer Rest] ? Bound<First> & BoundAll<Rest> : unknown;

export function v<K extends string>(name: K): VarPattern<K> {
  return { kind: "var", name };
}

export function c(value: number): ConstPattern {
  return { kind: "const", value };
}

export function p<N extends OpName, Ps extends readonly Pattern[]>(op: N, ...ins: Ps): OpPattern<N, Ps, never> {
  const { arity } = opDef(op);
  const fits = ins.length === 0 || arity === "variadic" || arity === ins.length;
  invariant(fits, () => `${op} takes ${arity} operands, got ${ins.length}`, "pattern");
  return { kind: "op", op, ins };
}

/** `p(op, ...ins)` that also binds the matched node, for its attributes. */
export function named<K extends string, N extends OpName, Ps extends readonly Pattern[]>(
  name: K,
  pattern: OpPattern<N, Ps, never>,
): OpPattern<N, Ps, K> {
  return { ...pattern, name };
}

/**
 * `exact`: the same bits for all inputs. `finite`: the same values where all inputs and results are finite, up to the
 * sign of zero. `reassociates`: equal as real numbers, rounded in another order.
 */
export type RuleClass = "exact" | "finite" | "reassociates";

/** A rule as the driver sees it. */
export interface Rule {
  readonly name: string;
  readonly class: RuleClass;
  /** The op of the nodes it applies to; undefined for any. */
  readonly op: OpName | undefined;
  /** What it was made from, if it was made by `rule`. */
  readonly pattern?: OpPattern;
  /** The replacement of a node, or undefined where the rule does not apply. */
  readonly attempt: (node: Node, build: Maths) => Node | undefined;
}

export interface RuleOptions<P, N extends OpName> {
  readonly class?: RuleClass;
  /** Side condition. */
  readonly when?: (bound: Bound<P>, root: Node<N>) => boolean;
}

/** A rule that replaces a node matching `pattern` by `right(bound, build, root)`. */
export function rule<N extends OpName, Ps extends readonly Pattern[], K extends string>(
  name: string,
  pattern: OpPattern<N, Ps, K>,
  right: (bound: Bound<OpPattern<N, Ps, K>>, build: Maths, root: Node<N>) => Node,
  options: RuleOptions<OpPattern<N, Ps, K>, N> = {},
): Rule {
  return {
    name,
    class: options.class ?? "exact",
    op: pattern.op,
    pattern,
    attempt: (node, build) => {
      if (!isOp(node, pattern.op)) return undefined;
      for (const found of match(pattern, node, {})) {
        const bound = found as Bound<OpPattern<N, Ps, K>>; // `match` binds every name of the pattern
        if (options.when === undefined || options.when(bound, node)) return right(bound, build, node);
      }
      return undefined;
    },
  };
}

type Bindings = Readonly<Record<string, Node>>;

/** All ways to match, operands of commutative ops in both orders. */
export function* match(pattern: Pattern, node: Node, bound: Bindings): Generator<Bindings> {
  if (pattern.kind === "const") {
    if (isOp(node, "full") && Object.is(constantValue(node), pattern.value)) yield bound;
    return;
  }
  if (pattern.kind === "op" && pattern.op !== node.op) return;
  if (pattern.name !== undefined) {
    if (bound[pattern.name] !== undefined && bound[pattern.name] !== node) return;
    bound = { ...bound, [pattern.name]: node };
  }
  if (pattern.kind === "var" || pattern.ins.length === 0) {
    yield bound;
    return;
  }
  if (pattern.ins.length !== node.ins.length) return;
  yield* matchAll(pattern.ins, node.ins, bound);
  if (opDef(node.op).commutative && node.ins[0] !== node.ins[1]) {
    yield* matchAll(pattern.ins, [node.ins[1]!, node.ins[0]!], bound);
  }
}

function* matchAll(patterns: readonly Pattern[], nodes: readonly Node[], bound: Bindings): Generator<Bindings> {
  const [first, ...rest] = patterns;
  if (first === undefined) {
    yield bound;
    return;
  }
  for (const next of match(first, nodes[0]!, bound)) yield* matchAll(rest, nodes.slice(1), next);
}

/** The value of the elements of a `full`, after conversion to its dtype. */
export function constantValue({ attrs: { dtype, value } }: Node<"full">): number {
  return reader(tensorOf(dtype, [], [value]))(0);
}
