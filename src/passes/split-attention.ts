/**
 * Attention of few tokens over a long context, in parts: one workgroup a head would be all that reads its keys, and one
 * multiprocessor reads a small share of what a GPU can. Parts of the keys are walked side by side, and put together by a launch
 * that costs less than the walk of a few tiles; a short context stays whole.
 */

import { maths } from "../ir/build.ts";
import { type Node, rebuild } from "../ir/graph.ts";
import { keepName } from "../ir/rewrite.ts";
import type { Workgroup } from "../ir/target.ts";
import { attentionPartsOf, rowSharesOf } from "./lower/attention-row-choice.ts";
import { mapOuts, type Pass } from "./pass.ts";

export function splitAttention(workgroup: Workgroup): Pass {
  return {
    name: "split-attention",
    level: "tensor",
    exact: false,
    run: (module, { builder }) => {
      const { mergeParts } = maths(builder);
      const change = (node: Node): Node => {
        if (node.op !== "attention") return node;
        const { ins, attrs } = node as Node<"attention">; // its op says so
        const dealt = dealtOf(ins, workgroup);
        return dealt === undefined
          ? node
          : keepName(node, mergeParts(builder.make("attentionParts", ins, { ...attrs, ...dealt })));
      };
      return mapOuts(module, (func) => rebuild(func.outs, builder, change).roots);
    },
  };
}

/** In how many parts keys are dealt out, and how many at a time; undefined where one has all. */
function dealtOf([q, k, v]: readonly Node[], workgroup: Workgroup): { parts: number; block: number } | undefined {
  const [tokens, heads, d] = q!.type.shape as [number, number, number]; // of rank 3
  const [, keys, groups] = k!.type.shape as [number, number, number]; // of rank 4
  const sizes = { tokens, heads, groups, keys, d, e: v!.type.shape[3]! };
  // Of keys that lie by fours, as those of caches do.
  const shares = rowSharesOf(sizes, workgroup, 4);
  const parts = attentionPartsOf(sizes, shares);
  return parts === 1 ? undefined : { parts, block: shares.tile };
}
