/** The table of ops: what each is in primitives of an engine. It fails to compile when a row is missing. */

import { InternalError } from "../../ir/errors.ts";
import type { Node } from "../../ir/graph.ts";
import type { OpName } from "../../ir/ops/all.ts";
import type { collectiveOps } from "../../ir/ops/collective.ts";
import type { nnOps } from "../../ir/ops/nn.ts";
import type { TensorEngine } from "./engine.ts";
import type { Part, Row } from "./row.ts";
import { dotRow } from "./rows-dot.ts";
import { contractRow, elementwiseRows, reduceRows, sourceRows } from "./rows-math.ts";
import { indexRows, shapeRows } from "./rows-move.ts";
import { quantRows } from "./rows-quant.ts";

/**
 * What is left in a program of this level: composite ops are expanded, collectives of one device removed, and leaves and
 * calls are whoever runs the program's.
 */
export type LoweredOp = Exclude<OpName, keyof typeof nnOps | keyof typeof collectiveOps | "param" | "weight" | "call">;

const rows = {
  ...sourceRows,
  ...elementwiseRows,
  ...reduceRows,
  ...shapeRows,
  ...indexRows,
  ...quantRows,
  contract: contractRow,
  dotGroups: dotRow,
} as const satisfies { readonly [N in LoweredOp]: Row<N> };

/** The value of a node from those of its operands. */
export function lowerNode<T>(engine: TensorEngine<T>, node: Node, ins: readonly Part<T>[]): Part<T> {
  if (!Object.hasOwn(rows, node.op)) {
    throw new InternalError(`op ${node.op}`, "it has no row in the table of tensor ops");
  }
  // A row takes nodes of its own op, which TypeScript cannot correlate across the union.
  const row = rows[node.op as LoweredOp] as unknown as Row<OpName>;
  return row(engine, ins, node);
}
