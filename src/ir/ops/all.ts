/** The table of all ops, and the types computed from it. */
import type { AttrsFor } from "../attrs.ts";
import type { AnyOpDef, OpKind } from "../op.ts";
import { collectiveOps } from "./collective.ts";
import { contractOps } from "./contract.ts";
import { coreOps } from "./core.ts";
import { dotOps } from "./dot.ts";
import { elementwiseOps } from "./elementwise.ts";
import { groupOps } from "./groups.ts";
import { indexOps } from "./index.ts";
import { nnOps } from "./nn.ts";
import { quantOps } from "./quant.ts";
import { reduceOps } from "./reduce.ts";
import { shapeOps } from "./shape.ts";

export const ops = {
  ...coreOps,
  ...elementwiseOps,
  ...shapeOps,
  ...indexOps,
  ...reduceOps,
  ...contractOps,
  ...dotOps,
  ...quantOps,
  ...groupOps,
  ...nnOps,
  ...collectiveOps,
} as const;

export type OpName = keyof typeof ops;
export type AttrsOf<N extends OpName> = AttrsFor<(typeof ops)[N]["attrs"]>;
export type CompositeOp = keyof typeof nnOps;

export function isOpName(name: string): name is OpName {
  return Object.hasOwn(ops, name);
}

/** The declaration of an op whose name is known only at run time. */
export function opDef(name: OpName): AnyOpDef {
  // A union of precise signatures is not callable; attributes were checked against the spec when the node was made.
  return ops[name] as unknown as AnyOpDef;
}

export function opKind(name: OpName): OpKind {
  return ops[name].kind;
}
