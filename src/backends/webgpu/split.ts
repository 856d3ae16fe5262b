/**
 * Buffers that are larger than a binding may be. A shader sees such a buffer as several bindings, and a function in the
 * place of each access takes the element from the one in which it lies, or puts it there. This works on the finished text, where
 * every access to a buffer in memory is `name[index]` and every store a line of its own, so that nothing that writes shaders has
 * to know of it.
 */
import { UnsupportedError } from "../../ir/errors.ts";
import type { Kernel } from "../../ir/kernel/kernel.ts";
import { bufBytes, globalBufs } from "../../ir/kernel/walk.ts";
import { type BindingSizes, bindingsOf } from "../../ir/target.ts";
import type { WgslKernel } from "./emit.ts";

export interface BoundKernel {
  readonly source: string;
  readonly workgroups: WgslKernel["workgroups"];
  /** In order: which buffer each binding shows, which part of it, and how it is bound. */
  readonly bindings: readonly PartBinding[];
}

export interface PartBinding {
  /** Number among the kernel's buffers in memory. */
  readonly buf: number;
  readonly part: number;
  readonly access: "read" | "read_write";
}

const scalarBytes: Readonly<Record<string, number>> = { u32: 4, i32: 4, f32: 4, f16: 2 };

/** Bytes of an element that a buffer is declared with, such as `f32` or `vec4<u32>`. */
function elementBytes(element: string): number {
  const [, lanes, scalar] = /^(?:vec([24])<)?(\w+)>?$/.exec(element) ?? [];
  const bytes = scalarBytes[scalar ?? ""];
  if (bytes === undefined) throw new UnsupportedError("WGSL", `buffers of ${element} are not seen in parts`);
  return bytes * Number(lanes ?? 1);
}

/** @throws UnsupportedError for a buffer of elements that are not whole words of their own, if it is written */
export function splitBindings(
  { source, workgroups, access }: WgslKernel,
  kernel: Kernel,
  sizes: BindingSizes,
): BoundKernel {
  const bindings: PartBinding[] = access.map((each, buf) => ({ buf, part: 0, access: each }));
  let text = source;
  for (const [buf, each] of globalBufs(kernel).entries()) {
    const parts = bindingsOf(bufBytes(each), sizes);
    if (parts === 1) continue;
    const own = access[buf] ?? "read";
    text = splitBuffer(text, { buf, access: own, first: bindings.length, parts, partBytes: sizes.part });
    for (let part = 1; part < parts; part++) bindings.push({ buf, part, access: own });
  }
  return { source: text, workgroups, bindings };
}

interface Split {
  readonly buf: number;
  readonly access: PartBinding["access"];
  /** Number of the binding of the second part. */
  readonly first: number;
  readonly parts: number;
  readonly partBytes: number;
}

function splitBuffer(source: string, { buf, access, first, parts, partBytes }: Split): string {
  const declaration = new RegExp(
    `^@group\\(0\\) @binding\\(${buf}\\) var<storage, ${access}> (\\w+): array<([\\w<>]+)>;.*$`,
    "m",
  );
  const found = declaration.exec(source);
  if (found === null) throw new UnsupportedError("WGSL", `binding ${buf} is not declared as an array`);
  const [line, name, element] = found as unknown as [string, string, string]; // both groups always match
  const shift = Math.log2(partBytes / elementBytes(element));
  const more = Array.from({ length: parts - 1 }, (_, i) => `${name}_part${i + 1}`);
  const declared = more.map(
    (each, i) => `@group(0) @binding(${first + i}) var<storage, ${access}> ${each}: array<${element}>;`,
  );
  /** A function that does something with the place of element `i`. */
  const choice = (head: string, doing: (place: string) => string) => {
    const cases = more.map((each, i) => {
      const label = i === more.length - 1 ? "default" : `case ${i + 1}`;
      return `    ${label}: { ${doing(`${each}[i & ${2 ** shift - 1}]`)} }`;
    });
    return [
      `fn ${head} {`,
      `  switch i >> ${shift}u {`,
      `    case 0: { ${doing(`${name}[i]`)} }`,
      ...cases,
      "  }",
      "}",
    ];
  };
  const [before, after] = source.split(line) as [string, string]; // a line of its own
  const body = after
    .split("\n")
    .map((each) => puts(each, name))
    .join("\n");
  const loads = choice(`at_${name}(i: i32) -> ${element}`, (place) => `return ${place};`);
  const stores = choice(`put_${name}(i: i32, value: ${element})`, (place) => `${place} = value;`);
  const functions = [...(body.includes(`at_${name}(`) ? loads : []), ...(body.includes(`put_${name}(`) ? stores : [])];
  return [before, [line, ...declared, ...functions].join("\n"), body].join("");
}

/** A line with a store `name[index] = value;` as a call of `put_name`, and other accesses as of `at_name`. */
function puts(line: string, name: string): string {
  const start = new RegExp(`^\\s*${name}\\[`).exec(line)?.[0];
  if (start === undefined) return calls(line, name);
  const end = closing(line, start.length);
  const value = / = (.*);$/.exec(line.slice(end))?.[1];
  if (value === undefined)
    throw new UnsupportedError("WGSL", `buffer ${name} is larger than a binding and not stored to plainly`);
  const indent = start.slice(0, -name.length - 1);
  return `${indent}put_${name}(${calls(line.slice(start.length, end - 1), name)}, ${calls(value, name)});`;
}

/** The place after the bracket that closes the one before `from`. */
function closing(text: string, from: number): number {
  let end = from;
  for (let depth = 1; depth > 0; end++) depth += text[end] === "[" ? 1 : text[end] === "]" ? -1 : 0;
  return end;
}

/** The text with each `name[index]` as a call of `at_name`. */
function calls(text: string, name: string): string {
  const start = new RegExp(`\\b${name}\\[`).exec(text);
  if (start === null) {
    if (new RegExp(`&${name}\\b`).test(text))
      throw new UnsupportedError("WGSL", `buffer ${name} is larger than a binding and used as a whole`);
    return text;
  }
  const from = start.index + start[0].length;
  const end = closing(text, from);
  const index = calls(text.slice(from, end - 1), name);
  return `${text.slice(0, start.index)}at_${name}(${index})${calls(text.slice(end), name)}`;
}
