/**
 * Where in a row the sum of what is kept passes a number: in blocks first, then in the block that holds it, so that no
 * sum up to each element of a long row is needed. What is kept is all above a cut, and of what equals it the first so many.
 *
 * Letters: n tokens, c elements or blocks of a row.
 */
import type { Maths } from "../../ir/build.ts";
import type { Node } from "../../ir/graph.ts";

/** What the elements of a row weigh, f32 [n, c] each. */
export interface Weights {
  /** Of what is above the cut. */
  readonly above: Node;
  /** How many equal it: absent where nothing is cut. */
  readonly equals?: Node | undefined;
}

/** f32 [n] each. */
export interface Sought {
  /** What the sum of weights has to pass; absent at first, where it is a `share` of all of them. */
  readonly target?: Node;
  readonly share: Node;
  /** How many of those that equal the cut are kept, and what each of them weighs. */
  readonly equals?: Node | undefined;
  readonly each?: Node | undefined;
}

/** The element, i32 [n], and what is sought inside it. */
export interface Found {
  readonly at: Node;
  readonly inside: Sought;
}

/** The first element up to which the weights are more than is sought; never one of weight 0, however sums were rounded. */
export function findSum(m: Maths, { above, equals }: Weights, sought: Sought): Found {
  const [n, count] = above.type.shape as [number, number]; // of rank 2
  const index = m.iota("i32", [n, count], 1);
  const before = equals && m.named("equals_before", sumsUpTo(m, equals, "lt")); // [n, c]
  const left = sought.equals && before && m.sub(m.expandLast(sought.equals), before);
  const taken = left && equals && m.min(m.max(left, 0), equals);
  const weights = taken ? m.named("kept", m.add(above, m.mul(taken, m.expandLast(sought.each!)))) : above;
  const sums = m.named("reached", sumsUpTo(m, weights, "le")); // [n, c]
  const target = sought.target ?? m.mul(sought.share, m.reshape(m.slice(sums, 1, count - 1, count), [n]));
  const passed = m.reduceSum(m.select(m.le(sums, m.expandLast(target)), m.full("f32", [n, count], 1), 0)); // [n]
  const last = m.reduceMax(m.select(m.gt(weights, 0), m.iota("f32", [n, count], 1), 0)); // [n]
  const at = m.named("found", m.cast(m.min(passed, last), "i32")); // [n]
  const valueAt = (x: Node, place: Node) => m.reduceSum(m.select(m.eq(index, m.expandLast(place)), x, 0));
  const inside: Sought = {
    ...sought,
    target: m.named("target", m.sub(target, valueAt(sums, m.sub(at, 1)))),
    ...(sought.equals && before && { equals: m.named("left", m.sub(sought.equals, valueAt(before, at))) }),
  };
  return { at, inside };
}

/** [n, c] -> [n, c]: the sum of each row's elements up to each of them or before it, added in one order whichever is asked for. */
function sumsUpTo(m: Maths, x: Node, which: "le" | "lt"): Node {
  const [n, count] = x.type.shape as [number, number]; // of rank 2
  const shape = [n, count, count];
  const upTo = m[which](m.iota("i32", shape, 2), m.iota("i32", shape, 1));
  return m.reduceSum(m.select(upTo, m.reshape(x, [n, 1, count]), 0));
}

/** Row `block` of each row's blocks: [n, b, s] and i32 [n] -> [n, s]. */
export function rowAt(m: Maths, blocks: Node, block: Node): Node {
  const [n, count, size] = blocks.type.shape as [number, number, number]; // of rank 3
  const first = m.mul(m.iota("i32", [n], 0), count);
  return m.gather(m.reshape(blocks, [n * count, size]), m.add(first, block));
}

/** Rows of at most this many elements are looked through at once. */
const mostAtOnce = 128;

/** As `findSum`, of rows of any length: first in groups of their elements. */
export function findInGroups(m: Maths, { above, equals }: Weights, sought: Sought): Found {
  const [n, count] = above.type.shape as [number, number]; // of rank 2
  if (count <= mostAtOnce) return findSum(m, { above, equals }, sought);
  const size = Math.ceil(Math.sqrt(count));
  const groups = Math.ceil(count / size);
  /** Elements of a group, f32 [n, .., size]; zeros after the last. */
  const members = (x: Node, group: Node): Node => {
    const { shape } = group.type;
    const at = m.add(m.mul(group, size), m.iota("i32", shape, shape.length - 1));
    const first = m.mul(m.iota("i32", shape, 0), count);
    const found = m.gather(m.reshape(x, [n * count]), m.add(first, m.min(at, count - 1)));
    return m.select(m.lt(at, count), found, 0);
  };
  const sums = (x: Node) => m.named("group_sums", m.reduceSum(members(x, m.iota("i32", [n, groups, size], 1))));
  const group = findSum(m, { above: sums(above), equals: equals && sums(equals) }, sought);
  const own = (x: Node) => members(x, m.broadcast(m.expandLast(group.at), [n, size]));
  const found = findSum(m, { above: own(above), equals: equals && own(equals) }, group.inside);
  return { at: m.add(m.mul(group.at, size), found.at), inside: found.inside };
}
