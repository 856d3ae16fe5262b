/**
 * Messages as bytes of a stream: 16 bytes (a mark, step, tag, length; little-endian) and the content. A reader takes
 * whatever pieces the stream gives and nothing that it has no room for.
 */
import { InternalError } from "../../ir/errors.ts";

export interface Frame {
  readonly step: number;
  readonly tag: number;
  readonly bytes: Uint8Array;
}

const mark = 0x6363_6975;
const headerBytes = 16;
/** Of one message; the residual stream of a prompt of 8192 tokens 8192 wide. */
export const mostFrameBytes = 2 ** 28;

/** A copy of the message with its header. */
export function frameOf(step: number, tag: number, bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(headerBytes + bytes.length);
  const view = new DataView(frame.buffer);
  for (const [i, value] of [mark, step, tag, bytes.length].entries()) view.setInt32(4 * i, value, true);
  frame.set(bytes, headerBytes);
  return frame;
}

/** Puts frames together again. */
export class FrameReader {
  readonly #header = new Uint8Array(headerBytes);
  #frame: Frame | null = null;
  #done = 0;

  /** The frames that these bytes complete. @throws InternalError for what is no frame; the stream is of no use then */
  read(bytes: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    for (let at = 0; at < bytes.length; ) {
      const target = this.#frame?.bytes ?? this.#header;
      const part = bytes.subarray(at, at + target.length - this.#done);
      target.set(part, this.#done);
      this.#done += part.length;
      at += part.length;
      if (this.#frame === null && this.#done === headerBytes) this.#begin();
      if (this.#frame !== null && this.#done === this.#frame.bytes.length) {
        frames.push(this.#frame);
        this.#frame = null;
        this.#done = 0;
      }
    }
    return frames;
  }

  #begin(): void {
    const view = new DataView(this.#header.buffer);
    const [found, step, tag, length] = [0, 4, 8, 12].map((at) => view.getInt32(at, true)) as [
      number,
      number,
      number,
      number,
    ]; // of four
    if (found !== mark || length < 0 || length > mostFrameBytes) {
      throw new InternalError("message", `expected one of at most ${mostFrameBytes} bytes, got a header that is none`);
    }
    this.#frame = { step, tag, bytes: new Uint8Array(length) };
    this.#done = 0;
  }
}
