/** The writer of protocol buffers against a reader of its own, against bytes of the specification, and against limits. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  bool,
  bytes,
  checkLength,
  type Field,
  finish,
  float,
  int,
  map,
  maxMessageBytes,
  message,
  packed,
  text,
} from "../../../src/backends/tfjs/proto.ts";
import { Message, readFields } from "./read-proto.ts";

const number = fc.integer({ min: 1, max: 2 ** 29 - 1 });
const whole = fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.constantFrom(0, 127, 128, -1, 2 ** 53 - 1));

describe("the wire format", () => {
  test("the examples of the encoding guide", () => {
    expect([...finish([int(1, 150)])]).toEqual([0x08, 0x96, 0x01]);
    expect([...finish([text(2, "testing")])]).toEqual([0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
    expect([...finish([message(3, [int(1, 150)])])]).toEqual([0x1a, 0x03, 0x08, 0x96, 0x01]);
    expect([...finish(packed(6, [3, 270, 86942]))]).toEqual([0x32, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05]);
    // A negative number: ten bytes of two's complement.
    expect([...finish([int(1, -2)])]).toEqual([0x08, 0xfe, ...new Array(8).fill(0xff), 0x01]);
    expect([...finish([float(1, 1), bool(2, true)])]).toEqual([0x0d, 0, 0, 0x80, 0x3f, 0x10, 0x01]);
    expect(packed(6, [])).toEqual([]);
  });

  test("numbers, texts and bytes read back", () => {
    fc.assert(
      fc.property(
        number,
        whole,
        fc.string({ unit: "grapheme" }),
        fc.uint8Array({ maxLength: 9000 }),
        (n, value, name, content) => {
          expect(new Message(finish([int(n, value)])).int(n)).toBe(value);
          expect(new Message(finish([text(n, name)])).text(n)).toBe(name);
          const nested = new Message(finish([message(n, [message(2, [bytes(1, content)]), int(1, 7)])])).message(n);
          expect(nested.int(1)).toBe(7);
          expect([...nested.message(2).bytes(1)]).toEqual([...content]);
        },
      ),
    );
  });

  test("packed numbers and maps read back", () => {
    const entries = fc.dictionary(
      fc.string({ maxLength: 4 }).filter((key) => key !== "__proto__"),
      whole,
    );
    fc.assert(
      fc.property(fc.array(whole), entries, (values, numbers) => {
        expect(new Message(finish(packed(4, values))).ints(4)).toEqual(values);
        const read = new Message(finish([...map(5, numbers, (value) => [int(1, value)])])).map(5);
        expect(Object.fromEntries([...read].map(([key, value]) => [key, value.int(1)]))).toEqual({ ...numbers });
      }),
    );
  });

  test("equal messages are equal bytes, whatever the order of fields and entries", () => {
    const fields = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 40 }), whole), { selector: ([n]) => n });
    fc.assert(
      fc.property(fields, (list) => {
        const write = (each: readonly (readonly [number, number])[]): Field[] => [
          ...each.map(([n, value]) => int(n, value)),
          ...map(50, Object.fromEntries(each.map(([n, value]) => [`k${n}`, value])), (value) => [int(1, value)]),
        ];
        const once = finish(write(list));
        expect(finish(write(list.toReversed()))).toEqual(once);
        const numbers = readFields(once).map((field) => field.number);
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
      }),
    );
  });

  test("fields of one number stay in their order", () => {
    expect(new Message(finish([text(3, "b"), int(1, 1), text(3, "a")])).texts(3)).toEqual(["b", "a"]);
  });
});

describe("limits", () => {
  test("more than readers take is refused", () => {
    checkLength(maxMessageBytes, "saved model");
    expect(() => checkLength(maxMessageBytes + 1, "saved model")).toThrow(
      "saved model: expected at most 2147483647 bytes, which readers take, got 2147483648",
    );
  });

  test("a large message is refused before it is put together", () => {
    const part = new Uint8Array(2 ** 20);
    expect(() =>
      finish(
        Array.from({ length: 2 ** 11 }, () => bytes(1, part)),
        "graph",
      ),
    ).toThrow("graph: expected");
  });

  test("no number that is not whole", () => {
    for (const value of [0.5, Number.NaN, 2 ** 53]) expect(() => int(1, value)).toThrow("expected a whole number");
  });
});
