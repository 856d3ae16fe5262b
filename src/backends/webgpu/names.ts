/** WGSL names for a kernel's names: distinct from reserved words, from builtin functions, and from what the emitter declares. */
import type { Kernel } from "../../ir/kernel/kernel.ts";
import { namesOf } from "../../ir/kernel/walk.ts";
import { libraryWords } from "./library.ts";

/** Keywords and reserved words of the WGSL specification ("Keyword and Reserved Word Summary"). */
const reservedWords = `alias break case const const_assert continue continuing default diagnostic discard else enable false fn
  for if let loop override requires return struct switch true var while NULL Self abstract active alignas alignof as asm
  asm_fragment async attribute auto await become cast catch class co_await co_return co_yield coherent column_major common
  compile compile_fragment concept const_cast consteval constexpr constinit crate debugger decltype delete demote
  demote_to_helper do dynamic_cast enum explicit export extends extern external fallthrough filter final finally friend from
  fxgroup get goto groupshared highp impl implements import inline instanceof interface layout lowp macro macro_rules match
  mediump meta mod module move mut mutable namespace new nil noexcept noinline nointerpolation non_coherent noncoherent
  noperspective null nullptr of operator package packoffset partial pass patch pixelfragment precise precision premerge priv
  protected pub public readonly ref regardless register reinterpret_cast require resource restrict self set shared sizeof
  smooth snorm static static_assert static_cast std subroutine super target template this thread_local throw trait try type
  typedef typeid typename typeof union unless unorm unsafe unsized use using varying virtual volatile wgsl where with
  writeonly yield`;

/** Builtin types and functions that emitted text uses; a variable of the name would hide them. */
const builtins = `abs array atomic atomicAnd atomicLoad atomicOr bitcast bool clamp cos countLeadingZeros dot dot4I8Packed exp f16 f32 floor
  fma function i32 inverseSqrt log max min pack4xI8 pow private round select sin sqrt storage subgroupAdd subgroupMax
  storageBarrier subgroupShuffleXor tanh u32 unpack2x16float vec2 vec3 vec4 vec2f vec3u vec4f workgroup workgroupBarrier workgroupUniformLoad`;

/** What the emitter itself declares. */
const own = "main lane group groups group_index id value i shift half uniform_i32 agreed subgroup_size";

const taken: ReadonlySet<string> = new Set([...`${reservedWords} ${builtins} ${own}`.split(/\s+/), ...libraryWords]);

export function wgslNames(kernel: Kernel): ReadonlyMap<string, string> {
  const used = new Set(taken);
  const names = new Map<string, string>();
  for (const name of namesOf(kernel)) {
    // WGSL allows neither `_` alone nor two of them at the start; `x_end` is the bound of a loop over x.
    let free = name.replace(/^_+/, "") || "x";
    if (/^\d/.test(free) || /^(load|store|combine|unit)_/.test(free)) free = `x_${free}`;
    while (used.has(free) || used.has(`${free}_end`)) free += "_";
    used.add(free).add(`${free}_end`);
    names.set(name, free);
  }
  return names;
}
