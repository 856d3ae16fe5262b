/** How a case of an op is written down: a program, and how far a backend's results may be from the interpreter's. */
import type { Func } from "../../src/ir/graph.ts";
import type { OpName } from "../../src/ir/ops/all.ts";
import type { Tensor } from "../../src/ir/tensor.ts";
import type { Limits } from "../arb/compare.ts";
import type { Build } from "../arb/module-of.ts";

/** How results may differ, and why. */
export interface Tolerance extends Limits {
  readonly reason: string;
}

export interface CaseSpec {
  readonly name: string;
  readonly op: OpName;
  readonly build: Build;
  /** Functions that it calls. */
  readonly callees?: readonly Func[];
  /** Default: seeded contents of the parameters' types. */
  readonly inputs?: readonly Tensor[];
  readonly tolerance?: Tolerance;
}
