/** What emission of one kernel knows at a place: locals made, names in scope, ranges, pointers that loops keep. */

import type { Buf, Expr } from "../../ir/kernel/kernel.ts";
import type { Facts } from "../../ir/kernel/range.ts";
import { isPackedValue, type ValueType } from "../../ir/kernel/value.ts";
import type { AddressType } from "./address-type.ts";
import type { Code } from "./code.ts";
import type { Typed, WasmType } from "./instr.ts";
import type { Rules } from "./rules.ts";
import type { Kind } from "./scalar.ts";

/** The locals of a function being emitted. */
export class Locals {
  readonly made: Typed[] = [];
  readonly #used = new Set<string>();

  constructor(taken: readonly string[]) {
    for (const name of taken) this.#used.add(name);
  }

  /** A local that no other has the name of. */
  make(hint: string, type: WasmType): string {
    let name = hint;
    for (let i = 2; this.#used.has(name); i++) name = `${hint}.${i}`;
    this.#used.add(name);
    this.made.push({ name, type });
    return name;
  }

  readonly temp = (type: WasmType): string => this.make(`t.${type}`, type);
}

/** A local that holds an access's address, and how far beyond it the access is. */
export interface Pointer {
  readonly local: string;
  readonly offset: number;
}

export interface Frame {
  readonly locals: Locals;
  readonly rules: Rules;
  readonly address: AddressType;
  readonly facts: Facts;
  /** The locals of each name in scope: one for a scalar, one for every 128 bits of a vector. */
  readonly names: ReadonlyMap<string, readonly string[]>;
  /** Pointers of the enclosing loops, by index expression and buffer. */
  readonly pointers: readonly ReadonlyMap<Expr, ReadonlyMap<string, Pointer>>[];
  /** `emitScalar` of expr.ts, for addresses, whose indices are expressions and which expressions contain. */
  readonly scalar: (frame: Frame, expr: Expr) => Code;
}

export function bufOf(frame: Frame, name: string): Buf {
  return frame.facts.bufs.get(name)!; // verified: K1
}

/** Values of 128 bits that make up a vector; 1 for a scalar. */
export function partsOf({ dtype, lanes }: ValueType): number {
  return isPackedValue(dtype) ? 1 : Math.ceil(lanes / 4);
}

export function wasmTypeOf({ dtype, lanes }: ValueType): WasmType {
  if (lanes > 1) return "v128";
  return dtype === "f32" || dtype === "f64" ? dtype : "i32";
}

/** The kind of a value's parts. */
export function kindOf({ dtype, lanes }: ValueType): Kind {
  return (lanes === 1 ? dtype : `${dtype}x4`) as Kind; // f64, i8 and u8 vectors are refused before
}
