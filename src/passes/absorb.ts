/**
 * Absorption for multi-head latent attention (DeepSeek-V2, section 2.1). Models write the plain form: keys and values of
 * every head are made from the latent c, and attention runs over them. By associativity of the contraction over r,
 *
 *     q . (w_uk c) = (q w_uk) . c        and        sum_t a_t (w_uv c_t) = w_uv (sum_t a_t c_t)
 *
 * so attention can run over the latent itself, as one key head of width r + p shared by all query heads. That makes no
 * keys and values, but compares r + p instead of d + p numbers per key: it pays where few queries meet many keys.
 *
 * n tokens, b sequences of s keys, h heads, d qk_nope_head_dim, p qk_rope_head_dim, e v_head_dim, r kv_lora_rank.
 */
import { parseAxes } from "../ir/axes.ts";
import { type Maths, maths } from "../ir/build.ts";
import { isOp, type Node, named, rebuild } from "../ir/graph.ts";
import { keepName } from "../ir/rewrite.ts";
import { mapOuts, type Pass } from "./pass.ts";

export interface AbsorbOptions {
  /** Default `cheaper`: whichever takes fewer multiplications. */
  readonly form?: "cheaper" | "absorbed" | "plain";
}

export interface LatentSizes {
  readonly n: number;
  readonly b: number;
  readonly s: number;
  readonly h: number;
  readonly d: number;
  readonly p: number;
  readonly e: number;
  readonly r: number;
}

/** Multiplications of the plain form: keys and values of all rows, then scores of d + p and sums of e. */
export function plainCost({ n, b, s, h, d, p, e, r }: LatentSizes): number {
  return b * s * h * (d + e) * r + n * s * h * (d + p + e);
}

/** Multiplications of the absorbed form: queries into the latent, scores of r + p and sums of r, results out of it. */
export function absorbedCost({ n, s, h, d, p, e, r }: LatentSizes): number {
  return n * h * (d + e) * r + n * s * h * (r + p + r);
}

/** Needs simplified functions, so that what is matched has one spelling; leaves work for another simplify. */
export function absorb({ form = "cheaper" }: AbsorbOptions = {}): Pass {
  return {
    name: "absorb",
    level: "tensor",
    exact: false,
    run: (module, { builder }) => {
      const build = maths(builder);
      const change = (node: Node): Node => {
        const latent = isOp(node, "attention") ? matchLatent(node, build) : undefined;
        if (latent === undefined || !isOp(node, "attention")) return node;
        const { sizes } = latent;
        const pays = form === "absorbed" || (form === "cheaper" && absorbedCost(sizes) < plainCost(sizes));
        return pays ? keepName(node, absorbed(node, latent, build)) : node;
      };
      return mapOuts(module, (func) => (form === "plain" ? func.outs : rebuild(func.outs, builder, change).roots));
    },
  };
}

/** An attention in the plain form: k is the keys made from c beside k_p, v the values made from the same c. */
interface Latent {
  readonly sizes: LatentSizes;
  /** [b, s, r] */
  readonly c: Node;
  /** [b, s, 1, p] */
  readonly kP: Node;
  /** Whether k_p comes before the keys made from c, in k and in q alike. */
  readonly ropeFirst: boolean;
  readonly keys: UpProjection;
  readonly values: UpProjection;
}

/** `contract("b s r, h d r -> b s h d", c, w)`, up to letters and the order of the axes of w. */
interface UpProjection {
  readonly c: Node;
  readonly w: Node;
  /** The axes of w in terms of h (heads), d (the result's last axis) and r. */
  readonly axes: string;
}

function matchLatent({ ins: [q, k, v] }: Node<"attention">, build: Maths): Latent | undefined {
  if (!isOp(k!, "concat") || k.attrs.axis !== 3 || k.ins.length !== 2) return undefined;
  const ropeFirst = matchUpProjection(k.ins[0]!) === undefined;
  const [made, rope] = ropeFirst ? [k.ins[1]!, k.ins[0]!] : [k.ins[0]!, k.ins[1]!];
  const [keys, values] = [matchUpProjection(made), matchUpProjection(v!)];
  const kP = sharedByHeads(rope, build);
  if (keys === undefined || values === undefined || kP === undefined || keys.c !== values.c) return undefined;
  const [n, h] = q!.type.shape;
  const [b, s, r] = keys.c.type.shape;
  // Every query head has keys of its own; with fewer key heads, w would have to be repeated.
  if (h !== made.type.shape[2]) return undefined;
  const [d, p, e] = [made, rope, v!].map((node) => node.type.shape[3]!);
  const sizes = { n: n!, b: b!, s: s!, h: h!, d: d!, p: p!, e: e!, r: r! };
  return { sizes, c: keys.c, kP, ropeFirst, keys, values };
}

function matchUpProjection(node: Node): UpProjection | undefined {
  if (!isOp(node, "contract")) return undefined;
  const { ins, out, reduced } = parseAxes(node.attrs.axes);
  const side = ins.findIndex((names) => names.join() === [out[0], out[1], reduced[0]].join());
  const weightAxes = ins[1 - side];
  if (side < 0 || out.length !== 4 || reduced.length !== 1 || weightAxes?.length !== 3) return undefined;
  const letters = new Map([
    [out[2], "h"],
    [out[3], "d"],
    [reduced[0], "r"],
  ]);
  const axes = weightAxes.map((name) => letters.get(name));
  return axes.includes(undefined) ? undefined : { c: node.ins[side]!, w: node.ins[1 - side]!, axes: axes.join(" ") };
}

/** What a [b, s, h, p] value is a broadcast of, as [b, s, 1, p]; undefined where heads differ. */
function sharedByHeads(node: Node, build: Maths): Node | undefined {
  const source = isOp(node, "broadcast") ? node.ins[0]! : node;
  const lead = new Array<number>(4 - source.type.shape.length).fill(1);
  const shape = [...lead, ...source.type.shape];
  if (shape[2] !== 1) return undefined;
  return build.broadcast(build.reshape(source, shape), node.type.shape.with(2, 1));
}

function absorbed({ ins, attrs: { scale } }: Node<"attention">, latent: Latent, build: Maths): Node {
  const { attention, concat, contract, reshape, slice } = build;
  const { c, kP, keys, values, ropeFirst, sizes } = latent;
  const { b, s, d, p, r } = sizes;
  const [q, , , positions, sequence] = ins;
  const [qN, qP] = ropeFirst
    ? [slice(q!, 2, p, p + d), slice(q!, 2, 0, p)]
    : [slice(q!, 2, 0, d), slice(q!, 2, d, d + p)];
  const qLatent = named("q_latent", contract(`n h d, ${keys.axes} -> n h r`, qN, keys.w)); // [n, h, r]
  const rows = concat(2, c, reshape(kP, [b, s, p])); // [b, s, r + p]: what the cache holds
  const sums = attention(
    concat(2, qLatent, qP), // [n, h, r + p]
    reshape(rows, [b, s, 1, r + p]),
    reshape(c, [b, s, 1, r]),
    positions!,
    sequence!,
    scale,
  ); // [n, h, r]
  return contract(`n h r, ${values.axes} -> n h d`, named("attended", sums), values.w); // [n, h, e]
}
