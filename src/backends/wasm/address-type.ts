/**
 * How wide addresses are: 32 bits reach 4 GiB, 64 bits all memory there is. A program has one kind; what emits addresses
 * is written once, in terms of this record.
 */
import { type Code, int, long } from "./code.ts";
import type { MemoryOp, PlainOp } from "./instr.ts";

export interface AddressType {
  readonly type: "i32" | "i64";
  /** Bytes of an address that is stored. */
  readonly bytes: 4 | 8;
  readonly load: MemoryOp;
  readonly add: PlainOp;
  readonly constant: (value: number) => Code;
}

export const narrow: AddressType = { type: "i32", bytes: 4, load: "i32.load", add: "i32.add", constant: int };
export const wide: AddressType = {
  type: "i64",
  bytes: 8,
  load: "i64.load",
  add: "i64.add",
  constant: (value) => long(BigInt(value)),
};
