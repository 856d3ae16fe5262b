/** The size of the values that a Jinja template computes with. */
import { InputError } from "../../ir/errors.ts";
import type { RuntimeValue } from "./jinja.ts";

/** Deeper values cannot be printed without deep recursion. */
const maxValueDepth = 64;

export interface Measure {
  /** Characters and elements that printing the value visits. */
  readonly size: number;
  readonly depth: number;
  /** A namespace is inside, whose fields can change: the measure holds only for now. */
  readonly changeable: boolean;
}

const leaf: Measure = { size: 1, depth: 0, changeable: false };

/**
 * A function that measures values and remembers the measures of those that cannot change.
 * @param limit largest size allowed; measuring stops there
 * @param onVisit told of the work done
 */
export function sizeMeter(limit: number, onVisit: (visits: number) => void): (value: RuntimeValue) => Measure {
  const known = new WeakMap<object, Measure>();

  const measureAll = (
    items: Iterable<RuntimeValue>,
    start: number,
    count: number,
    changeable: boolean,
    level: number,
  ): Measure => {
    onVisit(count + 1);
    let size = start;
    let depth = 0;
    let changes = changeable;
    for (const item of items) {
      const part = measure(item, level + 1);
      size += part.size;
      depth = Math.max(depth, part.depth + 1);
      changes ||= part.changeable;
      if (size > limit) throw new InputError("chat template", `a value of more than ${limit} characters`);
    }
    if (level + depth > maxValueDepth)
      throw new InputError("chat template", `a value nested more than ${maxValueDepth} deep`);
    return { size, depth, changeable: changes };
  };

  const measure = (value: RuntimeValue, level: number): Measure => {
    const inner: unknown = value.value;
    if (typeof inner === "string") return { size: inner.length + 1, depth: 0, changeable: false };
    if (level > maxValueDepth) throw new InputError("chat template", `a value nested more than ${maxValueDepth} deep`);
    const isMap = inner instanceof Map;
    if (!isMap && !Array.isArray(inner)) return leaf;
    const found = known.get(value);
    if (found !== undefined && found.depth + level <= maxValueDepth) return found;
    const result = isMap
      ? measureAll(inner.values(), 1 + keyLengths(inner), inner.size, value.type === "NamespaceValue", level)
      : measureAll(inner, 1, inner.length, false, level);
    if (!result.changeable) known.set(value, result);
    return result;
  };

  return (value) => measure(value, 0);
}

function keyLengths(map: ReadonlyMap<unknown, unknown>): number {
  let length = 0;
  for (const key of map.keys()) length += String(key).length;
  return length;
}
