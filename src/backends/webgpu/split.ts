/**
 * Buffers that are larger than a binding may be. A shader sees such a buffer as several bindings, and a function in the
 * place of each access takes the element from the one in which it lies. This works on the finished text, where every access
 * to a buffer in memory is `name[index]`, so that nothing that writes shaders has to know of it.
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

/** Bytes of the elements that buffers are declared with. */
const elementBytes: Readonly<Record<string, number>> = { "vec2<u32>": 8, "vec4<u32>": 16, "vec4<f32>": 16 };

/** @throws UnsupportedError for a buffer that is written and too large for one binding */
export function splitBindings(
  { source, workgroups, access }: WgslKernel,
  kernel: Kernel,
  sizes: BindingSizes,
): BoundKernel {
  const bindings: PartBinding[] = access.map((each, buf) => ({ buf, part: 0, access: each }));
  let text = source;
  for (const [buf, each] of globalBufs(kernel).entries()) {
    const bytes = bufBytes(each);
    const parts = bindingsOf(bytes, sizes);
    if (parts === 1) continue;
    if (access[buf] !== "read") {
      const what = `buffer ${each.name} has ${bytes} bytes: this GPU's kernels see at most ${sizes.most} of one that they write`;
      throw new UnsupportedError(`kernel ${kernel.name}`, what, {
        hint: "Use a shorter context, or a GPU with larger limits.",
      });
    }
    text = splitBuffer(text, buf, bindings.length, parts, sizes.part);
    for (let part = 1; part < parts; part++) bindings.push({ buf, part, access: "read" });
  }
  return { source: text, workgroups, bindings };
}

/** `first`: number of the binding of the second part. */
function splitBuffer(source: string, buf: number, first: number, parts: number, partBytes: number): string {
  const declaration = new RegExp(
    `^@group\\(0\\) @binding\\(${buf}\\) var<storage, read> (\\w+): array<([\\w<>]+)>;.*$`,
    "m",
  );
  const found = declaration.exec(source);
  if (found === null) throw new UnsupportedError("WGSL", `binding ${buf} is not declared as an array that is read`);
  const [line, name, element] = found as unknown as [string, string, string]; // both groups always match
  const shift = Math.log2(partBytes / (elementBytes[element] ?? 4));
  const more = Array.from({ length: parts - 1 }, (_, i) => `${name}_part${i + 1}`);
  const declared = more.map(
    (each, i) => `@group(0) @binding(${first + i}) var<storage, read> ${each}: array<${element}>;`,
  );
  const cases = more.map((each, i) => {
    const label = i === more.length - 1 ? "default" : `case ${i + 1}`;
    return `    ${label}: { return ${each}[i & ${2 ** shift - 1}]; }`;
  });
  const access = [
    `fn at_${name}(i: i32) -> ${element} {`,
    `  switch i >> ${shift}u {`,
    `    case 0: { return ${name}[i]; }`,
    ...cases,
    "  }",
    "}",
  ];
  const [before, after] = source.split(line) as [string, string]; // a line of its own
  return [before, [line, ...declared, ...access].join("\n"), calls(after, name)].join("");
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
  let end = from;
  for (let depth = 1; depth > 0; end++) depth += text[end] === "[" ? 1 : text[end] === "]" ? -1 : 0;
  const index = calls(text.slice(from, end - 1), name);
  return `${text.slice(0, start.index)}at_${name}(${index})${calls(text.slice(end), name)}`;
}
