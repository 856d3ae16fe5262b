/** A kernel that may be merged: how its work is divided, how much it is, and what it passes on. */
import type { Node } from "../../ir/graph.ts";
import { gridLoop } from "../../ir/kernel/walk.ts";
import { type LoweredKernel, operandsOf, resultsOf } from "../lower/lower.ts";
import { workOf } from "./cost.ts";
import { extentOf, type Nest, nestOf } from "./nest.ts";
import { type Team, teamOf } from "./together.ts";

/** A kernel that may be merged, with what was found out about it. */
export interface Candidate {
  readonly lowered: LoweredKernel;
  readonly nest: Nest;
  /** How a GPU's invocations divide it. */
  readonly team: Team;
  readonly work: number;
  /** The part of it that every iteration would repeat. */
  readonly repeated: number;
  /** Iterations that can run on different threads as it is. */
  readonly extent: number;
  readonly results: readonly Node[];
  readonly operands: readonly Node[];
}

export function candidateOf(lowered: LoweredKernel): Candidate {
  const { kernel } = lowered;
  const nest = nestOf(kernel);
  const plain = nest.prologue.length === 0 || gridLoop(kernel) !== undefined;
  return {
    lowered,
    nest,
    team: teamOf(nest),
    work: workOf(kernel),
    repeated: nest.prologue.length === 0 ? 0 : workOf({ ...kernel, body: nest.prologue }),
    extent: plain ? extentOf(nest) : 1,
    results: resultsOf(lowered),
    operands: operandsOf(lowered),
  };
}
