/** Reads protocol buffers without a schema: the fields of a message in the order they stand. For tests of the writer. */

export type Value =
  | { readonly wire: "varint"; readonly value: bigint }
  | { readonly wire: "fixed" | "bytes"; readonly bytes: Uint8Array };

export interface ReadField {
  readonly number: number;
  readonly value: Value;
}

/** @throws Error for bytes that are no message */
export function readFields(bytes: Uint8Array): readonly ReadField[] {
  const fields: ReadField[] = [];
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined || shift > 63n) throw new Error(`a number is cut at byte ${at}`);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new Error(`a field ends beyond byte ${bytes.length}`);
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const [number, wire] = [Math.floor(tag / 8), tag % 8];
    if (wire === 0) fields.push({ number, value: { wire: "varint", value: varint() } });
    else if (wire === 2) fields.push({ number, value: { wire: "bytes", bytes: take(Number(varint())) } });
    else if (wire === 5) fields.push({ number, value: { wire: "fixed", bytes: take(4) } });
    else throw new Error(`wire type ${wire} at byte ${at}`);
  }
  return fields;
}

/** The fields of a message by number. */
export class Message {
  readonly #fields: readonly ReadField[];

  constructor(bytes: Uint8Array) {
    this.#fields = readFields(bytes);
  }

  has(number: number): boolean {
    return this.#fields.some((field) => field.number === number);
  }

  all(number: number): readonly Uint8Array[] {
    return this.#fields.flatMap(({ number: own, value }) => {
      if (own !== number) return [];
      if (value.wire === "varint") throw new Error(`field ${number} is a number`);
      return [value.bytes];
    });
  }

  bytes(number: number): Uint8Array {
    return this.all(number).at(-1) ?? new Uint8Array();
  }

  text(number: number): string {
    return new TextDecoder().decode(this.bytes(number));
  }

  texts(number: number): readonly string[] {
    return this.all(number).map((bytes) => new TextDecoder().decode(bytes));
  }

  message(number: number): Message {
    return new Message(this.bytes(number));
  }

  messages(number: number): readonly Message[] {
    return this.all(number).map((bytes) => new Message(bytes));
  }

  /** Whole numbers of the field; signed, as int64. */
  ints(number: number): readonly number[] {
    return this.#fields.flatMap(({ number: own, value }) => {
      if (own !== number) return [];
      if (value.wire === "fixed") throw new Error(`field ${number} is no whole number`);
      return value.wire === "varint" ? [Number(BigInt.asIntN(64, value.value))] : packedInts(value.bytes);
    });
  }

  int(number: number): number {
    return this.ints(number).at(-1) ?? 0;
  }

  float(number: number): number {
    const bytes = this.bytes(number);
    return bytes.length === 0 ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true);
  }

  /** A map from text to messages. */
  map(number: number): ReadonlyMap<string, Message> {
    return new Map(this.messages(number).map((entry) => [entry.text(1), entry.message(2)]));
  }
}

function packedInts(bytes: Uint8Array): readonly number[] {
  const out: number[] = [];
  let [value, shift] = [0n, 0n];
  for (const byte of bytes) {
    value |= BigInt(byte & 127) << shift;
    shift += 7n;
    if (byte >= 128) continue;
    out.push(Number(BigInt.asIntN(64, value)));
    [value, shift] = [0n, 0n];
  }
  if (shift !== 0n) throw new Error("a number is cut");
  return out;
}
