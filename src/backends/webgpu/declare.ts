/** Declarations of a shader: its buffers in the order of their bindings, private and shared arrays, functions. */
import type { Buf, Kernel } from "../../ir/kernel/kernel.ts";
import type { Needs } from "./expr.ts";
import { type LibraryName, libraryText } from "./library.ts";
import { bitsFunction, elementText, isPacked, loadFunction, storeFunction } from "./storage.ts";
import type { Vectors } from "./vectors.ts";

interface Declared {
  readonly names: ReadonlyMap<string, string>;
  readonly needs: Needs;
  readonly access: readonly ("read" | "read_write")[];
  /** Buffers with atomic words: stored to element by element. */
  readonly atomic: ReadonlySet<string>;
  readonly packedDot: boolean;
  /** Buffers declared as vectors of so many words. */
  readonly wide: ReadonlyMap<string, number>;
  readonly vectors: Vectors;
}

/** Blocks of text. */
export function bufferTexts(
  kernel: Kernel,
  { names, needs, access, atomic, wide, vectors, packedDot }: Declared,
): string[] {
  const globals = kernel.bufs.filter(({ space }) => space === "global");
  const bindings = globals.map((buf, i) => {
    const words = wide.get(buf.name);
    const plain = vectors.get(buf.name)?.element ?? elementText(buf, atomic.has(buf.name));
    const element = words === undefined ? plain : `vec${words}<u32>`;
    const type = `array<${element}>`;
    return `@group(0) @binding(${i}) var<storage, ${access[i]}> ${names.get(buf.name)}: ${type}; // ${showBuf(buf)}`;
  });
  const own = kernel.bufs
    .filter(({ space }) => space !== "global")
    .map((buf) => {
      const space = buf.space === "scratch" ? "private" : "workgroup";
      const { element, lanes } = vectors.get(buf.name) ?? { element: elementText(buf, false), lanes: 1 };
      return `var<${space}> ${names.get(buf.name)}: array<${element}, ${Math.max(buf.size / lanes, 1)}>;`;
    });
  const accesses = globals
    .filter(({ dtype }) => isPacked(dtype))
    .flatMap((buf) => {
      const name = names.get(buf.name)!;
      return [
        ...(needs.loads.has(buf.name) ? [loadFunction(buf, name, atomic.has(buf.name))] : []),
        ...(needs.stores.has(buf.name) ? [storeFunction(buf, name)] : []),
        ...(needs.words.has(buf.name) ? [bitsFunction(buf, name)] : []),
      ];
    });
  const library = new Set<LibraryName>([...needs.library, ...accesses.flatMap(({ uses }) => uses)]);
  if (!packedDot && library.delete("dot4s8")) library.add("dot4s8_by_parts");
  return [
    bindings.join("\n"),
    own.join("\n"),
    libraryText(library).join("\n"),
    accesses.map(({ text }) => text).join("\n"),
  ];
}

function showBuf(buf: Buf): string {
  return `${buf.dtype}[${(buf.shape ?? [buf.size]).join(",")}]`;
}
